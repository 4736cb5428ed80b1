// Gradients of convolutions of few channels, as in a first layer; compiled in a unit of their own.
#pragma once

#include "kernels/conv/method.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
void describe_col2im(ConvPlan&);
template <class T>
void pack_col2im(const ConvPlan&, const T* w, T* packed);
template <class T>
void run_col2im(const ConvPlan&, const ConvOperands<T>&);

// Makes db on the way.
template <class T>
void describe_dot_products(ConvPlan&);
template <class T>
void run_dot_products(const ConvPlan&, const WeightGradientOperands<T>&);

}  // namespace cnnlib::CNNLIB_ISA
