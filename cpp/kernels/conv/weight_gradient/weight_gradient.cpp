#include "kernels/conv/units.hpp"
#include "kernels/conv/weight_gradient/dot_products.hpp"
#include "kernels/conv/weight_gradient/shared_panels.hpp"
#include "kernels/conv/weight_gradient/tap_rows.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
WeightGradientSteps<T> shared_panels() {
  return weight_gradient_steps<T, SharedPanels>(false);
}
template <class T>
WeightGradientSteps<T> dot_products() {
  return weight_gradient_steps<T, DotProducts>(true);
}
template <class T>
WeightGradientSteps<T> tap_rows() {
  if constexpr (InstructionSet::tap_rows)
    return weight_gradient_steps<T, TapRows>(true);
  else
    return {};
}

template WeightGradientSteps<float> shared_panels();
template WeightGradientSteps<double> shared_panels();
template WeightGradientSteps<float> dot_products();
template WeightGradientSteps<double> dot_products();
template WeightGradientSteps<float> tap_rows();
template WeightGradientSteps<double> tap_rows();

}  // namespace cnnlib::CNNLIB_ISA
