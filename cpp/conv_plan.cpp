#include "conv_plan.hpp"

namespace cnnlib {

template <class T>
ConvPlan<T>::~ConvPlan() = default;
template <class T>
GradientPlan<T>::~GradientPlan() = default;

template class ConvPlan<float>;
template class ConvPlan<double>;
template class GradientPlan<float>;
template class GradientPlan<double>;

}  // namespace cnnlib
