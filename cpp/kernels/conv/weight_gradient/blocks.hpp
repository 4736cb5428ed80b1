// What the methods for the weights' gradient share: output positions, which the sum
//
//   dw[f, c, a, b] = sum over n, i, j of dout[n, f, i, j] * x[n, c](tap a, b of i, j)
//
// runs over, are cut into blocks whose operands stay in a cache, and the blocks into parts with sums of their
// own, which are added in order:
//
//   outputs of an image         blocks of the batch
//   +-------+-------+---+
//   |   0   |   1   | 2 |       0  1  2  3 | 4  5  6  7 | 8  9 ..
//   +-------+-------+---+       sums[0]      sums[1]      sums[2]
//   |   3   |   4   | 5 |
//   +-------+-------+---+
//
// or, where images are small, several images are a block.
#pragma once

#include "kernels/conv/direct/implicit_gemm.hpp"
#include "kernels/simd/sums.hpp"

namespace cnnlib::CNNLIB_ISA {

// Blocks and parts depend on the shape alone, so that the number of threads changes no bit.
struct PositionBlocks {
  Index images, rows, cols;      // of one block
  Index row_blocks, col_blocks;  // of an image
  Index blocks;                  // in all
  Index parts = 1;

  // The last block of a row has at least `least_cols` columns, where the row has.
  static PositionBlocks choose(Index N, Index OH, Index OW, Index most_positions, Index least_cols = 1) {
    PositionBlocks b;
    b.cols = even_part(OW, most_positions);
    while (OW % b.cols != 0 && OW % b.cols < least_cols) ++b.cols;
    b.rows = even_part(OH, std::max<Index>(1, most_positions / b.cols));
    b.row_blocks = ceil_div(OH, b.rows);
    b.col_blocks = ceil_div(OW, b.cols);
    b.images = b.row_blocks * b.col_blocks > 1
                   ? 1
                   : std::clamp<Index>(most_positions / (OH * OW), 1, std::max<Index>(N, 1));
    b.blocks = ceil_div(N, b.images) * b.row_blocks * b.col_blocks;
    return b;
  }

  // Blocks of one image each. All groups together have at most `most_parts`, for threads to share.
  static PositionBlocks of_each_image(const ConvShape& s, Index OH, Index OW, Index most_positions,
                                      Index least_cols = 1) {
    constexpr Index most_parts = 24;
    PositionBlocks b = choose(1, OH, OW, most_positions, least_cols);
    b.blocks *= s.N;
    b.set_parts(most_parts / s.groups);
    return b;
  }

  Index most_positions() const { return images * rows * cols; }  // of a block

  void set_parts(Index most) { parts = std::clamp<Index>(most, 1, std::max<Index>(blocks, 1)); }
  Range blocks_of(Index part) const { return range_of(blocks, part, parts); }
};

// Rows [oh, oh + rows) and columns [ow, ow + cols) of the outputs of some images, in this order.
struct PositionBlock {
  Index first_image, images, oh, ow, rows, cols;

  Index image_positions() const { return rows * cols; }
  Index positions() const { return images * image_positions(); }
};

// One call's sizes.
template <class T>
struct WeightGradient {
  ConvShape s;
  Index C = s.C / s.groups, F = s.F / s.groups, taps = s.KH * s.KW;  // of one group
  bool flat = pointwise(s);  // positions have no neighbours: a plane is one row
  Index H = flat ? 1 : s.H, W = flat ? s.H * s.W : s.W, OH = flat ? 1 : s.OH, OW = flat ? W : s.OW;
  ScratchArray<Index> axis_memory{2 * (s.KH + s.KW) + Staging::memory_size(s.KH, s.KW)};
  Index *row_taps = axis_memory.data(), *col_taps = row_taps + 2 * s.KH;
  Staging staging{forward_taps(s.KH, s.stride_h, s.dilation_h, s.pad_top, s.KW, row_taps, row_taps + s.KH),
                  forward_taps(s.KW, s.stride_w, s.dilation_w, s.pad_left, 1, col_taps, col_taps + s.KW),
                  col_taps + 2 * s.KW};
  PositionBlocks positions;

  explicit WeightGradient(const ConvShape& shape) : s(shape) {}

  double work() const { return 2.0 / 16 * s.N * s.F * C * taps * OH * OW; }

  void set_blocks(const PositionBlocks& blocks, Index align = 1, Index room = 0) {
    positions = blocks;
    staging.set_block(blocks.rows, blocks.cols, align, room);
  }

  // Channels of a block of lanes: one vector where it holds all of them.
  Index channel_lanes() const { return C <= Simd<T>::size ? Index{Simd<T>::size} : Index{NR<T>}; }
  Index tap_offset(Index tap) const { return staging.tap_offset(tap / s.KW, tap % s.KW); }

  PositionBlock block(Index index) const {
    const Index per_image = positions.row_blocks * positions.col_blocks;
    const Index first = index / per_image * positions.images, at = index % per_image;
    const Index oh = at / positions.col_blocks * positions.rows,
                ow = at % positions.col_blocks * positions.cols;
    return {first, std::min(positions.images, s.N - first), oh,
            ow,    std::min(positions.rows, OH - oh),       std::min(positions.cols, OW - ow)};
  }

  // The outputs of a block in the plane of image `image` and filter f of a group.
  const T* dout_of(const T* dout, const PositionBlock& block, Index image, Index group, Index f) const {
    return dout + ((image * s.groups + group) * F + f) * OH * OW + block.oh * OW + block.ow;
  }
};

}  // namespace cnnlib::CNNLIB_ISA
