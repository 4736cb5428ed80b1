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

inline bool is_plain_3x3(const ConvShape& s) {
  return s.KH == 3 && s.KW == 3 && s.dilation_h == 1 && s.dilation_w == 1;
}
inline bool makes_same_size(const ConvShape& s) {
  return s.stride_h == 1 && s.stride_w == 1 && s.pad_top == 1 && s.pad_left == 1 && s.OH == s.H &&
         s.OW == s.W;
}
// Whether the forward pass with rows in the lanes reads images where they lie: a 3x3 at stride 1 or 2, with
// registers for nine weights, sums and taps, whose rows of outputs fill a vector, or several of which do.
inline bool reads_where_it_lies(const ConvShape& s) {
  const bool halved = s.stride_h == 2 && s.stride_w == 2 && s.pad_top <= 1 && s.pad_left <= 1 &&
                      s.OH == ceil_div(s.H, 2) && s.OW == ceil_div(s.W, 2);
  return InstructionSet::registers >= 32 && is_plain_3x3(s) && (makes_same_size(s) || halved);
}
template <class T>
bool reads_rows_in_place(const ConvShape& s) {
  return reads_where_it_lies(s) && s.OW >= Simd<T>::size;
}
template <class T>
bool reads_short_rows(const ConvShape& s) {
  constexpr Index lanes = Simd<T>::size;
  return reads_where_it_lies(s) && s.OW >= 2 && s.OW < lanes && lanes % s.OW == 0 &&
         s.OH % (lanes / s.OW) == 0 && (s.stride_h == 1 || s.W == lanes);
}
// Or takes planes as one run of values: the other 3x3 whose outputs are as many as the inputs.
template <class T>
bool reads_flat_planes(const ConvShape& s) {
  return is_plain_3x3(s) && makes_same_size(s) && !reads_rows_in_place<T>(s) && !reads_short_rows<T>(s);
}

// The same for the gradients, where every channel has a filter.
template <class T>
bool has_flat_gradients(const ConvShape& s) {
  return s.C == s.F && is_plain_3x3(s) && makes_same_size(s);
}

// The two of them, in a unit of their own.
template <class T>
void run_flat_planes(const ConvShape&, const ConvOperands<T>&);
template <class T>
void describe_flat_gradients(ConvPlan&, bool dx, bool sums);
template <class T>
void run_flat_gradients(const ConvShape&, const DepthwiseGradients<T>&);

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
