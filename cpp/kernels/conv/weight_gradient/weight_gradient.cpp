#include "kernels/conv/method.hpp"
#include "kernels/conv/weight_gradient/dot_products.hpp"
#include "kernels/conv/weight_gradient/shared_panels.hpp"
#include "kernels/conv/weight_gradient/tap_rows.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
OwnedGradientPlan<T> shared_panels(const ConvChoice& choice) {
  return OwnedGradientPlan<T>(new WeightGradientPlan<T, SharedPanels>(choice));
}
template <class T>
OwnedGradientPlan<T> dot_products(const ConvChoice& choice) {
  return OwnedGradientPlan<T>(new WeightGradientPlan<T, DotProducts>(choice));
}
template <class T>
OwnedGradientPlan<T> tap_rows([[maybe_unused]] const ConvChoice& choice) {
  if constexpr (InstructionSet::tap_rows)
    return OwnedGradientPlan<T>(new WeightGradientPlan<T, TapRows>(choice));
  else
    return nullptr;
}

#define INSTANTIATE(T)                                            \
  template OwnedGradientPlan<T> shared_panels(const ConvChoice&); \
  template OwnedGradientPlan<T> dot_products(const ConvChoice&);  \
  template OwnedGradientPlan<T> tap_rows(const ConvChoice&);
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace cnnlib::CNNLIB_ISA
