#include "conv_plan.hpp"

namespace cnnlib {

template <class T>
ConvPlan<T>::~ConvPlan() = default;
template <class T>
WeightGradientPlan<T>::~WeightGradientPlan() = default;

template class ConvPlan<float>;
template class ConvPlan<double>;
template class WeightGradientPlan<float>;
template class WeightGradientPlan<double>;

}  // namespace cnnlib
