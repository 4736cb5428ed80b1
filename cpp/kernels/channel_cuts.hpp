// How the sums of each channel of x (N, C, S) over its images and pixels are cut into parts, which are added
// in order. A cut follows from the shape alone. kernels/cuts.cpp compiles this header where those of threads
// and of the machine are errors.
#pragma once

#include "kernels/simd/sums.hpp"
#include "shapes.hpp"

namespace cnnlib::CNNLIB_ISA {

// A channel's values in units that are read at a time, and these in parts.
struct ChannelParts {
  static constexpr Index most_parts = 64, unit_values = 16384;
  BatchNormShape s;
  // A unit: planes of a channel, or `size` values of a plane.
  Index planes = std::max<Index>(1, short_run / s.S),
        size = std::min(s.S, even_part(s.S, unit_values, short_run));
  Index units = ceil_div(s.N, planes) * ceil_div(s.S, size);  // of a channel
  Index parts = std::clamp<Index>(units, 1, most_parts);
};

}  // namespace cnnlib::CNNLIB_ISA
