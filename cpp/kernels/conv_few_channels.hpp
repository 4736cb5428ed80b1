// dx where an image has few channels, a first layer's say. One matrix product finds what every tap of
// every channel receives, with all (channel, tap) pairs as rows; then each row of dx gathers its taps.
#pragma once

#include "conv_direct.hpp"

namespace cnnlib::CNNLIB_ISA {

// Products of one image: [channel, tap][OH][pitch], each row of outputs between zero margins, so that a
// tap of a row of dx is one run of vectors.
struct TapProducts {
  Index rows, pitch, before, size;
};

// The runs of `lanes` outputs from the flat position `at` on, as they lie in rows of OW.
template <class Run>  // run(lane, count, row, column)
void each_lane_run(Index at, Index lanes, Index OW, const Run& run) {
  for (Index lane = 0; lane < lanes;) {
    const Index row = (at + lane) / OW, col = (at + lane) % OW, count = std::min(lanes - lane, OW - col);
    run(lane, count, row, col);
    lane += count;
  }
}

template <class T>
void input_gradient_few_channels(const T* dout, const T* w, const T* b, T* dx, const ConvShape& s) {
  using S = Simd<T>;
  constexpr Index lanes = S::size;
  const Index C = s.C / s.groups, F = s.F / s.groups, taps = s.KH * s.KW, positions = s.OH * s.OW;
  const Panels panels(C * taps);

  // For every column phase the taps that reach it: tap kw adds product column q + shift.
  Layout axes;
  const auto column_piece = axes.array<Index>(s.stride_w * s.KW * 2 + s.stride_w);
  const auto offset_piece = axes.array<Index>(F);
  const auto filter_piece = axes.array<T>(s.groups * C * taps * F);
  const Scratch shared(axes.bytes());
  Index* counts = column_piece.in(shared.data());
  std::fill_n(counts, s.stride_w * s.KW * 2 + s.stride_w, Index{0});
  Index* shifts = counts + s.stride_w;
  Index* kernel_columns = shifts + s.stride_w * s.KW;
  Index lowest = 0, highest = 0;
  for (Index phase = 0; phase < s.stride_w; ++phase) {
    counts[phase] = BackwardTaps::fill(s.KW, s.stride_w, s.dilation_w, s.pad_left, phase, 1,
                                       shifts + phase * s.KW, kernel_columns + phase * s.KW);
    for (Index k = 0; k < counts[phase]; ++k) {
      lowest = std::min(lowest, shifts[phase * s.KW + k]);
      highest = std::max(highest, shifts[phase * s.KW + k]);
    }
  }
  const Index columns = (s.W + s.stride_w - 1) / s.stride_w;  // of one phase
  const Index padded = (columns + lanes - 1) / lanes * lanes;
  TapProducts p;
  p.before = -lowest;
  p.pitch = std::max(s.OW, padded + highest) - lowest;
  p.rows = C * taps;
  p.size = s.OH * p.pitch;
  Index* steps = kernel_columns;  // from a product row to what a tap adds
  for (Index k = 0; k < s.stride_w * s.KW; ++k) steps[k] = kernel_columns[k] * p.size + shifts[k];

  Index* offset = offset_piece.in(shared.data());
  for (Index f = 0; f < F; ++f) offset[f] = f * positions;
  T* filters = filter_piece.in(shared.data());  // [group][panel][f][row]
  for (Index g = 0; g < s.groups; ++g)
    for (Index panel = 0; panel < panels.count; ++panel)
      for (Index f = 0; f < F; ++f)
        for (Index m = 0; m < panels.rows(panel); ++m)
          filters[(g * p.rows + panels.first(panel)) * F + f * panels.rows(panel) + m] =
              w[(g * F + f) * p.rows + panels.first(panel) + m];

  const int threads = threads_for(2.0 / 16 * s.N * s.F * p.rows * positions);
  const Index line_size = s.stride_w * padded;
  Layout layout;
  const auto product_piece = layout.array<T>(checked_product(threads * p.rows, p.size));
  const auto tile_piece = layout.array<T>(threads * tile_size<T>);
  const auto line_piece = layout.array<T>(threads * 2 * line_size);
  const auto row_piece = layout.array<Index>(threads * s.KH);
  const Scratch scratch(layout.bytes());
  std::fill_n(product_piece.in(scratch.data()), threads * p.rows * p.size, T(0));

  parallel_for(s.N * s.groups, threads, [&](Index image, int slot) {
    T* products = product_piece.in(scratch.data()) + slot * p.rows * p.size;
    T* tile = tile_piece.in(scratch.data()) + slot * tile_size<T>;
    T* line = line_piece.in(scratch.data()) + slot * 2 * line_size;
    Index* from_rows = row_piece.in(scratch.data()) + slot * s.KH;
    const Index group = image % s.groups;
    const T* grad = dout + image * F * positions;
    for (Index panel = 0; panel < panels.count; ++panel) {
      const Index rows = panels.rows(panel), first = panels.first(panel);
      const auto kernel = tile_kernel<T>(rows);
      for (Index at = 0; at < positions; at += tile_lanes<T>) {
        const Index start = std::min(at, positions - tile_lanes<T>);  // the last tile overlaps
        const T* source[tile_vectors];
        for (Index u = 0; u < tile_vectors; ++u) source[u] = grad + start + u * lanes;
        kernel(F, filters + (group * p.rows + first) * F, rows, offset, source, tile);
        each_lane_run(start, tile_lanes<T>, s.OW, [&](Index lane, Index count, Index row, Index col) {
          T* to = products + first * p.size + row * p.pitch + p.before + col;
          for (Index m = 0; m < rows; ++m, to += p.size)
            for (Index l = 0; l < count; l += lanes) {
              const auto v = S::load(tile + m * tile_lanes<T> + lane + l);
              count - l >= lanes ? S::store(to + l, v) : S::store_lanes(to + l, v, 0, count - l);
            }
        });
      }
    }
    for (Index h = 0; h < s.H; ++h) {
      Index reached = 0;  // kernel rows whose products row h receives, and where these lie
      for (Index kh = 0; kh < s.KH; ++kh) {
        const Index reach = h + s.pad_top - kh * s.dilation_h;
        if (reach >= 0 && reach % s.stride_h == 0 && reach / s.stride_h < s.OH)
          from_rows[reached++] = kh * s.KW * p.size + reach / s.stride_h * p.pitch + p.before;
      }
      for (Index c = 0; c < C; ++c) {
        const T bias = b != nullptr ? b[group * C + c] : T(0);
        T* to = dx + ((image * C + c) * s.H + h) * s.W;
        for (Index phase = 0; phase < s.stride_w; ++phase)
          for (Index q = 0; q < padded; q += lanes) {
            auto sum = S::fill(bias);
            for (Index r = 0; r < reached; ++r) {
              const T* row = products + c * taps * p.size + from_rows[r] + q;
              for (Index k = 0; k < counts[phase]; ++k)
                sum = S::add(sum, S::load(row + steps[phase * s.KW + k]));
            }
            S::store(line + phase * padded + q, sum);
          }
        if (s.stride_w == 1) {
          std::copy_n(line, s.W, to);
        } else if (s.stride_w == 2) {
          T* joined = line + line_size;
          for (Index q = 0; q < padded; q += lanes)
            S::store_pairs(joined + 2 * q, S::load(line + q), S::load(line + padded + q));
          std::copy_n(joined, s.W, to);
        } else {
          for (Index phase = 0; phase < s.stride_w; ++phase)
            for (Index j = phase, q = 0; j < s.W; j += s.stride_w, ++q) to[j] = line[phase * padded + q];
        }
      }
    }
  });
}

}  // namespace cnnlib::CNNLIB_ISA
