#include "kernels/conv/winograd/weight_gradient.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
OwnedGradientPlan<T> winograd_weight_gradient(const ConvChoice& choice) {
  return OwnedGradientPlan<T>(new WeightGradientPlan<T, WinogradWeightGradient>(choice));
}

template OwnedGradientPlan<float> winograd_weight_gradient(const ConvChoice&);
template OwnedGradientPlan<double> winograd_weight_gradient(const ConvChoice&);

}  // namespace cnnlib::CNNLIB_ISA
