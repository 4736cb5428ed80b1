// Convolution where every channel has filters of its own: nothing is summed over channels, and the work
// lies in reading and writing images. Planes are staged in bands that stay in the first-level cache.
#pragma once

#include "kernels/conv/depthwise/channel_lanes.hpp"
#include "kernels/conv/depthwise/row_lanes.hpp"
#include "parallel.hpp"

namespace cnnlib::CNNLIB_ISA {

// tap(a, k) for each kernel position, those together whose outputs are computed together last.
template <class L, class Tap>
void each_tap(const ConvShape& s, const Tap& tap) {
  if (L::split_columns) {
    for (Index a = 0; a < s.KH; ++a)
      for (Index k = 0; k < s.KW; ++k) tap(a, k);
  } else {
    for (Index k = 0; k < s.KW; ++k)
      for (Index a = 0; a < s.KH; ++a) tap(a, k);
  }
}

// What forward and backward pass share: how x is staged and read, and who takes which channels.
template <class T, class L>
struct Depthwise {
  ConvShape s;
  Index taps, multiplier;
  Index column_step;  // from one output to the next, in staged columns
  ColumnTaps columns;
  TapList x_taps;
  Index groups;    // of channels that share a vector
  Index per_task;  // groups, so that a task reads and writes runs of some length
  Index tasks;

  static Index indices(const ConvShape& shape) { return 3 * shape.KW + 2 * shape.KH * shape.KW; }

  Depthwise(const ConvShape& shape, Index* memory)  // of indices()
      : s(shape),
        taps(s.KH * s.KW),
        multiplier(s.F / s.C),
        column_step(L::split_columns ? 1 : s.stride_w),
        columns(s.KW, s.stride_w / column_step, s.dilation_w, s.pad_left, memory),
        x_taps{0, memory + 3 * s.KW, memory + 3 * s.KW + taps},
        groups(divide_up(s.C, L::channels)),
        per_task(std::clamp<Index>(4096 / (L::channels * std::max(s.H * s.W, multiplier * s.OH * s.OW)), 1,
                                   divide_up(160, multiplier * (taps + 1)))),
        tasks(divide_up(groups, per_task)) {}

  Index x_width() const {
    return std::max(divide_up(s.W, columns.stride) + columns.left,
                    (s.OW - 1) * column_step + 1 + columns.right);
  }
  Index x_rows(Index out_rows) const { return (out_rows - 1) * s.stride_h + (s.KH - 1) * s.dilation_h + 1; }
  StagedShape x_shape(Index out_rows) const {
    return {s.H,       s.W,          columns.stride,  columns.phases, columns.remainder,
            x_width(), columns.left, x_rows(out_rows)};
  }
  void list_x_taps(Index pitch, Index phase_size) {
    each_tap<L>(s, [&](Index a, Index k) {
      x_taps.add(columns.phase[k] * phase_size + a * s.dilation_h * pitch + columns.shift[k] * L::column,
                 a * s.KW + k);
    });
  }
  Index planes(Index group) const { return std::min(L::channels, s.C - group * L::channels); }

