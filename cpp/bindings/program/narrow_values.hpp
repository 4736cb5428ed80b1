// Checks of steps on narrow values: how their images lie, and that convolutions and pools stay inside of
// them.
#pragma once

#include <array>

#include "../conv/conv_shape.hpp"
#include "../pool_shape.hpp"
#include "bound_program.hpp"

namespace cnnlib {

using ImageSizes = std::array<Index, 7>;  // C, H, W; top, bottom, left, right

inline void require_that(bool condition, const char* what) { require(condition, "prepare: ", what); }

template <class Value>
NarrowImage<Value> narrow_image(const ImageSizes& b) {
  constexpr Index most = Index{1} << 24;
  for (const Index n : b) require_that(n >= 0 && n <= most, "a narrow value with a size out of range");
  require_that(b[0] > 0 && b[1] > 0 && b[2] > 0, "a narrow value without elements");
  const Index size = elements_of({b[0], b[1] + b[3] + b[4], b[2] + b[5] + b[6]});
  require_that(size > 0 && size < Index{1} << 45, "a narrow value that is too large");
  return {b[0], b[1], b[2], b[3], b[4], b[5], b[6]};
}

template <class Value>
std::vector<Index> shape_of(const NarrowImage<Value>& s) {
  return {s.C, s.H, s.W};
}
template <class Value>
bool same_size(const NarrowImage<Value>& a, const NarrowImage<Value>& b) {
  return shape_of(a) == shape_of(b);
}
// Whether one has the bytes of the other.
template <class Value>
bool lie_alike(const NarrowImage<Value>& a, const NarrowImage<Value>& b) {
  return same_size(a, b) && a.top == b.top && a.bottom == b.bottom && a.left == b.left && a.right == b.right;
}
template <class Value>
double elements(const NarrowImage<Value>& s) {
  return double(s.bytes()) / sizeof(Value);
}

// Whether the windows of a convolution end at the border of its input.
template <class Value>
bool reaches_inside(const NarrowConv<Value>& c) {
  const ConvShape& s = c.shape;
  const Index below = (s.OH - 1) * s.stride_h + (s.KH - 1) * s.dilation_h - s.pad_top - (s.H - 1);
  const Index beside = (s.OW - 1) * s.stride_w + (s.KW - 1) * s.dilation_w - s.pad_left - (s.W - 1);
  return s.pad_top <= c.x.top && s.pad_left <= c.x.left && below <= c.x.bottom && beside <= c.x.right;
}

// The same of the correlations that make the gradient of x, whose windows lie over dout, an image like y.
template <class Value>
bool gradient_reaches_inside(const NarrowConv<Value>& c) {
  const ConvShape& s = c.shape;
  const auto axis = [](Index size, Index K, Index stride, Index dilation, Index pad, Index outputs,
                       Index before, Index after) {
    for (Index phase = 0; phase < std::min(stride, size); ++phase) {
      const GradientPhase g(phase, size, K, stride, dilation, pad);
      const Index beyond = g.outputs - 1 - g.pad + (g.taps - 1) * dilation - (outputs - 1);
      if (g.taps > 0 && (g.pad > before || beyond > after)) return false;
    }
    return true;
  };
  return axis(s.H, s.KH, s.stride_h, s.dilation_h, s.pad_top, s.OH, c.y.top, c.y.bottom) &&
         axis(s.W, s.KW, s.stride_w, s.dilation_w, s.pad_left, s.OW, c.y.left, c.y.right);
}

// A convolution of one image of x, with the wish of its conv_param; y has no border.
template <class Value>
NarrowConv<Value> conv_of_image(Text function, const NarrowImage<Value>& x, const Floats& w,
                                const py::object& conv_param) {
  const Floats like = new_array(function, {0, x.C, x.H, x.W}, true);
  const ConvRequest request = conv_request(function, like, w, conv_param);
  ConvShape s = request.shape;
  s.N = 1;
  return {x, {s.F, s.OH, s.OW, 0, 0, 0, 0}, {}, s, {}, request.wish};
}

// A pool of one image.
inline PoolShape pool_of_image(Text function, Index C, Index H, Index W, const PoolGeometry& geometry,
                               bool ceil_mode, bool count_include_pad) {
  const Floats like = new_array(function, {0, C, H, W}, true);
  PoolShape s = pool_shape(function, like, geometry, ceil_mode, count_include_pad);
  s.planes = 1;
  return s;
}

constexpr Index most_filter = Index{1} << 26;  // weights of a filter: 16 filters' offsets fit 32 bits

// A convolution of value `input`, but for its epilogue. `other` is a value to add, or -1; y is narrow, or
// empty where scores are wanted.
template <class Value>
NarrowConv<Value> narrow_conv(const BoundProgram& p, int input, int other, int output, const ImageSizes& x,
                              const ImageSizes& other_image, const std::optional<ImageSizes>& y,
                              const Floats& w, const py::object& conv_param) {
  const NarrowImage<Value> in = narrow_image<Value>(x);
  NarrowConv<Value> c = conv_of_image("prepare", in, w, conv_param);
  const ConvShape& s = c.shape;
  c.epilogue.add = other >= 0;
  c.epilogue.scores = !y;
  require_that(reaches_inside(c), "a convolution that reaches beyond the border of its input");
  require_that(s.C / s.groups * s.KH * s.KW <= most_filter, "filters with too many weights");
  p.reads_image(input, in);
  if (y) {
    const NarrowImage<Value> out = narrow_image<Value>(*y);
    require_that(same_size(out, c.y), "a convolution's output has another shape");
    c.y = out;
    p.writes_image(output, out);
  } else {
    require_that(s.OH == 1 && s.OW == 1 && other < 0, "scores are of one pixel");
    p.writes(output, {s.F});
  }
  if (other >= 0) {
    c.other = narrow_image<Value>(other_image);
    require_that(same_size(c.other, c.y), "terms of a sum have different shapes");
    p.reads_image(other, c.other);
  }
  return c;
}

template <class Value>
NarrowPool<Value> narrow_pool(const BoundProgram& p, int input, int output, const ImageSizes& x,
                              const ImageSizes& y, const PoolGeometry& geometry, bool ceil_mode,
                              bool count_include_pad) {
  const NarrowImage<Value> in = narrow_image<Value>(x), out = narrow_image<Value>(y);
  const PoolShape s = pool_of_image("prepare", in.C, in.H, in.W, geometry, ceil_mode, count_include_pad);
  require_that(same_size(out, {in.C, s.OH, s.OW, 0, 0, 0, 0}), "a pool's output has another shape");
  p.reads_image(input, in);
  p.writes_image(output, out);
  return {in, out, s};
}

// The images of values whose channels become those of y, one behind the other.
template <class Value>
std::vector<NarrowImage<Value>> joined_images(const BoundProgram& p, const std::vector<int>& inputs,
                                              int output, const std::vector<ImageSizes>& images,
                                              const NarrowImage<Value>& y) {
  require_that(inputs.size() == images.size(), "a value without a shape");
  std::vector<NarrowImage<Value>> in;
  Index channels = 0;
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    in.push_back(narrow_image<Value>(images[i]));
    require_that(in[i].H == y.H && in[i].W == y.W, "joined values have different sizes");
    channels += in[i].C;
    p.reads_image(inputs[i], in[i]);
  }
  require_that(channels == y.C, "joined values have another number of channels");
  p.writes_image(output, y);
  return in;
}

}  // namespace cnnlib
