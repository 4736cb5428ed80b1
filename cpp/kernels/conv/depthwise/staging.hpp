// What the ways to stage images for depthwise convolution share. In staged rows every tap is a constant
// distance from its output and reads zeros outside the image.
#pragma once

#include "kernels/arena.hpp"
#include "kernels/conv/depthwise/stencil.hpp"

namespace cnnlib::CNNLIB_ISA {

inline Index floor_divide(Index a, Index b) { return a >= 0 ? a / b : -((b - 1 - a) / b); }
// ceil_div of a number that may be negative.
inline Index divide_up(Index a, Index b) { return floor_divide(a + b - 1, b); }

// The taps along the columns: tap k of output column j reads column (j + shift[k]) * stride +
// remainder[phase[k]]. Only the remainders that a tap reads are phases.
struct ColumnTaps {
  Index stride, phases = 0, left = 0, right = 0;  // how far taps reach to either side
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

// How far ahead of their use values are asked for: planes are too short for the processor to see them coming.
template <class T>
constexpr Index read_ahead = 8192 / sizeof(T);

// Staged rows [phase][row][column]. What taps read before column 0 is the end of the row above, so that every
// row ends with zeros, and a margin of zeros comes first.
struct StagedShape {
  Index H, W;            // of an image
  Index stride, phases;  // of the columns
  const Index* remainder;
  Index width, left;  // columns of a row, and before it
  Index rows;         // at most
};

}  // namespace cnnlib::CNNLIB_ISA
