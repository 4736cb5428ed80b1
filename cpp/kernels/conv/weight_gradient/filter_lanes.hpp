// dw whose vector lanes are filters, and whose rows are (channel, tap) pairs.
#pragma once

#include "kernels/conv/weight_gradient/blocks.hpp"

namespace cnnlib::CNNLIB_ISA {

// Lanes are filters, rows the (channel, tap) pairs: sums[part][group][lane block][panel][row][lane].
template <class T>
void weights_with_filter_lanes(const WeightGradient<T>& g, const T* x, const T* dout, T* dw) {
  constexpr Index lanes = tile_lanes<T>;
  const ConvShape& s = g.s;
  const Index products = g.C * g.taps;
  const Panels panels(products);
  const Index lane_blocks = (g.F + lanes - 1) / lanes, width = lane_blocks * lanes;
  PositionBlocks positions = g.positions;
  positions.groups = std::clamp<Index>(16 / s.groups, 1, positions.blocks);
  const int threads = threads_for(g.work());

  const Index most_positions = positions.images * positions.rows * positions.cols;
  const Index staged_size = g.C * g.staging.channel_size + lanes;
  const Index grad_size = (most_positions + Simd<T>::size) * width;
  const T* dout_end = dout + s.N * s.F * g.OH * g.OW;
  const Index packed_size = products * most_positions;
  const Index sum_size = products * width;
  Layout layout;
  const auto staged_piece = layout.per_thread<T>(threads, staged_size);
  const auto grad_piece = layout.per_thread<T>(threads, grad_size);
  const auto packed_piece = layout.per_thread<T>(threads, packed_size);
  const auto offset_piece = layout.array<Index>(most_positions + products);
  const auto sum_piece = layout.array<T>(checked_product(positions.groups * s.groups, sum_size));
  const Scratch scratch(layout.bytes());
  T* sums = sum_piece.in(scratch.data());
  Index* offset = offset_piece.in(scratch.data());
  Index* product_offset = offset + most_positions;
  for (Index k = 0; k < most_positions; ++k) offset[k] = k * width;
  g.pair_offsets(product_offset);

  parallel_for(positions.groups * s.groups, threads, [&](Index task, int slot) {
    const Index group = task % s.groups, part = task / s.groups;
    T* staged = staged_piece.of(scratch.data(), slot);
    T* grads = grad_piece.of(scratch.data(), slot);
    T* packed = packed_piece.of(scratch.data(), slot);
    T* sum = sums + task * sum_size;
    if (g.F < width) std::memset(grads, 0, grad_size * sizeof(T));
    const Index last = (part + 1) * positions.blocks / positions.groups;
    for (Index first = part * positions.blocks / positions.groups, block = first; block < last; ++block) {
      const Index K = g.positions_of(block);
      g.each_image(block, [&](Index n, Index, Index oh, Index ow, Index rows, Index cols, Index at) {
        const Index image = n * s.groups + group;
        for (Index c = 0; c < g.C; ++c)
          stage_plane(x + (image * g.C + c) * g.H * g.W, g.H, g.W, g.W, g.staging, oh, ow,
                      staged + c * g.staging.channel_size);
        const T* grad = dout + image * g.F * g.OH * g.OW + oh * g.OW + ow;
        for (Index i = 0; i < rows; ++i) {
          transpose_freely(grad + i * g.OW, g.OH * g.OW, g.F, cols, dout_end, grads + (at + i * cols) * width,
                           width);
          for (Index panel = 0; panel < panels.count; ++panel) {
            const Index height = panels.rows(panel), r = panels.first(panel);
            const T* row = staged + i * g.staging.pitch;
            pack_panel<T>([&](Index m) { return row + product_offset[r + m]; }, height, cols,
                          packed + r * K + (at + i * cols) * height, K - at - (i + 1) * cols);
          }
        }
      });
      for (Index v = 0; v < lane_blocks; ++v)
        for (Index panel = 0; panel < panels.count; ++panel) {
          const Index rows = panels.rows(panel), r = panels.first(panel);
          const T* source[tile_vectors];
          for (int u = 0; u < tile_vectors; ++u) source[u] = grads + v * lanes + u * Simd<T>::size;
          auto target = Target<T>::rows(sum + (v * products + r) * lanes, tile_vectors);
          target.add = block > first;
          packed_tile_kernel<T>(rows)(K, packed + r * K, rows, offset, source, target);
        }
    }
  });

  const Index all_sums = s.groups * sum_size;
  parallel_for(s.groups * lane_blocks, threads, [&](Index task, int) {
    const Index group = task / lane_blocks, v = task % lane_blocks;
    T* sum = sums + group * sum_size + v * products * lanes;
    for (Index part = 1; part < positions.groups; ++part)
      add_to(sum, sum + part * all_sums, products * lanes);
    const Index filters = std::min(lanes, g.F - v * lanes);
    for (Index f = 0; f < filters; ++f)
      for (Index r = 0; r < products; ++r)
        dw[(group * g.F + v * lanes + f) * products + r] = sum[r * lanes + f];
  });
}

}  // namespace cnnlib::CNNLIB_ISA
