// What the forward pass and the gradients of depthwise convolution share: how a channel's filters read its
// staged rows, and which channels are a task.
//
//   x (N, C, H, W)   w (F, 1, KH, KW)   out, dout (N, F, OH, OW)
//
// Every channel has M = F / C filters (the multiplier); filter f reads channel f / M alone.
#pragma once

#include "kernels/conv/depthwise/channel_lanes.hpp"

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

// Groups [first, last) of channels; a group fills a vector's lanes.
struct ChannelGroups {
  Index first, last;
};

template <class T>
struct ChannelStencil {
  using S = Simd<T>;
  using L = ChannelLanes<T>;

  explicit ChannelStencil(const ConvShape& shape) : s(shape) {}

  // Staged x for bands of `out_rows` output rows.
  StagedShape x_shape(Index out_rows) const { return {s.H, s.W, x_width(), left(), x_rows(out_rows)}; }
  Index left() const { return std::max<Index>(0, s.pad_left); }
  Index x_width() const {
    const Index right = std::max<Index>(0, (s.KW - 1) * s.dilation_w - s.pad_left);
    return std::max(s.W + left(), (s.OW - 1) * s.stride_w + 1 + right);
  }
  Index x_rows(Index out_rows) const { return (out_rows - 1) * s.stride_h + (s.KH - 1) * s.dilation_h + 1; }
  void list_x_taps(Index pitch) {
    each_tap(s, [&](Index a, Index k) {
      x_taps.add(a * s.dilation_h * pitch + (k * s.dilation_w - s.pad_left) * L::column, a * s.KW + k);
    });
  }

  ChannelGroups groups_of(Index task) const {
    return {task * task_groups, std::min((task + 1) * task_groups, groups)};
  }
  Index first_channel(Index group) const { return group * L::channels; }
  Index channels_of(Index group) const { return std::min(L::channels, s.C - first_channel(group)); }

  // Stages what `rows` output rows from oh on read of image n, in one group of channels.
  void stage_x(const typename L::Staged& staged, const T* x, Index n, Index group, Index oh, Index rows,
               T* to) const {
    const Index plane = s.H * s.W;
    staged.stage(x + (n * s.C + first_channel(group)) * plane, x + s.N * s.C * plane, channels_of(group),
                 plane, oh * s.stride_h - s.pad_top, x_rows(rows), to);
  }

  // to[t][lane] = the weight of tap t of each of a group's channels: of its first filter, or of its m-th
  // where w begins m * taps later.
  void gather_weights(const T* w, const TapList& list, Index group, T* to) const {
    const Index channel_step = multiplier * taps;
    w += first_channel(group) * channel_step;
    for (Index t = 0; t < list.count; ++t)
      L::gather(w + list.weight[t], channel_step, channels_of(group), to + t * S::size);
  }
  // to[lane] = bias[c * channel_step] for each of a group's channels c, or 0 without a bias.
  void gather_bias(const T* bias, Index channel_step, Index group, T* to) const {
    if (bias == nullptr) return S::store(to, S::zero());
    L::gather(bias + first_channel(group) * channel_step, channel_step, channels_of(group), to);
  }

  ConvShape s;
  Index taps = s.KH * s.KW, multiplier = s.F / s.C;
  ScratchArray<Index> tap_memory{2 * taps};
  Index* indices = tap_memory.data();
  TapList x_taps{0, indices, indices + taps};
  Index groups = ceil_div(s.C, L::channels);
  Index task_groups = choose_task_groups();
  Index tasks = ceil_div(groups, task_groups);

 private:
  // Enough groups for a task to read or write a run of 4096 values, as long as it has no more than about 160
  // weights and biases a lane.
  Index choose_task_groups() const {
    const Index plane = std::max(s.H * s.W, multiplier * s.OH * s.OW);
    return std::clamp<Index>(4096 / (L::channels * plane), 1, ceil_div(160, multiplier * (taps + 1)));
  }
};

}  // namespace cnnlib::CNNLIB_ISA
