// dw without Winograd's method, compiled in a unit of its own:
//
//   dw[f, c, a, b] = sum over images and output positions of dout[n, f, i, j] * x[n, c](tap a, b of i, j)
//
// Positions are the long inner dimension of the micro-kernel; methods differ in what its lanes and rows are.
#pragma once

#include "kernels/conv/method.hpp"

namespace cnnlib::CNNLIB_ISA {

// Lanes are channels, rows filters; dout is packed once for all channels.
template <class T>
void describe_shared_panels(ConvPlan&);
template <class T>
void run_shared_panels(const ConvPlan&, const WeightGradientOperands<T>&);

// Lanes are positions; makes db on the way.
template <class T>
void describe_dot_products(ConvPlan&);
template <class T>
void run_dot_products(const ConvPlan&, const WeightGradientOperands<T>&);

}  // namespace cnnlib::CNNLIB_ISA
