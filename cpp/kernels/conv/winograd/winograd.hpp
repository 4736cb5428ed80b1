// Winograd's method for all passes of a convolution. winograd.cpp compiles the first part,
// weight_gradient.cpp the second.
#pragma once

#include "kernels/conv/method.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
void describe_winograd(ConvPlan&);
template <class T>
void pack_winograd(const ConvPlan&, const T* w, T* packed);
template <class T>
void run_winograd(const ConvPlan&, const ConvOperands<T>&);

template <class T>
void describe_winograd_weight_gradient(ConvPlan&);
template <class T>
void run_winograd_weight_gradient(const ConvPlan&, const WeightGradientOperands<T>&);

}  // namespace cnnlib::CNNLIB_ISA
