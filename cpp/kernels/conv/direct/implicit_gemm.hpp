// Convolution as an implicit matrix product, for every stride, padding, dilation and grouping.
#pragma once

#include <optional>

#include "kernels/conv/direct/correlate.hpp"

namespace cnnlib::CNNLIB_ISA {

// A 1x1 kernel at stride 1 without padding: positions have no neighbours.
inline bool pointwise(const ConvShape& s) {
  return s.KH == 1 && s.KW == 1 && s.stride_h == 1 && s.stride_w == 1 && s.pad_top == 0 && s.pad_left == 0 &&
         s.OH == s.H && s.OW == s.W;
}

// The taps of one axis: kernel position k reads input position o * stride + k * dilation - pad.
struct ForwardTaps {
  static void fill(Index K, Index dilation, Index pad, Index weight_step, Index* at, Index* weight) {
    for (Index k = 0; k < K; ++k) {
      at[k] = k * dilation - pad;
      weight[k] = k * weight_step;
    }
  }
};

template <class T>
void forward_direct(const T* x, const T* w, const T* b, T* out, const ConvShape& s, bool relu) {
  Layout layout;
  const auto piece = layout.array<Index>(2 * (s.KH + s.KW));
  const Scratch scratch(layout.bytes());
  Index* at_h = piece.in(scratch.data());
  Index* at_w = at_h + 2 * s.KH;
  ForwardTaps::fill(s.KH, s.dilation_h, s.pad_top, s.KW, at_h, at_h + s.KH);
  ForwardTaps::fill(s.KW, s.dilation_w, s.pad_left, 1, at_w, at_w + s.KW);

  Correlation<T> p;
  p.groups = s.groups;
  p.C = s.C / s.groups;
  p.F = s.F / s.groups;
  p.x_image = s.C * s.H * s.W;
  p.x_plane = s.H * s.W;
  p.out_image = s.F * s.OH * s.OW;
  p.out_plane = s.OH * s.OW;
  p.N = s.N;
  p.H = s.H;
  p.W = s.W;
  p.OH = s.OH;
  p.OW = s.OW;
  p.x_row = s.W;
  p.out_row = s.OW;
  p.rows = {s.KH, s.stride_h, at_h, at_h + s.KH};
  p.cols = {s.KW, s.stride_w, at_w, at_w + s.KW};
  p.x = x;
  p.w = w;
  p.w_channel = s.KH * s.KW;
  p.w_filter = p.C * p.w_channel;
  p.w_group = p.F * p.w_filter;
  p.w_end = w + s.F * p.w_filter;
  p.bias = b;
  p.relu = relu;
  p.out = out;
  p.out_col = 1;
  correlate(p, pointwise(s));
}

// The taps that reach input positions congruent to `phase` modulo the stride, seen from there: kernel
// position k contributes dout position (phase + pad - k * dilation) / stride.
struct BackwardTaps {
  static Index fill(Index K, Index stride, Index dilation, Index pad, Index phase, Index weight_step,
                    Index* at, Index* weight) {
    Index count = 0;
    for (Index k = 0; k < K; ++k) {
      const Index position = phase + pad - k * dilation;
      if (position % stride != 0) continue;
      at[count] = position / stride;
      weight[count++] = k * weight_step;
    }
    return count;
  }
};

// w (F, C, taps) of one group or all, turned to [tap][f][C], C filled up to whole vectors.
template <class T>
class TurnedWeights {
  static constexpr Index lanes = Simd<T>::size;
  static Index filled(Index n) { return (n + lanes - 1) / lanes * lanes; }

 public:
  TurnedWeights(const T* w, Index filters, Index channels, Index kernel_taps)
      : F(filters), C(channels), taps(kernel_taps), scratch(layout.bytes()) {
    const T* end = w + F * C * taps;
    // Ranges of channels, as each thread packs and then multiplies those of a range.
    parallel_ranges(C, 64, double(F) * taps / 4, [&](Index begin, Index last) {
      for (Index f = 0; f < F; ++f)
        transpose_freely(w + (f * C + begin) * taps, taps, last - begin, taps, end,
                         data() + f * filter_step() + begin, tap_step());
    });
  }
  const T* data() const { return piece.in(scratch.data()); }
  T* data() { return piece.in(scratch.data()); }
  Index filter_step() const { return filled(C); }
  Index tap_step() const { return F * filled(C); }

