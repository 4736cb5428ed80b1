// Staged rows [phase][row][column] of an image (H, W) for depthwise convolution: every tap lies a constant
// distance from its output and reads zeros outside the image. row_lanes.hpp and channel_lanes.hpp fill them.
//
//   staged[q][r][j] = image[first + r][j * stride + remainder[q]], or 0 outside the image
#pragma once

#include "kernels/conv/depthwise/stencil.hpp"
#include "kernels/scratch_layout.hpp"

namespace cnnlib::CNNLIB_ISA {

inline Index floor_divide(Index a, Index b) { return a >= 0 ? a / b : -((b - 1 - a) / b); }
// ceil_div of a number that may be negative.
inline Index divide_up(Index a, Index b) { return floor_divide(a + b - 1, b); }

// The taps of K kernel columns: tap k of output column j reads column (j + shift[k]) * stride +
// remainder[phase[k]] of an image. Only the remainders that a tap reads are phases.
struct ColumnTaps {
  Index stride, phases = 0, left = 0, right = 0;  // halo: staged columns that taps read on either side
  Index *shift, *phase, *remainder;

  ColumnTaps(Index K, Index step, Index dilation, Index pad, Index* memory)  // of 3 * K
      : stride(step), shift(memory), phase(memory + K), remainder(memory + 2 * K) {
    for (Index k = 0; k < K; ++k) {
      const Index at = k * dilation - pad;
      shift[k] = floor_divide(at, stride);
      left = std::max(left, -shift[k]);
      right = std::max(right, shift[k]);
      Index p = 0;
      while (p < phases && remainder[p] != at - shift[k] * stride) ++p;
      if (p == phases) remainder[phases++] = at - shift[k] * stride;
      phase[k] = p;
    }
  }
};

// Prefetch distance, in values: planes are too short for the processor's own prefetchers.
template <class T>
constexpr Index prefetch_distance = 8192 / sizeof(T);

// The shape of staged rows. Taps left of column 0 read the end of the row above: every row ends with at least
// `left` zeros, and as many precede the first row.
struct StagedShape {
  Index H, W;            // of an image
  Index stride, phases;  // of the columns
  const Index* remainder;
  Index width, left;  // columns of a row with its halo, and of the left halo alone
  Index rows;         // at most
};

}  // namespace cnnlib::CNNLIB_ISA
