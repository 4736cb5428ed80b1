// Depthwise convolution whose vector lanes are channels, for small images, whose rows fill no vectors, and
// for filters of any size. What the forward pass and the gradients share: staged rows, how a channel's
// filters read them, and which channels are a task.
//
//   x (N, C, H, W)   w (F, 1, KH, KW)   out, dout (N, F, OH, OW)
//
// Every channel has M = F / C filters (the multiplier); filter f reads channel f / M alone.
#pragma once

#include "kernels/conv/depthwise/stencil.hpp"
#include "kernels/scratch_layout.hpp"
#include "kernels/simd/transpose.hpp"

namespace cnnlib::CNNLIB_ISA {

// The work of the forward pass, or of one gradient, as threads_for counts it: a multiply-add takes three
// times as long as in a matrix product, for each value is used a few times only.
inline double depthwise_work(const ConvShape& s) {
  return 3 * 2.0 / 16 * s.N * s.F * s.KH * s.KW * s.OH * s.OW;
}

// tap(a, k) for each kernel position, column by column: register blocks of the stencil extend along columns
// of the image, which is what TapList::three_rows recognizes.
template <class Tap>
void each_tap(const ConvShape& s, const Tap& tap) {
  for (Index k = 0; k < s.KW; ++k)
    for (Index a = 0; a < s.KH; ++a) tap(a, k);
}

// Staged rows of images (H, W), [row][column][channel]: every tap lies a constant distance from its output
// and reads zeros outside the image. Taps left of column 0 read the end of the row above: every row ends with
// at least `left` zeros, and as many precede the first row.
template <class T>
struct StagedChannels {
  using S = Simd<T>;
  Index H, W;         // of an image
  Index width, left;  // columns of a row with its halo, and of the left halo alone
  Index rows;         // at most
  Index pitch = checked_product(width, S::size), margin = left * S::size;
  const Index* offset = nullptr;  // of the pixels of consecutive rows, [row][column]

  Index pixels() const { return rows * W; }
  void set_pixel_offsets(Index* memory) {  // of pixels()
    offset = memory;
    for (Index r = 0; r < rows; ++r)
      for (Index j = 0; j < W; ++j) *memory++ = r * pitch + j * S::size;
  }
  Index size() const { return margin + checked_product(rows, pitch) + S::size; }

  // Transposes rows [first, first + count) of `planes` planes of stride `plane_step`. The zeros between rows
  // stay.
  void stage(const T* image, Index planes, Index plane_step, Index first, Index count, T* to) const {
    const Index above = std::clamp<Index>(-first, 0, count),
                below = std::clamp<Index>(H - first, above, count);
    std::fill_n(to, above * pitch, T(0));
    std::fill_n(to + below * pitch, (count - below) * pitch, T(0));
    const Index inside = (below - above) * W;
    image += (first + above) * W;
    to += above * pitch;
    const auto plane = [&](Index p) { return image + std::min(p, planes - 1) * plane_step; };
    if (inside < S::size) {
      if (inside > 0)
        for (Index p = 0; p < S::size; ++p)
          for (Index i = 0; i < inside; ++i) to[offset[i] + p] = plane(p)[i];
      return;
    }
    for (Index next = 0; next < inside; next += S::size) {
      const Index i = std::min(next, inside - S::size);
      transpose_vectors<T>([&](Index p) { return S::load(plane(p) + i); },
                           [&](Index j) { return to + offset[i + j]; });
    }
  }
};

// Transposes pixels [pixel][channel] to planes of stride `plane_step`.
template <class T>
void unstage_channels(const T* from, Index pixels, Index planes, Index plane_step, T* to) {
  using S = Simd<T>;
  if (pixels < S::size) {
    for (Index p = 0; p < planes; ++p)
      for (Index i = 0; i < pixels; ++i) to[p * plane_step + i] = from[i * S::size + p];
    return;
  }
  T unused[S::size];  // receives the lanes without a channel
  for (Index next = 0; next < pixels; next += S::size) {
    const Index i = std::min(next, pixels - S::size);
    transpose_vectors<T>([&](Index j) { return S::load(from + (i + j) * S::size); },
                         [&](Index p) { return p < planes ? to + p * plane_step + i : unused; });
  }
}

template <class T>
struct ChannelStencil {
  using S = Simd<T>;
  static constexpr Index lanes = S::size;

