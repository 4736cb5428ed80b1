// A convolution's forward pass and dx as correlations, for every stride, padding, dilation and grouping.
#pragma once

#include <algorithm>

#include "kernels/conv/direct/correlation.hpp"

namespace cnnlib::CNNLIB_ISA {

// A 1x1 kernel at stride 1 without padding: positions have no neighbours.
inline bool pointwise(const ConvShape& s) {
  return s.KH == 1 && s.KW == 1 && s.stride_h == 1 && s.stride_w == 1 && s.pad_top == 0 && s.pad_left == 0 &&
         s.OH == s.H && s.OW == s.W;
}

// The taps of one axis: kernel position k reads input position o * stride + k * dilation - pad.
inline TapAxis forward_taps(Index K, Index stride, Index dilation, Index pad, Index weight_step, Index* at,
                            Index* weight) {
  for (Index k = 0; k < K; ++k) {
    at[k] = k * dilation - pad;
    weight[k] = k * weight_step;
  }
  return {K, stride, at, weight};
}

// The taps that reach input positions congruent to `phase` modulo the stride, seen from there: kernel
// position k contributes dout position (phase + pad - k * dilation) / stride.
inline TapAxis backward_taps(Index K, Index stride, Index dilation, Index pad, Index phase, Index weight_step,
                             Index* at, Index* weight) {
  Index count = 0;
  for (Index k = 0; k < K; ++k) {
    const Index position = phase + pad - k * dilation;
    if (position % stride != 0) continue;
    at[count] = position / stride;
    weight[count++] = k * weight_step;
  }
  return {count, 1, at, weight};
}

// A plane as one long row, and the batch as the rows of one image, where positions have no neighbours.
template <class T>
void flatten(Correlation<T>& p) {
  p.W = p.OW = p.x_plane;
  p.H = p.OH = p.N;
  p.x_row = p.x_image;
  p.out_row = p.out_image;
  p.N = 1;
}

// The sizes of the forward pass, or of dx, whose input is dout; but for the taps and what follows from them.
template <class T>
Correlation<T> correlation_of(const ConvShape& s, bool dx) {
  const Index C = s.C / s.groups, F = s.F / s.groups, taps = s.KH * s.KW;
  const Index plane = s.H * s.W, out_plane = s.OH * s.OW;
  Correlation<T> p;
  p.N = s.N;
  p.groups = s.groups;
  p.C = dx ? F : C;
  p.F = dx ? C : F;
  p.H = dx ? s.OH : s.H;
  p.W = p.x_row = dx ? s.OW : s.W;
  p.x_plane = dx ? out_plane : plane;
  p.x_image = s.groups * p.C * p.x_plane;
  p.out_plane = dx ? plane : out_plane;
  p.out_image = s.groups * p.F * p.out_plane;
  p.w_channel = dx ? C * taps : taps;
  p.w_filter = dx ? taps : C * taps;
  p.w_group = F * C * taps;
  p.weights = s.groups * p.w_group;
  return p;
}

// `at` has room for 2 * (KH + KW).
template <class T>
Correlation<T> forward_correlation(const ConvShape& s, Index* at) {
  Correlation<T> p = correlation_of<T>(s, false);
  p.OH = s.OH;
  p.OW = p.out_row = s.OW;
  p.out_col = 1;
  p.out_first = 0;
  Index* at_w = at + 2 * s.KH;
  p.rows = forward_taps(s.KH, s.stride_h, s.dilation_h, s.pad_top, s.KW, at, at + s.KH);
  p.cols = forward_taps(s.KW, s.stride_w, s.dilation_w, s.pad_left, 1, at_w, at_w + s.KW);
  if (pointwise(s)) flatten(p);
  return p;
}

// One of the correlations that make dx: every residue class of input positions modulo the stride is a
// correlation of dout, at stride 1, with the taps that reach it. Some classes have none. At a column stride
// of 2 the class of the even columns makes the odd ones as well, where both have taps.
template <class T>
Correlation<T> dx_correlation(const ConvShape& s, Index ph, Index pw, Index* at_h) {
  Index* at_w = at_h + 2 * s.KH;
  Correlation<T> p = correlation_of<T>(s, true);
  p.out_row = s.stride_h * s.W;
  p.out_col = s.stride_w;
  p.rows = backward_taps(s.KH, s.stride_h, s.dilation_h, s.pad_top, ph, s.KW, at_h, at_h + s.KH);
  const auto col_taps = [&](Index phase, Index* at) {
    return backward_taps(s.KW, s.stride_w, s.dilation_w, s.pad_left, phase, 1, at, at + s.KW);
  };
  p.cols = col_taps(pw, at_w);
  const Index cols = p.cols.count;
  const bool paired = s.stride_w == 2 && s.W > 1 && p.rows.count > 0 && cols > 0 && cols < s.KW;
  p.even_taps = paired ? cols : 0;
  p.columns = s.W;
  if (paired) p.cols.count += col_taps(1, at_w + cols).count;
  p.OH = ceil_div(s.H - ph, s.stride_h);
  p.OW = ceil_div(s.W - pw, s.stride_w);
  p.out_first = ph * s.W + pw;
  if (pointwise(s)) flatten(p);
  return p;
}

// One of a pass, of rows `ph` and columns `pw` modulo the stride in dx.
template <class T>
[[gnu::noinline]] Correlation<T> correlation_of_phase(const ConvShape& s, Pass pass, Index ph, Index pw,
                                                      Index* at) {
  return pass == Pass::forward ? forward_correlation<T>(s, at) : dx_correlation<T>(s, ph, pw, at);
}

// body(p) for every correlation of a pass, without its operands.
template <class T, class Body>
void each_correlation(const ConvShape& s, Pass pass, const Body& body) {
  if (s.N == 0) return;
  const ScratchArray<Index> memory(2 * (s.KH + s.KW));
  const bool dx = pass == Pass::input_gradient;
  for (Index ph = 0; ph < (dx ? std::min(s.stride_h, s.H) : 1); ++ph)
    for (Index pw = 0; pw < (dx ? std::min(s.stride_w, s.W) : 1); ++pw) {
      Correlation<T> p = correlation_of_phase<T>(s, pass, ph, pw, memory.data());
      body(p);
      if (p.kinds() == 2) break;
    }
}

}  // namespace cnnlib::CNNLIB_ISA
