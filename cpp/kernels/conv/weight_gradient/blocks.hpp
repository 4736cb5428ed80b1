// What the ways to compute the weights' gradient share.
#pragma once

#include "kernels/conv/direct/implicit_gemm.hpp"
#include "kernels/simd/sums.hpp"

namespace cnnlib::CNNLIB_ISA {

// The output positions of a call cut into blocks, and the blocks into groups whose partial sums are
// added in order. Both depend on the shape alone, so that the number of threads changes no bit.
struct PositionBlocks {
  Index images, rows, cols;      // of one block
  Index row_blocks, col_blocks;  // of an image
  Index blocks;                  // in all
  Index groups;

  static PositionBlocks choose(Index N, Index OH, Index OW, Index most_positions) {
    PositionBlocks b;
    b.cols = even_part(OW, most_positions);
    b.rows = even_part(OH, std::max<Index>(1, most_positions / b.cols));
    b.row_blocks = ceil_div(OH, b.rows);
    b.col_blocks = ceil_div(OW, b.cols);
    b.images = b.row_blocks * b.col_blocks > 1 ? 1 : std::clamp<Index>(most_positions / (OH * OW), 1, N);
    b.blocks = ceil_div(N, b.images) * b.row_blocks * b.col_blocks;
    return b;
  }
};

// One call's sizes.
template <class T>
struct WeightGradient {
  ConvShape s;
  Index C, F, taps;  // of one group
  Index H, W, OH, OW;
  Staging staging;
  PositionBlocks positions;

  static Index axis_indices(const ConvShape& s) { return 5 * (s.KH + s.KW); }

  // `axes` has room for axis_indices() and lives as long as this.
  WeightGradient(const ConvShape& shape, Index* axes)
      : s(shape), C(s.C / s.groups), F(s.F / s.groups), taps(s.KH * s.KW) {
    const bool flat = pointwise(s);
    H = flat ? 1 : s.H;
    W = flat ? s.H * s.W : s.W;
    OH = flat ? 1 : s.OH;
    OW = flat ? s.H * s.W : s.OW;
    Index *rows = axes, *cols = axes + 5 * s.KH;
    staging.y.assign(rows + 2 * s.KH, s.KH);
    staging.x.assign(cols + 2 * s.KW, s.KW);
    staging.plan(forward_taps(s.KH, s.stride_h, s.dilation_h, s.pad_top, s.KW, rows, rows + s.KH),
                 forward_taps(s.KW, s.stride_w, s.dilation_w, s.pad_left, 1, cols, cols + s.KW));
  }

  double work() const { return 2.0 / 16 * s.N * s.F * C * taps * OH * OW; }

  void set_blocks(const PositionBlocks& blocks, Index align = 1) {
    positions = blocks;
    staging.set_block(blocks.rows, blocks.cols, align);
  }

  Index tap_offset(Index tap) const { return staging.tap_offset(tap / s.KW, tap % s.KW); }

  // Where the staged planes of a (channel, tap) pair begin.
  void pair_offsets(Index* offset) const {
    for (Index c = 0; c < C; ++c)
      for (Index a = 0; a < s.KH; ++a)
        for (Index k = 0; k < s.KW; ++k) *offset++ = c * staging.channel_size + staging.tap_offset(a, k);
  }

  template <class Body>  // body(image, oh, ow, rows, cols, first position in the block)
  void each_image(Index block, const Body& body) const {
    const Index per_image = positions.row_blocks * positions.col_blocks;
    const Index first = block / per_image * positions.images, part = block % per_image;
    const Index oh = part / positions.col_blocks * positions.rows,
                ow = part % positions.col_blocks * positions.cols;
    const Index rows = std::min(positions.rows, OH - oh), cols = std::min(positions.cols, OW - ow);
    for (Index i = 0; i < positions.images && first + i < s.N; ++i)
      body(first + i, i, oh, ow, rows, cols, i * rows * cols);
  }

  Index positions_of(Index block) const {
    Index count = 0;
    each_image(block, [&](Index, Index, Index, Index, Index rows, Index cols, Index at) {
      count = at + rows * cols;
    });
    return count;
  }
};

}  // namespace cnnlib::CNNLIB_ISA
