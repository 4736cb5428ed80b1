// The weights' gradient of large layers, channels being the vector lanes: the panels of dout are packed once
// for all channels, and every block of positions is added to the result itself.
#pragma once

#include "kernels/conv/weight_gradient/channels_last.hpp"

namespace cnnlib::CNNLIB_ISA {

// Panels of filters and blocks of channels of a result, in every group.
struct WeightsPart {
  Index first_panel, last_panel, first_block, last_block;

  Index panels() const { return last_panel - first_panel; }
  Index blocks() const { return last_block - first_block; }
};

template <class T>
[[gnu::noinline]] void weights_of_part(const WeightGradient<T>& g, const WeightsPart& of, const T* x,
                                       const T* dout, T* dw) {
  constexpr int V = tile_vectors;
  constexpr Index size = Simd<T>::size, lanes = V * size, wide_enough = 288,
                  most_staged = (512 << 10) / sizeof(T);
  const ConvShape& s = g.s;
  const PositionBlocks& positions = g.positions;
  const Panels panels(g.F);
  const Index lane_blocks = of.blocks();
  const int threads = threads_for(g.work());
  const Index most_positions = positions.images * positions.rows * positions.cols;
  const Index staged_size = positions.images * g.staging.channel_size * lanes;
  const Index row_size = g.taps * lanes;
  // With few taps several lane blocks take a panel while it is in the cache.
  const Index together =
      std::clamp<Index>(std::min(wide_enough / row_size, most_staged / staged_size), 1, lane_blocks);
  const Index runs = (lane_blocks + together - 1) / together;
  // Whole runs, whose input the thread that needs it stages itself; parts of the filters, which share it,
  // where runs would leave threads idle.
  const Index parts = keep_busy(s.groups * runs, threads)
                          ? 1
                          : std::clamp<Index>(8 * threads / (s.groups * runs), 1, of.panels());
  Layout layout;
  const auto packed_piece = layout.array<T>(checked_product(s.F, most_positions));
  const auto staged_piece = layout.array<T>(checked_product(s.groups * lane_blocks, staged_size));
  const auto offset_piece = layout.array<Index>(most_positions);
  const auto line_piece = layout.per_thread<T>(threads, lanes * g.staging.pitch);
  const auto tile_piece = layout.per_thread<T>(threads, (max_rows + 1) * row_size + lanes * size);
  const Scratch scratch(layout.bytes());
  T* packed = packed_piece.in(scratch.data());  // [group][panel of filters][position][filter]
  T* staged = staged_piece.in(scratch.data());  // [group][lane block][position][lane]
  Index* offset = offset_piece.in(scratch.data());

  for (Index block = 0; block < positions.blocks; ++block) {
    const Index K = g.positions_of(block);
    staged_positions(g, block, lanes, offset);
    const auto stage = [&](Index group, Index lane_block, int slot) {
      const Index c0 = (of.first_block + lane_block) * lanes;
      T* to = staged + (group * lane_blocks + lane_block) * staged_size;
      g.each_image(block, [&](Index n, Index image, Index oh, Index ow, Index, Index, Index) {
        stage_channels_last(x + ((n * s.groups + group) * g.C + c0) * g.H * g.W, std::min(lanes, g.C - c0),
                            g.H, g.W, g.staging, oh, ow, lanes, line_piece.of(scratch.data(), slot),
                            to + image * g.staging.channel_size * lanes);
      });
    };
    const Index shared_blocks = parts > 1 ? lane_blocks : 0;
    parallel_for(s.groups * (shared_blocks + of.panels()), threads, [&](Index task, int slot) {
      const Index group = task % s.groups, piece = task / s.groups;
      if (piece < shared_blocks) return stage(group, piece, slot);
      const Index panel = of.first_panel + piece - shared_blocks, f = panels.first(panel);
      pack_filters(g, block, group, f, panels.rows(panel), K, dout, packed + (group * g.F + f) * K);
    });
    parallel_for(s.groups * runs * parts, threads, [&](Index task, int slot) {
      const Index part = task % parts, run = task / parts % runs, group = task / parts / runs;
      T* tile = tile_piece.of(scratch.data(), slot);  // [filter][tap][lane]
      T* turned = tile + max_rows * row_size;
      const Index first_block = run * lane_blocks / runs, last_block = (run + 1) * lane_blocks / runs;
      if (parts == 1)
        for (Index lane_block = first_block; lane_block < last_block; ++lane_block)
          stage(group, lane_block, slot);
      const Index first_panel = of.first_panel + part * of.panels() / parts,
                  last_panel = of.first_panel + (part + 1) * of.panels() / parts;
      for (Index panel = first_panel; panel < last_panel; ++panel) {
        const Index rows = panels.rows(panel), f = group * g.F + panels.first(panel);
        for (Index lane_block = first_block; lane_block < last_block; ++lane_block) {
          const Index c0 = (of.first_block + lane_block) * lanes, channels = std::min(lanes, g.C - c0);
          const T* image = staged + (group * lane_blocks + lane_block) * staged_size;
          const bool narrow = channels <= size;  // a last block of one vector
          const auto kernel = narrow ? packed_tile_kernel<T, 1>(rows) : packed_tile_kernel<T>(rows);
          const auto multiply = [&](Index tap, T* to, Index step, bool add) {
            const T* source[V];
            Target<T> target;
            for (int v = 0; v < V; ++v) {
              source[v] = image + g.tap_offset(tap) * lanes + v * size;
              target.to[v] = to + v * size;
            }
            target.step = step;
            target.add = add;
            kernel(K, packed + f * K, rows, offset, source, target);
          };
          T* to = dw + (f * g.C + c0) * g.taps;
          if (g.taps == 1 && channels == lanes) {
            multiply(0, to, g.C, block > 0);
            continue;
          }
          for (Index t = 0; t < g.taps; ++t) multiply(t, tile + t * lanes, row_size, false);
          for (Index m = 0; m < rows; ++m, to += g.C * g.taps) {
            const T* from = tile + m * row_size;
            if (g.taps > 1) {
              pack_panel<T>([&](Index t) { return from + t * lanes; }, g.taps, channels, turned, 2 * size);
              from = turned;
            }
            block > 0 ? add_to(to, from, channels * g.taps) : void(std::copy_n(from, channels * g.taps, to));
          }
        }
      }
    });
  }
}

// Where it is expensive to read what others packed, every thread packs and stages all that its part of the
// result needs: all of the input, or all of dout where that is less. The parts are tiles of their own, so
// that no bit depends on them.
template <class T>
void weights_with_shared_panels(const WeightGradient<T>& g, const T* x, const T* dout, T* dw) {
  const int threads = threads_for(g.work());
  const WeightsPart all{0, Panels(g.F).count, 0, (g.C + tile_lanes<T> - 1) / tile_lanes<T>};
  const bool panels_suit = keep_busy(all.panels(), threads), blocks_suit = keep_busy(all.blocks(), threads);
  const PositionBlocks& positions = g.positions;
  const bool little_input = g.C * g.staging.channel_size <= g.F * positions.rows * positions.cols;
  const bool by_filters = panels_suit && (little_input || !blocks_suit);
  if (threads == 1 || !(by_filters || blocks_suit) || !sharing_is_expensive(threads))
    return weights_of_part(g, all, x, dout, dw);
  each_on_its_own(threads, threads, [&](Index task) {
    WeightsPart part = all;
    Index& first = by_filters ? part.first_panel : part.first_block;
    Index& last = by_filters ? part.last_panel : part.last_block;
    const Index count = last;
    first = count * task / threads;
    last = count * (task + 1) / threads;
    weights_of_part(g, part, x, dout, dw);
  });
}

}  // namespace cnnlib::CNNLIB_ISA