  // to[t] <- the value index[t] of each channel, `each` apart, in the channels' lanes.
  void spread(const T* from, Index each, const Index* index, Index count, Index group, T* to) const {
    from += group * L::channels * each;
    for (Index t = 0; t < count; ++t) L::spread(from + index[t], each, planes(group), to + t * Simd<T>::size);
  }
  // The same for a bias, or zeros without one.
  void spread_bias(const T* bias, Index each, Index group, T* to) const {
    const Index first = 0;
    if (bias != nullptr) return spread(bias, each, &first, 1, group, to);
    Simd<T>::store(to, Simd<T>::zero());
  }
};

// Of the forward pass, or of one gradient.
inline double depthwise_work(const ConvShape& s) { return 2.0 / 16 * s.N * s.F * s.KH * s.KW * s.OH * s.OW; }

template <class T, class L>
void forward_depthwise(const T* x, const T* w, const T* b, T* out, const ConvShape& s, bool relu) {
  constexpr Index vector = Simd<T>::size;
  Layout axes;
  const auto axis_piece = axes.array<Index>(Depthwise<T, L>::indices(s));
  const Scratch axis_scratch(axes.bytes());
  Depthwise<T, L> d(s, axis_piece.in(axis_scratch.data()));
  const Index out_pitch = L::pitch(s.OW);
  const double row_bytes =
      sizeof(T) * (double(s.stride_h) * d.columns.phases * L::pitch(d.x_width()) + double(out_pitch));
  const Index bands = divide_up(s.OH, std::max<Index>(1, L::staged_bytes / row_bytes));
  const Index band_rows = divide_up(s.OH, bands);
  typename L::Staged staged(d.x_shape(band_rows));
  d.list_x_taps(staged.pitch, staged.phase_size);

  const int threads = threads_for(depthwise_work(s));
  const Index weight_size = (d.taps + 1) * vector, filters = d.per_task * d.multiplier;
  Layout layout;
  const auto place_piece = layout.array<Index>(L::Staged::places(staged.rows, s.W));
  const auto staged_piece = layout.per_thread<T>(threads, staged.size());
  const auto out_piece = layout.per_thread<T>(threads, checked_product(band_rows, out_pitch));
  const auto weight_piece = layout.per_thread<T>(threads, filters * weight_size);
  const Scratch scratch(layout.bytes());
  staged.set_places(place_piece.in(scratch.data()));
  for (int slot = 0; slot < threads; ++slot)
    std::fill_n(staged_piece.of(scratch.data(), slot), staged.size(), T(0));
  // Images share a task, and its weights, where there are tasks enough.
  const Index images = std::clamp<Index>(s.N * d.tasks * bands / (8 * threads), 1, s.N);

  parallel_for(divide_up(s.N, images) * d.tasks * bands, threads, [&](Index task, int slot) {
    const Index band = task % bands, first_group = task / bands % d.tasks * d.per_task;
    const Index last_group = std::min(first_group + d.per_task, d.groups);
    const Index first_image = task / bands / d.tasks * images;
    const Index oh = band * band_rows, rows = std::min(band_rows, s.OH - oh);
    T* rows_in = staged_piece.of(scratch.data(), slot) + staged.margin;
    T* rows_out = out_piece.of(scratch.data(), slot);
    T* weights = weight_piece.of(scratch.data(), slot);
    for (Index group = first_group; group < last_group; ++group)
      for (Index k = 0; k < d.multiplier; ++k) {
        T* to = weights + ((group - first_group) * d.multiplier + k) * weight_size;
        d.spread(w + k * d.taps, d.multiplier * d.taps, d.x_taps.weight, d.taps, group, to);
        d.spread_bias(b != nullptr ? b + k : b, d.multiplier, group, to + d.taps * vector);
      }
    for (Index n = first_image; n < std::min(first_image + images, s.N); ++n)
      for (Index group = first_group; group < last_group; ++group) {
        const Index channel = n * s.C + group * L::channels, planes = d.planes(group);
        staged.stage(x + channel * s.H * s.W, x + s.N * s.C * s.H * s.W, planes, s.H * s.W,
                     oh * s.stride_h - s.pad_top, d.x_rows(rows), rows_in);
        for (Index k = 0; k < d.multiplier; ++k) {
          const T* weight = weights + ((group - first_group) * d.multiplier + k) * weight_size;
          L::sum(d.x_taps, weight, weight + d.taps * vector, relu, rows, s.OW, rows_in,
                 s.stride_h * staged.pitch, d.column_step, rows_out, out_pitch, 1);
          L::unstage(rows_out, out_pitch, 1, rows, s.OW, planes, d.multiplier * s.OH * s.OW,
                     out + ((channel * d.multiplier + k) * s.OH + oh) * s.OW);
        }
      }
  });
}

}  // namespace cnnlib::CNNLIB_ISA
