// What the ways to compute the weights' gradient share.
#pragma once

#include "conv_direct.hpp"

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
    b.cols = CorrelationBlocks::even(OW, most_positions);
    b.rows = CorrelationBlocks::even(OH, std::max<Index>(1, most_positions / b.cols));
    b.row_blocks = (OH + b.rows - 1) / b.rows;
    b.col_blocks = (OW + b.cols - 1) / b.cols;
    b.images = b.row_blocks * b.col_blocks > 1 ? 1 : std::clamp<Index>(most_positions / (OH * OW), 1, N);
    b.blocks = (N + b.images - 1) / b.images * b.row_blocks * b.col_blocks;
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
};

}  // namespace cnnlib::CNNLIB_ISA
