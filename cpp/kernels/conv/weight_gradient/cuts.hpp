// How dw's methods cut the output positions, which their sums run over, into blocks and parts. A block's sum
// is rounded at its end and parts are added in order, so that a cut decides bits: it follows from the shape
// and the instruction set alone. kernels/cuts.cpp compiles this header where those of threads and of the
// machine are errors.
#pragma once

#include "kernels/conv/direct/position_tile.hpp"
#include "kernels/conv/weight_gradient/blocks.hpp"

namespace cnnlib::CNNLIB_ISA {

// The plane of outputs that blocks are cut from: of 1x1 kernels, whose positions have no neighbours, one row.
struct OutputPlane {
  Index OH, OW;
  explicit OutputPlane(const ConvShape& s)
      : OH(pointwise(s) ? 1 : s.OH), OW(pointwise(s) ? s.OH * s.OW : s.OW) {}
};

// Dot products (dot_products.hpp): a block's part of the image stays in the caches.
template <class T>
PositionBlocks dot_product_cut(const ConvShape& s) {
  constexpr Index most_positions = 1024;
  const OutputPlane out(s);
  return PositionBlocks::of_each_image(s, out.OH, out.OW, most_positions, Simd<T>::size);
}

// Rows of taps (tap_rows.hpp): vectors of filters in panels, whose block takes the first-level cache.
template <class T>
Panels tap_row_panels(const ConvShape& s) {
  const Index vectors = ceil_div(s.F / s.groups, Simd<T>::size);
  return Panels(vectors, std::min(vectors, vectors_beside(s.KW)));
}
template <class T>
PositionBlocks tap_row_cut(const ConvShape& s) {
  constexpr Index packed_bytes = 32 << 10;
  const OutputPlane out(s);
  const Index width = tap_row_panels<T>(s).rows(0) * Simd<T>::size;
  return PositionBlocks::of_each_image(s, out.OH, out.OW, packed_bytes / (width * Index(sizeof(T))));
}

// Shared panels (shared_panels.hpp): all channels share a block's packed dout. A small result is summed in
// parts of the positions.
template <class T>
PositionBlocks shared_panel_cut(const ConvShape& s) {
  constexpr Index most_positions = (4 << 10) / sizeof(T), fewest_positions = 256;
  constexpr Index fewest_sums = 4, most_sums = 16;
  constexpr Index most_sum_bytes = 256 << 10;  // else adding the sums up takes too long
  const Index result_size = s.F * (s.C / s.groups) * s.KH * s.KW;
  const OutputPlane out(s);
  const auto cut = [&](Index most) { return PositionBlocks::choose(s.N, out.OH, out.OW, most); };
  const bool small_result = result_size * Index(sizeof(T)) <= most_sum_bytes;
  PositionBlocks blocks = cut(most_positions);
  if (small_result && blocks.blocks < most_sums) {  // a few small images: smaller blocks, if they are enough
    const PositionBlocks smaller =
        cut(std::clamp(s.N * out.OH * out.OW / most_sums, fewest_positions, most_positions));
    if (smaller.blocks >= fewest_sums) blocks = smaller;
  }
  if (small_result && blocks.blocks >= fewest_sums)
    blocks.set_parts(blocks.blocks <= most_sums ? blocks.blocks : std::min(most_sums, blocks.blocks / 2));
  return blocks;
}

}  // namespace cnnlib::CNNLIB_ISA
