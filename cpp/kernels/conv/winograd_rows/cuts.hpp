// How F(4, K) along rows cuts an image into bands, and dw's sums into parts. A cut follows from the shape and
// the instruction set alone. kernels/cuts.cpp compiles this header where those of threads and of the machine
// are errors.
#pragma once

#include "kernels/conv/winograd_rows/row_transforms.hpp"

namespace cnnlib::CNNLIB_ISA {

// Rows of outputs whose transformed inputs, of `phases` phases of rows that reach `reach` rows beyond, stay
// in a second-level cache. The forward pass may make bands of fewer rows; dw is summed band by band.
template <class T>
Index rows_of_band(const ConvShape& s, Index phases, Index reach) {
  constexpr Index band_bytes = 192 << 10;
  const Index row = row_points(s) * phases * s.stride_w * ceil_div(s.OW, row_outs);
  return even_part(s.OH, std::max<Index>(band_bytes / (row * Index(sizeof(T))) - reach, 1));
}

// The parts of dw's sums over the bands of all images, for threads to share.
inline Index row_gradient_parts(const ConvShape& s, Index bands) {
  constexpr Index most_parts = 24;
  return std::clamp<Index>(most_parts / s.groups, 1, s.N * bands);
}

}  // namespace cnnlib::CNNLIB_ISA
