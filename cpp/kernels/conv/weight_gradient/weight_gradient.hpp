// dw by matrix products over output positions, compiled in a unit of its own:
//
//   dw[f, c, a, b] = sum over images and output positions of dout[n, f, i, j] * x[n, c](tap a, b of i, j)
//
// Positions are the long inner dimension of the micro-kernel; methods differ in what its lanes and rows are.
#pragma once

#include "kernels/conv/method.hpp"

namespace cnnlib::CNNLIB_ISA {

// Lanes are channels, rows filters; every channel block packs dout for itself.
template <class T>
void run_channel_lanes(const ConvPlan&, const WeightGradientOperands<T>&);
// The same for large layers: dout is packed once for all channels.
template <class T>
void run_shared_panels(const ConvPlan&, const WeightGradientOperands<T>&);
// Lanes are filters, rows the columns of a kernel, which read neighbouring input; makes db on the way.
template <class T>
void run_tap_rows(const ConvPlan&, const WeightGradientOperands<T>&);

template <class T>
void describe_channel_lanes(ConvPlan&);
template <class T>
void describe_shared_panels(ConvPlan&);
template <class T>
void describe_tap_rows(ConvPlan&);

}  // namespace cnnlib::CNNLIB_ISA
