// How dw's methods cut the output positions, which their sums run over, into blocks and parts. A block's sum
// is rounded at its end and parts are added in order, so that a cut decides bits: it follows from the shape
// and the instruction set alone. kernels/cuts.cpp compiles this header where those of threads and of the
// machine are errors.
#pragma once

#include "kernels/conv/weight_gradient/blocks.hpp"

namespace cnnlib::CNNLIB_ISA {

// Dot products (dot_products.hpp): a block's part of the image stays in the caches.
template <class T>
PositionBlocks dot_product_cut(const WeightGradient<T>& g) {
  constexpr Index most_positions = 1024;
  return PositionBlocks::of_each_image(g.s, g.OH, g.OW, most_positions, Simd<T>::size);
}

// Rows of taps (tap_rows.hpp): a panel of `width` filters of a block takes the first-level cache.
template <class T>
PositionBlocks tap_row_cut(const WeightGradient<T>& g, Index width) {
  constexpr Index packed_bytes = 32 << 10;
  return PositionBlocks::of_each_image(g.s, g.OH, g.OW, packed_bytes / (width * Index(sizeof(T))));
}

// Shared panels (shared_panels.hpp): all channels share a block's packed dout. A small result is summed in
// parts of the positions.
template <class T>
PositionBlocks shared_panel_cut(const WeightGradient<T>& g) {
  constexpr Index most_positions = (4 << 10) / sizeof(T), fewest_positions = 256;
  constexpr Index fewest_sums = 4, most_sums = 16;
  constexpr Index most_sum_bytes = 256 << 10;  // else adding the sums up takes too long
  const Index result_size = g.s.F * g.C * g.taps;
  const auto cut = [&](Index most) { return PositionBlocks::choose(g.s.N, g.OH, g.OW, most); };
  const bool small_result = result_size * Index(sizeof(T)) <= most_sum_bytes;
  PositionBlocks blocks = cut(most_positions);
  if (small_result && blocks.blocks < most_sums) {  // a few small images: smaller blocks, if they are enough
    const PositionBlocks smaller =
        cut(std::clamp(g.s.N * g.OH * g.OW / most_sums, fewest_positions, most_positions));
    if (smaller.blocks >= fewest_sums) blocks = smaller;
  }
  if (small_result && blocks.blocks >= fewest_sums)
    blocks.set_parts(blocks.blocks <= most_sums ? blocks.blocks : std::min(most_sums, blocks.blocks / 2));
  return blocks;
}

}  // namespace cnnlib::CNNLIB_ISA
