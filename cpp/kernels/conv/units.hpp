// The methods, compiled in units of their own.
#pragma once

#include "kernels/conv/method.hpp"

namespace cnnlib::CNNLIB_ISA {

// direct/: for every stride, padding, dilation and grouping. Lanes are output positions, or filters.
template <class T>
CorrelationSteps<T> pixel_lanes();
template <class T>
CorrelationSteps<T> filter_lanes();
// Both, for 1x1 kernels of many channels.
template <class T>
CorrelationSteps<T> position_panels();
// dx of few channels.
template <class T>
CorrelationSteps<T> col2im();

// weight_gradient/: dw with positions as the long inner dimension of the micro-kernel.
//
//   dw[f, c, a, b] = sum over images and output positions of dout[n, f, i, j] * x[n, c](tap a, b of i, j)
//
// Lanes are channels, rows filters.
template <class T>
WeightGradientSteps<T> shared_panels();
// Lanes are positions.
template <class T>
WeightGradientSteps<T> dot_products();
// Lanes are filters, rows neighbouring taps.
template <class T>
WeightGradientSteps<T> tap_rows();

// winograd/: tiles in two dimensions.
template <class T>
CorrelationSteps<T> winograd();
template <class T>
WeightGradientSteps<T> winograd_weight_gradient();

// winograd_rows/: tiles along rows, for the forward pass and dw.
template <class T>
CorrelationSteps<T> winograd_rows();
template <class T>
WeightGradientSteps<T> winograd_rows_gradient();

// depthwise/: every channel has F / C filters of its own.
//
//   x (N, C, H, W)   w (F, 1, KH, KW)   b (F,)   out, dout (N, F, OH, OW)
//
// Lanes are neighbouring columns of a plane (planes.hpp), for 3x3 filters, or channels (channel_stencil.hpp).
template <class T>
CorrelationSteps<T> depthwise();
template <class T>
WeightGradientSteps<T> depthwise_weight_gradient();

// Operands of the gradients. Any of dx, dw and db may be null: not wanted. dx starts from `bias` (C,) unless
// that is null.
template <class T>
struct DepthwiseGradients {
  const T *x, *w, *dout, *bias;
  T *dx, *dw, *db;
};
// Gradients in one pass over dout, which is staged once for all.
template <class T>
void describe_depthwise_gradients(ConvPlan&, bool dx, bool sums);
template <class T>
void run_depthwise_backward(const ConvPlan&, const DepthwiseGradients<T>&);

// reshaped/: the convolution as another one, which is planned anew.
//
// A 1x1 convolution of the points that windows read.
template <class T>
class Gathered;
template <class T>
double cost_gathered(const ConvShape&, Pass);

// A kernel as high or as wide as the image: a convolution of one row.
template <class T>
class SingleRow;
template <class T>
double cost_single_row(const ConvShape&, Pass);

}  // namespace cnnlib::CNNLIB_ISA
