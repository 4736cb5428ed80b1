// Winograd's method along rows alone, for the forward pass and dw; compiled in a unit of its own.
#pragma once

#include "kernels/conv/method.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
void describe_winograd_rows(ConvPlan&);
template <class T>
void pack_winograd_rows(const ConvPlan&, const T* w, T* packed);
template <class T>
void run_winograd_rows(const ConvPlan&, const ConvOperands<T>&);

// Makes db on the way.
template <class T>
void describe_winograd_rows_gradient(ConvPlan&);
template <class T>
void run_winograd_rows_gradient(const ConvPlan&, const WeightGradientOperands<T>&);

}  // namespace cnnlib::CNNLIB_ISA