  explicit ChannelStencil(const ConvShape& shape) : s(shape) {}

  // Staged x for bands of `out_rows` output rows.
  StagedChannels<T> x_staging(Index out_rows) const {
    return {s.H, s.W, x_width(), s.pad_left, x_rows(out_rows)};
  }
  Index x_width() const {
    const Index right = std::max<Index>(0, (s.KW - 1) * s.dilation_w - s.pad_left);
    return std::max(s.W + s.pad_left, (s.OW - 1) * s.stride_w + 1 + right);
  }
  Index x_rows(Index out_rows) const { return (out_rows - 1) * s.stride_h + (s.KH - 1) * s.dilation_h + 1; }
  void list_x_taps(Index pitch) {
    each_tap(s, [&](Index a, Index k) {
      x_taps.add(a * s.dilation_h * pitch + (k * s.dilation_w - s.pad_left) * lanes, a * s.KW + k);
    });
  }

  // Groups of channels; a group fills a vector's lanes.
  Range groups_of(Index task) const {
    return {task * task_groups, std::min((task + 1) * task_groups, groups)};
  }
  Index first_channel(Index group) const { return group * lanes; }
  Index channels_of(Index group) const { return std::min(lanes, s.C - first_channel(group)); }

  // Stages what `rows` output rows from oh on read of image n, in one group of channels.
  void stage_x(const StagedChannels<T>& staged, const T* x, Index n, Index group, Index oh, Index rows,
               T* to) const {
    const Index plane = s.H * s.W;
    staged.stage(x + (n * s.C + first_channel(group)) * plane, channels_of(group), plane,
                 oh * s.stride_h - s.pad_top, x_rows(rows), to);
  }

  // to[t][lane] = the weight of tap t of each of a group's channels: of its first filter, or of its m-th
  // where w begins m * taps later.
  void gather_weights(const T* w, const TapList& list, Index group, T* to) const {
    for (Index t = 0; t < list.count; ++t)
      gather(w + list.weight[t], multiplier * taps, group, to + t * lanes);
  }
  // to[lane] = bias[c * channel_step] for each of a group's channels c, or 0 without a bias.
  void gather_bias(const T* bias, Index channel_step, Index group, T* to) const {
    if (bias == nullptr) return S::store(to, S::zero());
    gather(bias, channel_step, group, to);
  }

  ConvShape s;
  Index taps = s.KH * s.KW, multiplier = s.F / s.C;
  ScratchArray<Index> tap_memory{2 * taps};
  Index* indices = tap_memory.data();
  TapList x_taps{0, indices, indices + taps};
  Index groups = ceil_div(s.C, lanes);
  Index task_groups = choose_task_groups();
  Index tasks = ceil_div(groups, task_groups);

 private:
  // to[lane] = from[c * channel_step] for each of a group's channels c, and 0 behind them.
  void gather(const T* from, Index channel_step, Index group, T* to) const {
    from += first_channel(group) * channel_step;
    for (Index p = 0; p < lanes; ++p) to[p] = p < channels_of(group) ? from[p * channel_step] : T(0);
  }

  // Enough groups for a task to read or write a run of 4096 values, as long as it has no more than about 160
  // weights and biases a lane.
  Index choose_task_groups() const {
    const Index plane = std::max(s.H * s.W, multiplier * s.OH * s.OW);
    return std::clamp<Index>(4096 / (lanes * plane), 1, ceil_div(160, multiplier * (taps + 1)));
  }
};

}  // namespace cnnlib::CNNLIB_ISA
