// dw whose vector lanes are channels, so that a tap is a shift of the staged image.
#pragma once

#include "kernels/conv/weight_gradient/blocks.hpp"
#include "kernels/conv/weight_gradient/channels_last.hpp"
#include "kernels/simd/sums.hpp"

namespace cnnlib::CNNLIB_ISA {

// Lanes are channels: sums[part][group][channel block][panel of filters][tap][filter][lane].
template <class T, int V>
void weights_with_channel_lanes(const WeightGradient<T>& g, const T* x, const T* dout, T* dw) {
  constexpr Index size = Simd<T>::size, lanes = V * size, wide_enough = 288;
  const ConvShape& s = g.s;
  const Panels panels(g.F);
  const Index lane_blocks = (g.C + lanes - 1) / lanes;
  // With few taps several lane blocks share the packed dout.
  const Index most = std::clamp<Index>(wide_enough / (g.taps * lanes), 1, lane_blocks);
  const Index blocks_per_task = even_part(lane_blocks, most);
  const Index channel_blocks = (lane_blocks + blocks_per_task - 1) / blocks_per_task;
  const Index width = blocks_per_task * lanes;
  PositionBlocks positions = g.positions;
  positions.groups = std::clamp<Index>(16 / (s.groups * channel_blocks), 1, positions.blocks);
  const int threads = threads_for(g.work());

  const Index most_positions = positions.images * positions.rows * positions.cols;
  const Index staged_size = positions.images * g.staging.channel_size * width;
  const Index packed_size = g.F * most_positions;
  const Index line_size = width * g.staging.pitch;
  const Index sum_size = g.F * g.taps * width;  // of one task
  Layout layout;
  const auto staged_piece = layout.per_thread<T>(threads, staged_size);
  const auto packed_piece = layout.per_thread<T>(threads, packed_size);
  const auto line_piece = layout.per_thread<T>(threads, line_size);
  const auto offset_piece = layout.per_thread<Index>(threads, most_positions);
  const auto sum_piece =
      layout.array<T>(checked_product(positions.groups * s.groups * channel_blocks, sum_size));
  const Scratch scratch(layout.bytes());
  T* sums = sum_piece.in(scratch.data());

  parallel_for(positions.groups * s.groups * channel_blocks, threads, [&](Index task, int slot) {
    const Index channel_block = task % channel_blocks, group = task / channel_blocks % s.groups;
    const Index part = task / channel_blocks / s.groups;
    const Index c0 = channel_block * width, channels = std::min(width, g.C - c0);
    T* staged = staged_piece.of(scratch.data(), slot);
    T* packed = packed_piece.of(scratch.data(), slot);
    T* line = line_piece.of(scratch.data(), slot);
    Index* offset = offset_piece.of(scratch.data(), slot);
    T* sum = sums + task * sum_size;
    const Index last = (part + 1) * positions.blocks / positions.groups;
    for (Index first = part * positions.blocks / positions.groups, block = first; block < last; ++block) {
      const Index K = g.positions_of(block);
      g.each_image(block, [&](Index n, Index image, Index oh, Index ow, Index, Index, Index) {
        stage_channels_last(x + ((n * s.groups + group) * g.C + c0) * g.H * g.W, channels, g.H, g.W,
                            g.staging, oh, ow, width, line, staged + image * g.staging.channel_size * width);
      });
      staged_positions(g, block, width, offset);
      for (Index panel = 0; panel < panels.count; ++panel)
        pack_filters(g, block, group, panels.first(panel), panels.rows(panel), K, dout,
                     packed + panels.first(panel) * K);
      for (Index v = 0; v < blocks_per_task; ++v) {
        const bool narrow = channels <= v * lanes + size;  // a last block of one vector
        for (Index panel = 0; panel < panels.count; ++panel) {
          const Index rows = panels.rows(panel), f = panels.first(panel);
          const auto kernel = narrow ? packed_tile_kernel<T, 1>(rows) : packed_tile_kernel<T, V>(rows);
          const T* filters = packed + f * K;
          const T* base = staged + v * lanes;
          T* to = sum + (v * g.F + f) * g.taps * lanes;
          for (Index t = 0; t < g.taps; ++t, to += rows * lanes) {
            const T* from = base + g.tap_offset(t) * width;
            if (V == 1 && t + 1 < g.taps) {  // two taps fill a tile better than one
              const T* source[2] = {from, base + g.tap_offset(t + 1) * width};
              Target<T> target;
              target.to[0] = to;
              target.to[1] = to + rows * lanes;
              target.step = lanes;
              target.add = block > first;
              packed_tile_kernel<T, 2>(rows)(K, filters, rows, offset, source, target);
              ++t;
              to += rows * lanes;
              continue;
            }
            const T* source[V];
            for (int u = 0; u < V; ++u) source[u] = from + u * size;
            auto target = Target<T>::rows(to, V);
            target.add = block > first;
            kernel(K, filters, rows, offset, source, target);
          }
        }
      }
    }
  });

  const Index all_sums = s.groups * channel_blocks * sum_size;
  parallel_for(s.groups * lane_blocks * panels.count, threads, [&](Index task, int) {
    const Index panel = task % panels.count, lane_block = task / panels.count % lane_blocks;
    const Index group = task / panels.count / lane_blocks;
    const Index rows = panels.rows(panel), f = panels.first(panel);
    T* sum = sums + (group * channel_blocks + lane_block / blocks_per_task) * sum_size +
             (lane_block % blocks_per_task * g.F + f) * g.taps * lanes;
    for (Index part = 1; part < positions.groups; ++part)
      add_to(sum, sum + part * all_sums, rows * g.taps * lanes);
    const Index c0 = lane_block * lanes, channels = std::min(lanes, g.C - c0);
    for (Index m = 0; m < rows; ++m)
      for (Index c = 0; c < channels; ++c)
        for (Index t = 0; t < g.taps; ++t)
          dw[((group * g.F + f + m) * g.C + c0 + c) * g.taps + t] = sum[(t * rows + m) * lanes + c];
  });
}

}  // namespace cnnlib::CNNLIB_ISA
