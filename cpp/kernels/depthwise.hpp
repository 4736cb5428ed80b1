// The weights' gradient where every channel has filters of its own: dot products along the image rows.
// (Forward and dx of depthwise convolution are correlate() with single-row tiles.)
#pragma once

#include "conv_weights.hpp"

namespace cnnlib::CNNLIB_ISA {

// sum[t] += over rows and columns of grad * (staged plane shifted by tap t), for V taps at a time.
template <class T, int V>
void add_tap_products(const T* grad, Index grad_row, const T* staged, Index pitch, Index rows, Index cols,
                      const Index* offset, double* sum) {
  using S = Simd<T>;
  typename S::Packet part[V];
#pragma GCC unroll 16
  for (int t = 0; t < V; ++t) part[t] = S::zero();
  const Index whole = cols / S::size * S::size;
  for (Index i = 0; i < rows; ++i) {
    const T *g = grad + i * grad_row, *x = staged + i * pitch;
    for (Index j = 0; j < whole; j += S::size) {
      const auto gv = S::load(g + j);
#pragma GCC unroll 16
      for (int t = 0; t < V; ++t) part[t] = S::fma(gv, S::load(x + j + offset[t]), part[t]);
    }
    if (whole < cols) {
      const auto gv = S::load_lanes(g + whole, 0, cols - whole);
#pragma GCC unroll 16
      for (int t = 0; t < V; ++t)
        part[t] = S::fma(gv, S::load_lanes(x + whole + offset[t], 0, cols - whole), part[t]);
    }
  }
#pragma GCC unroll 16
  for (int t = 0; t < V; ++t) sum[t] += double(S::sum(part[t]));
}

// dw[c * m + f, 0, tap] = sum over images and positions of dout[n, c * m + f] * x[n, c](tap).
template <class T>
void weights_depthwise(const T* x, const T* dout, T* dw, const ConvShape& s) {
  constexpr int together = 9;         // taps of a 3x3 kernel
  constexpr Index row_values = 8192;  // staged at once, so that float sums stay short
  const Index taps = s.KH * s.KW, multiplier = s.F / s.groups;
  Layout axes;
  const auto axis_piece = axes.array<Index>(5 * (s.KH + s.KW));
  const auto offset_piece = axes.array<Index>(taps);
  const Scratch axis_scratch(axes.bytes());
  Index* rows = axis_piece.in(axis_scratch.data());
  Index* cols = rows + 5 * s.KH;
  ForwardTaps::fill(s.KH, s.dilation_h, s.pad_top, s.KW, rows, rows + s.KH);
  ForwardTaps::fill(s.KW, s.dilation_w, s.pad_left, 1, cols, cols + s.KW);
  Staging staging;
  staging.y.assign(rows + 2 * s.KH, s.KH);
  staging.x.assign(cols + 2 * s.KW, s.KW);
  staging.plan({s.KH, s.stride_h, rows, rows + s.KH}, {s.KW, s.stride_w, cols, cols + s.KW});
  const Index block_rows = even_part(s.OH, std::max<Index>(1, row_values / s.OW));
  staging.set_block(block_rows, s.OW);
  Index* offset = offset_piece.in(axis_scratch.data());
  for (Index a = 0; a < s.KH; ++a)
    for (Index k = 0; k < s.KW; ++k) offset[a * s.KW + k] = staging.tap_offset(a, k);

  const int threads = threads_for(2.0 / 16 * s.N * s.F * taps * s.OH * s.OW);
  Layout layout;
  const auto staged_piece = layout.per_thread<T>(threads, staging.channel_size + Simd<T>::size);
  const auto sum_piece = layout.per_thread<double>(threads, multiplier * taps);
  const Scratch scratch(layout.bytes());
  parallel_for(s.C, threads, [&](Index c, int slot) {
    T* staged = staged_piece.of(scratch.data(), slot);
    double* sum = sum_piece.of(scratch.data(), slot);
    std::fill_n(sum, multiplier * taps, 0.0);
    for (Index n = 0; n < s.N; ++n)
      for (Index oh = 0; oh < s.OH; oh += block_rows) {
        stage_plane(x + (n * s.C + c) * s.H * s.W, s.H, s.W, s.W, staging, oh, 0, staged);
        for (Index f = 0; f < multiplier; ++f) {
          const T* grad = dout + ((n * s.C + c) * multiplier + f) * s.OH * s.OW + oh * s.OW;
          const Index height = std::min(block_rows, s.OH - oh);
          Index t = 0;
          for (; t + together <= taps; t += together)
            add_tap_products<T, together>(grad, s.OW, staged, staging.pitch, height, s.OW, offset + t,
                                          sum + f * taps + t);
          for (; t < taps; ++t)
            add_tap_products<T, 1>(grad, s.OW, staged, staging.pitch, height, s.OW, offset + t,
                                   sum + f * taps + t);
        }
      }
    for (Index k = 0; k < multiplier * taps; ++k) dw[c * multiplier * taps + k] = T(sum[k]);
  });
}

}  // namespace cnnlib::CNNLIB_ISA
