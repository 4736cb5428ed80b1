// Values narrower than a float, which are bytes or bfloat16, and layers on them: plain data that crosses the
// border between the bindings and the kernels. cnnlib.naive (quantized.py, bfloat16.py) defines what the
// kernels compute, to the bit.
#pragma once

#include <utility>

#include "epilogue.hpp"
#include "shapes.hpp"

namespace cnnlib {

// A bfloat16: the upper half of the bits of a float.
struct Bfloat16 {
  std::uint16_t bits;
};

// One instruction multiplies and adds kr values of k. They fill the four bytes of a sum's lane.
constexpr Index group_bytes = 4;
template <class Value>
constexpr Index kr = group_bytes / sizeof(Value);

// The epilogue of 32-bit sums of products of bytes, whose numbers for each filter are FilterNumbers:
//   v = sum * 2^shift + bias[f] + other * factor[f] if it is to `add`
//   out = clamp(round(float(v) * multiplier[f]) + zero), a byte, or as `scores` float(v) * multiplier[f]
// The bias contains what the zero points contribute.
template <>
struct Epilogue<std::uint8_t> {
  int zero, shift = 0;
  bool add = false, scores = false;
  Clamp<int> activation{0, 255};
};

// The epilogue of float sums of products of bfloat16:
//   out = clamp(sum + bias[f] + other if it is to `add`), rounded to nearest even, or as `scores` a float
template <>
struct Epilogue<Bfloat16> {
  bool add = false, scores = false;
  Clamp<float> activation{};
};

// How the values of one image lie: channels last, padded to a multiple of kr; around the pixels a border that
// holds zero (of bytes the zero point), so that convolutions need no edge cases. `C` channels; the last
// padding channels count for nothing, whatever they hold. All offsets count bytes.
template <class Value>
struct NarrowImage {
  Index C, H, W;
  Index top, bottom, left, right;  // pixels of border

  Index channels() const { return round_up(C, kr<Value>); }
  Index pixel() const { return channels() * Index{sizeof(Value)}; }
  Index row() const { return (left + W + right) * pixel(); }
  Index first() const { return top * row() + left * pixel(); }  // pixel (0, 0)
  // Row h of image n.
  Index row_of(Index n, Index h) const { return n * bytes() + first() + h * row(); }
  // Whole vectors may be read where an image's last channels are.
  Index bytes() const { return round_up((top + H + bottom) * row() + 64, 64); }
};
using ByteImage = NarrowImage<std::uint8_t>;
using BfloatImage = NarrowImage<Bfloat16>;

// Which pixels of an image outputs are: those of every stride-th row and column from a first one on.
struct Placement {
  Index stride_h = 1, stride_w = 1, h = 0, w = 0;
};

// y = x correlated with w, in the numbers of ConvShape; images of x have the border that the windows reach.
template <class Value>
struct NarrowConv {
  NarrowImage<Value> x, y, other;
  ConvShape shape;  // of one image
  Epilogue<Value> epilogue;
  Method wish = Method::automatic;  // or `direct`; bytes have the same bits by every method
  Placement placed{};               // of the outputs in y

  // Where the windows of row h of the outputs of image n begin.
  Index window_row(Index n, Index h) const {
    return x.row_of(n, h * shape.stride_h - shape.pad_top) - shape.pad_left * x.pixel();
  }
  // Where row h of the outputs of image n begins in y, and how far apart they are.
  Index y_row(Index n, Index h) const {
    return y.row_of(n, h * placed.stride_h + placed.h) + placed.w * y.pixel();
  }
  Index y_step() const { return placed.stride_w * y.pixel(); }
  // Whether these outputs are the first of an image, whose border they write too.
  bool begins_image() const { return placed.h == 0 && placed.w == 0; }
};
using ByteConv = NarrowConv<std::uint8_t>;
using BfloatConv = NarrowConv<Bfloat16>;

// What the epilogue of a format reads for each filter.
template <class Value>
struct FilterNumbers;
// What is added to its sum, the multiplier of the rounding, and the factor of the other term, or null.
template <>
struct FilterNumbers<std::uint8_t> {
  const std::int32_t* bias;
  const float* multiplier;
  const std::int32_t* factor;
};
template <>
struct FilterNumbers<Bfloat16> {
  const float* bias;  // or null
};

// The gradient of x along an axis falls apart into `stride` phases: positions phase, phase + stride, ... are
// the `outputs` of a correlation of dout with some of the taps, from the last of them to the first.
struct GradientPhase {
  Index taps, first_tap, pad, outputs;

  GradientPhase(Index phase, Index size, Index K, Index stride, Index dilation, Index pad_before)
      : taps(0), first_tap((phase + pad_before) % stride), pad(0), outputs(ceil_div(size - phase, stride)) {
    if (first_tap < K) taps = (K - 1 - first_tap) / stride + 1;
    pad = (taps - 1) * dilation - (phase + pad_before - first_tap) / stride;
  }
};

// Where the weights of a convolution lie: of filter f, channel c of its group, row i and column j at
// w[first + f * filter + c * channel + i * row + j * column].
struct WeightView {
  const float* w;
  Index first, filter, channel, row, column;

  // w (F, C / groups, KH, KW)
  WeightView(const float* weights, const ConvShape& s)
      : w(weights),
        first(0),
        filter(s.C / s.groups * s.KH * s.KW),
        channel(s.KH * s.KW),
        row(s.KW),
        column(1) {}
  // Those of the same weights that a phase of the gradient of x takes: filters are channels of x, and
  // channels the filters that see them.
  WeightView(const float* weights, const ConvShape& s, const GradientPhase& rows,
             const GradientPhase& columns)
      : WeightView(weights, s) {
    std::swap(filter, channel);
    first = (rows.first_tap + (rows.taps - 1) * s.stride_h) * row +
            (columns.first_tap + (columns.taps - 1) * s.stride_w) * column;
    row *= -s.stride_h;
    column *= -s.stride_w;
  }
  const float* at(Index f, Index c, Index i, Index j) const {
    return w + first + f * filter + c * channel + i * row + j * column;
  }
  // Of a depthwise convolution, whose filters have one channel each: the two steps are alike.
  const float* of_channel(Index c, Index i, Index j) const { return at(c, 0, i, j); }
};

// Of a convolution the gradients that are wanted: dx, dw and db may be null.
struct BfloatConvGradients {
  const std::uint8_t *x, *dout;
  const float* w;
  std::uint8_t* dx;
  float *dw, *db;
};

// A batch norm over images of x, with the ReLU behind it or without; y is like x but for its border.
struct BfloatNorm {
  BfloatImage x, y;
  bool relu;
};

// What its backward pass takes, and leaves: dx is like x, dout like y.
struct BfloatNormGradients {
  const std::uint8_t *dout, *x;
  const double *mean, *inv_std;
  const float *gamma, *beta;
  std::uint8_t* dx;
  float *dgamma, *dbeta;
};

// y = requantised a * factors[0] + b * factors[1] + constant
struct ByteSum {
  ByteImage a, b, y;
  int factors[2], constant;
  float multiplier;
  Epilogue<std::uint8_t> epilogue;
};

// Two values joined by a function; b may have one value for each channel.
struct BfloatJoin {
  BfloatImage a, b, y;
  Join kind;
};

template <class Value>
struct NarrowPool {
  NarrowImage<Value> x, y;
  PoolShape shape;  // of one image
};
using BytePool = NarrowPool<std::uint8_t>;
using BfloatPool = NarrowPool<Bfloat16>;

}  // namespace cnnlib