 private:
  Index F, C, taps;
  Layout layout;
  Piece<T> piece = layout.array<T>(checked_product(filled(taps), F* filled(C)));
  Scratch scratch;
};

// dx: every residue class of input positions modulo the stride is a correlation of dout, at stride 1,
// with the taps that reach it. With a bias (C,) this is the transposed convolution of dout.
template <class T>
void input_gradient_direct(const T* dout, const T* w, const T* b, T* dx, const ConvShape& s) {
  if (s.N == 0) return;
  Layout layout;
  const auto piece = layout.array<Index>(2 * (s.KH + s.KW));
  const Scratch scratch(layout.bytes());
  Index* at_h = piece.in(scratch.data());
  Index* at_w = at_h + 2 * s.KH;
  const Index taps = s.KH * s.KW;

  Correlation<T> p;
  p.N = s.N;
  p.groups = s.groups;
  p.C = s.F / s.groups;
  p.F = s.C / s.groups;
  p.H = s.OH;
  p.W = s.OW;
  p.x = dout;
  p.w = w;
  p.w_filter = taps;
  p.w_channel = p.F * p.w_filter;
  p.w_group = p.C * p.w_channel;
  p.w_end = w + s.F * p.w_channel;
  Index row_weight = s.KW, col_weight = 1;
  std::optional<TurnedWeights<T>> turned;  // once for all, where more than two classes would do it
  if (taps > 1 && s.stride_h * (s.stride_w == 2 ? 1 : s.stride_w) > 2) {
    turned.emplace(w, s.F, p.F, taps);
    p.w = turned->data();
    p.w_filter = 1;
    p.w_channel = turned->filter_step();
    p.w_group = p.C * p.w_channel;
    col_weight = turned->tap_step();
    row_weight = s.KW * col_weight;
  }
  p.bias = b;
  p.relu = false;
  p.x_image = s.F * s.OH * s.OW;
  p.x_plane = s.OH * s.OW;
  p.x_row = s.OW;
  p.out_image = s.C * s.H * s.W;
  p.out_plane = s.H * s.W;
  p.out_row = s.stride_h * s.W;
  p.out_col = s.stride_w;
  for (Index ph = 0; ph < std::min(s.stride_h, s.H); ++ph) {
    const Index rows =
        BackwardTaps::fill(s.KH, s.stride_h, s.dilation_h, s.pad_top, ph, row_weight, at_h, at_h + s.KH);
    for (Index pw = 0; pw < std::min(s.stride_w, s.W); ++pw) {
      const auto col_taps = [&](Index phase, Index first) {
        return BackwardTaps::fill(s.KW, s.stride_w, s.dilation_w, s.pad_left, phase, col_weight, at_w + first,
                                  at_w + s.KW + first);
      };
      Index cols = col_taps(pw, 0);
      const bool paired = s.stride_w == 2 && s.W > 1 && rows > 0 && cols > 0 && cols < s.KW;
      p.even_taps = paired ? cols : 0;
      p.columns = s.W;
      if (paired) cols += col_taps(1, cols);
      p.OH = (s.H - ph + s.stride_h - 1) / s.stride_h;
      p.OW = (s.W - pw + s.stride_w - 1) / s.stride_w;
      p.out = dx + ph * s.W + pw;
      if (rows > 0 && cols > 0) {
        p.rows = {rows, 1, at_h, at_h + s.KH};
        p.cols = {cols, 1, at_w, at_w + s.KW};
        correlate(p, pointwise(s));
        if (paired) break;
        continue;
      }
      parallel_for(s.N * s.C, threads_for(1.0 * s.N * s.C * p.OH * p.OW), [&](Index plane, int) {
        const T value = b != nullptr ? b[plane % s.C] : T(0);
        for (Index i = 0; i < p.OH; ++i)
          for (Index j = 0; j < p.OW; ++j) p.out[plane * p.out_plane + i * p.out_row + j * p.out_col] = value;
      });
    }
  }
}

}  // namespace cnnlib::CNNLIB_ISA
