// The methods, compiled in units of their own: each makes its plan of a request.
#pragma once

#include "kernels/conv/method.hpp"

namespace cnnlib::CNNLIB_ISA {

// direct/: for every stride, padding, dilation and grouping. Lanes are output positions, or filters.
template <class T>
OwnedPlan<T> pixel_lanes(const ConvChoice&);
template <class T>
OwnedPlan<T> filter_lanes(const ConvChoice&);
// Both, for 1x1 kernels of many channels.
template <class T>
OwnedPlan<T> position_panels(const ConvChoice&);
// dx of few channels.
template <class T>
OwnedPlan<T> col2im(const ConvChoice&);

// weight_gradient/: dw with positions as the long inner dimension of the micro-kernel.
//
//   dw[f, c, a, b] = sum over images and output positions of dout[n, f, i, j] * x[n, c](tap a, b of i, j)
//
// Lanes are channels, rows filters.
template <class T>
OwnedGradientPlan<T> shared_panels(const ConvChoice&);
// Lanes are positions.
template <class T>
OwnedGradientPlan<T> dot_products(const ConvChoice&);
// Lanes are filters, rows neighbouring taps.
template <class T>
OwnedGradientPlan<T> tap_rows(const ConvChoice&);

// winograd/: tiles in two dimensions.
template <class T>
OwnedPlan<T> winograd(const ConvChoice&);
template <class T>
OwnedGradientPlan<T> winograd_weight_gradient(const ConvChoice&);

// winograd_rows/: tiles along rows, for the forward pass and dw.
template <class T>
OwnedPlan<T> winograd_rows(const ConvChoice&);
template <class T>
OwnedGradientPlan<T> winograd_rows_gradient(const ConvChoice&);

// depthwise/: every channel has F / C filters of its own.
//
//   x (N, C, H, W)   w (F, 1, KH, KW)   b (F,)   out, dout (N, F, OH, OW)
//
// Lanes are neighbouring columns of a plane (planes.hpp), for 3x3 filters, or channels (channel_stencil.hpp).
template <class T>
OwnedPlan<T> depthwise(const ConvChoice&);
template <class T>
OwnedGradientPlan<T> depthwise_weight_gradient(const ConvChoice&);
template <class T>
OwnedGradientPlan<T> depthwise_gradients(const ConvChoice&);

// matrix.hpp: a kernel that covers the image, as a matrix product.
template <class T>
OwnedPlan<T> matrix_correlation(const ConvChoice&);
template <class T>
OwnedGradientPlan<T> matrix_weight_gradient(const ConvChoice&);

// reshaped/: the convolution as another one, which is planned in its turn.
//
// A 1x1 convolution of the points that windows read.
template <class T>
OwnedPlan<T> gathered(const ConvChoice&);
template <class T>
OwnedGradientPlan<T> gathered_weight_gradient(const ConvChoice&);
template <class T>
double cost_gathered(const ConvRequest&, Pass);

// A kernel as high or as wide as the image: a convolution of one row.
template <class T>
OwnedPlan<T> single_row(const ConvChoice&);
template <class T>
OwnedGradientPlan<T> single_row_gradient(const ConvChoice&);
template <class T>
double cost_single_row(const ConvRequest&, Pass);

}  // namespace cnnlib::CNNLIB_ISA
