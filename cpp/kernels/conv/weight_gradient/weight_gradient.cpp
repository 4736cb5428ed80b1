#include "kernels/conv/weight_gradient/weight_gradient.hpp"

#include "kernels/conv/weight_gradient/dot_products.hpp"
#include "kernels/conv/weight_gradient/shared_panels.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
void describe_shared_panels(ConvPlan& plan) {
  SharedPanels<T>(plan.shape).describe(plan);
}
template <class T>
void run_shared_panels(const ConvPlan& plan, const WeightGradientOperands<T>& operands) {
  SharedPanels<T>(plan.shape).run(operands);
}

template <class T>
void describe_dot_products(ConvPlan& plan) {
  DotProducts<T>(plan.shape, true, true).describe(plan);
}
template <class T>
void run_dot_products(const ConvPlan& plan, const WeightGradientOperands<T>& o) {
  DotProducts<T>(plan.shape, o.dw != nullptr, o.db != nullptr).run(o);
}

#define INSTANTIATE(T)                                                                \
  template void describe_shared_panels<T>(ConvPlan&);                                 \
  template void run_shared_panels(const ConvPlan&, const WeightGradientOperands<T>&); \
  template void describe_dot_products<T>(ConvPlan&);                                  \
  template void run_dot_products(const ConvPlan&, const WeightGradientOperands<T>&);
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace cnnlib::CNNLIB_ISA
