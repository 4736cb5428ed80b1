#include "kernels/conv/units.hpp"
#include "kernels/conv/weight_gradient/dot_products.hpp"
#include "kernels/conv/weight_gradient/shared_panels.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
WeightGradientSteps<T> shared_panels() {
  return weight_gradient_steps<T, SharedPanels>(false);
}
template <class T>
WeightGradientSteps<T> dot_products() {
  return weight_gradient_steps<T, DotProducts>(true);
}

template WeightGradientSteps<float> shared_panels();
template WeightGradientSteps<double> shared_panels();
template WeightGradientSteps<float> dot_products();
template WeightGradientSteps<double> dot_products();

}  // namespace cnnlib::CNNLIB_ISA
