// Depthwise convolution: every channel has F / C filters of its own.
//
//   x (N, C, H, W)   w (F, 1, KH, KW)   b (F,)   out, dout (N, F, OH, OW)
//
// Vector lanes are the columns of a row (row_lanes.hpp) or, for small images, channels (channel_lanes.hpp).
#pragma once

#include "kernels/conv/method.hpp"

namespace cnnlib::CNNLIB_ISA {

// Operands of the gradients. Any of dx, dw and db may be null: not wanted. dx starts from `bias` (C,) unless
// that is null.
template <class T>
struct DepthwiseGradients {
  const T *x, *w, *dout, *bias;
  T *dx, *dw, *db;
};

// All passes.
template <class T>
void describe_depthwise(ConvPlan&);
template <class T>
void run_depthwise_forward(const ConvPlan&, const ConvOperands<T>&);
// Gradients in one pass over dout, which is staged once for all.
template <class T>
void run_depthwise_backward(const ConvPlan&, const DepthwiseGradients<T>&);

template <class T>
void run_depthwise_input_gradient(const ConvPlan&, const ConvOperands<T>&);
template <class T>
void run_depthwise_weight_gradient(const ConvPlan&, const WeightGradientOperands<T>&);

}  // namespace cnnlib::CNNLIB_ISA
