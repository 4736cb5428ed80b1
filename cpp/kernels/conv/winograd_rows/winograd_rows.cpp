#include "kernels/conv/winograd_rows/row_correlation.hpp"
#include "kernels/conv/winograd_rows/row_gradient.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
OwnedPlan<T> winograd_rows(const ConvChoice& choice) {
  return OwnedPlan<T>(new CorrelationPlan<T, SingleCorrelation<T, RowCorrelation>>(choice));
}
template <class T>
OwnedGradientPlan<T> winograd_rows_gradient(const ConvChoice& choice) {
  return OwnedGradientPlan<T>(new WeightGradientPlan<T, RowGradient>(choice));
}

#define INSTANTIATE(T)                                    \
  template OwnedPlan<T> winograd_rows(const ConvChoice&); \
  template OwnedGradientPlan<T> winograd_rows_gradient(const ConvChoice&);
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace cnnlib::CNNLIB_ISA
