#include "kernels/conv/units.hpp"
#include "kernels/conv/winograd_rows/row_correlation.hpp"
#include "kernels/conv/winograd_rows/row_gradient.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
CorrelationSteps<T> winograd_rows() {
  return SingleCorrelation<T, RowCorrelation>::steps();
}
template <class T>
WeightGradientSteps<T> winograd_rows_gradient() {
  return weight_gradient_steps<T, RowGradient>(true);
}

template CorrelationSteps<float> winograd_rows();
template CorrelationSteps<double> winograd_rows();
template WeightGradientSteps<float> winograd_rows_gradient();
template WeightGradientSteps<double> winograd_rows_gradient();

}  // namespace cnnlib::CNNLIB_ISA
