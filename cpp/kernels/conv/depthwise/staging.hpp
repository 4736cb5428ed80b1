// Staged rows of images (H, W) for depthwise convolution: every tap lies a constant distance from its output
// and reads zeros outside the image. channel_lanes.hpp fills them.
#pragma once

#include "kernels/conv/depthwise/stencil.hpp"
#include "kernels/scratch_layout.hpp"

namespace cnnlib::CNNLIB_ISA {

inline Index floor_divide(Index a, Index b) { return a >= 0 ? a / b : -((b - 1 - a) / b); }
// ceil_div of a number that may be negative.
inline Index divide_up(Index a, Index b) { return floor_divide(a + b - 1, b); }

// The shape of staged rows. Taps left of column 0 read the end of the row above: every row ends with at least
// `left` zeros, and as many precede the first row.
struct StagedShape {
  Index H, W;         // of an image
  Index width, left;  // columns of a row with its halo, and of the left halo alone
  Index rows;         // at most
};

}  // namespace cnnlib::CNNLIB_ISA
