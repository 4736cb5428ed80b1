#include "kernels/conv/units.hpp"
#include "kernels/conv/weight_gradient/dot_products.hpp"
#include "kernels/conv/weight_gradient/shared_panels.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
WeightGradientSteps<T> shared_panels() {
  return {
      [](ConvPlan& plan) { SharedPanels<T>(plan.shape).describe(plan); },
      [](const ConvPlan& plan, const WeightGradientOperands<T>& o) { SharedPanels<T>(plan.shape).run(o); }};
}
template <class T>
WeightGradientSteps<T> dot_products() {
  return {[](ConvPlan& plan) { DotProducts<T>(plan.shape, true, true).describe(plan); },
          [](const ConvPlan& plan, const WeightGradientOperands<T>& o) {
            DotProducts<T>(plan.shape, o.dw != nullptr, o.db != nullptr).run(o);
          },
          true};
}

template WeightGradientSteps<float> shared_panels();
template WeightGradientSteps<double> shared_panels();
template WeightGradientSteps<float> dot_products();
template WeightGradientSteps<double> dot_products();

}  // namespace cnnlib::CNNLIB_ISA
