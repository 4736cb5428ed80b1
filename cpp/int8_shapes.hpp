// Eight-bit values and layers: plain data that crosses the border between the bindings and the kernels.
// cnnlib.naive (quantized.py) defines what the kernels compute, to the bit.
#pragma once

#include "epilogue.hpp"
#include "shapes.hpp"

namespace cnnlib {

// How the bytes of one image lie: channels last, padded to a multiple of 4, which a dot product takes at a
// time; around the pixels a border that holds the zero point, so that convolutions need no edge cases. `C`
// channels; the last padding channels count for nothing, whatever they hold.
struct ByteImage {
  Index C, H, W;
  Index top, bottom, left, right;  // pixels of border

  Index channels() const { return round_up(C, 4); }
  Index row() const { return (left + W + right) * channels(); }
  Index first() const { return top * row() + left * channels(); }  // pixel (0, 0)
  // Row h of image n.
  Index row_of(Index n, Index h) const { return n * bytes() + first() + h * row(); }
  // Whole vectors may be read where an image's last channels are.
  Index bytes() const { return round_up((top + H + bottom) * row() + 64, 64); }
};

// y = x correlated with w, in the numbers of ConvShape; images of x have the border that the windows reach.
struct ByteConv {
  ByteImage x, y, other;
  ConvShape shape;  // of one image
  Epilogue<std::uint8_t> epilogue;

  // Where the windows of row h of the outputs of image n begin.
  Index window_row(Index n, Index h) const {
    return x.row_of(n, h * shape.stride_h - shape.pad_top) - shape.pad_left * x.channels();
  }
};

// Of each filter: what is added to its sum, the multiplier of the rounding, and the factor of the other term.
struct FilterNumbers {
  const std::int32_t* bias;
  const float* multiplier;
  const std::int32_t* factor;
};

// y = requantised a * factors[0] + b * factors[1] + constant
struct ByteSum {
  ByteImage a, b, y;
  int factors[2], constant;
  float multiplier;
  Epilogue<std::uint8_t> epilogue;
};

struct BytePool {
  ByteImage x, y;
  PoolShape shape;  // of one image
};

}  // namespace cnnlib
