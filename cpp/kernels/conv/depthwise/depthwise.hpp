// Depthwise convolution: every channel has F / C filters of its own.
//
//   x (N, C, H, W)   w (F, 1, KH, KW)   b (F,)   out, dout (N, F, OH, OW)
//
// Vector lanes are neighbouring columns of a plane (planes.hpp), for 3x3 filters, or channels
// (channel_lanes.hpp).
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

// Whether planes.hpp serves: a filter of 3x3 for each channel, at stride 1 or 2, whose windows reach over the
// image's edge but begin in it.
inline bool fits_depthwise_planes(const ConvShape& s) {
  return s.N > 0 && s.groups == s.C && s.F == s.C && s.KH == 3 && s.KW == 3 && s.dilation_h == 1 &&
         s.dilation_w == 1 && s.stride_h == s.stride_w && s.stride_h <= 2 && s.pad_top <= 2 &&
         s.pad_left <= 2;
}

// All passes.
template <class T>
void describe_depthwise(ConvPlan&);
template <class T>
void run_depthwise_forward(const ConvPlan&, const ConvOperands<T>&);
// Gradients in one pass over dout, which is staged once for all.
template <class T>
void describe_depthwise_gradients(ConvPlan&, bool dx, bool sums);
template <class T>
void run_depthwise_backward(const ConvPlan&, const DepthwiseGradients<T>&);

template <class T>
void run_depthwise_input_gradient(const ConvPlan&, const ConvOperands<T>&);
template <class T>
void run_depthwise_weight_gradient(const ConvPlan&, const WeightGradientOperands<T>&);

}  // namespace cnnlib::CNNLIB_ISA
