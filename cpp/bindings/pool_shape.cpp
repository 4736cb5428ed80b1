#include <tuple>

#include "pool_shape.hpp"

namespace cnnlib {
namespace {

// The output size of one axis. With ceil_mode a last window may hang over the end, provided that it
// starts inside the image or its leading padding.
Index windows(Text function, const char* axis, Index size, Index window, Index stride, Index before,
              Index after, bool ceil_mode) {
  const Index room = size + before + after - window;
  require(room >= 0, function, ": the window is larger than the padded input along ", axis, ": ", window,
          " > ", size + before + after);
  Index count = room / stride + 1;
  if (ceil_mode && room % stride != 0 && count * stride < size + before) ++count;
  return count;
}

void require_positive(Text function, const char* name, std::initializer_list<Index> numbers) {
  for (const Index n : numbers)
    require(n >= 1 && n < Index{1} << 31, function, ": ", name,
            " must be at least 1 and smaller than 2**31, got ", n);
}

void require_images(Text function, const py::array& x) {
  require(x.ndim() == 4 && x.shape(1) >= 1 && x.shape(2) >= 1 && x.shape(3) >= 1, function,
          ": x must be (N, C, H, W) with C, H, W >= 1, got shape ", x);
}

}  // namespace

PoolShape pool_shape(Text function, const py::array& x, const PoolGeometry& g, bool ceil_mode,
                     bool count_include_pad) {
  require(x.ndim() == 4, function, ": x must have 4 dimensions (N, C, H, W), got shape ", x);
  require(x.shape(2) >= 1 && x.shape(3) >= 1, function, ": x has an empty image: its shape is ", x);
  PoolShape s{};
  s.planes = x.shape(1);
  s.H = x.shape(2);
  s.W = x.shape(3);
  std::tie(s.PH, s.PW, s.stride_h, s.stride_w, s.pad_top, s.pad_bottom, s.pad_left, s.pad_right, s.dilation_h,
           s.dilation_w) = std::tuple_cat(g);
  s.count_include_pad = count_include_pad;
  require_positive(function, "pool_height", {s.PH});
  require_positive(function, "pool_width", {s.PW});
  require_positive(function, "stride", {s.stride_h, s.stride_w});
  require_positive(function, "dilation", {s.dilation_h, s.dilation_w});
  const Index tall = (s.PH - 1) * s.dilation_h + 1, wide = (s.PW - 1) * s.dilation_w + 1;
  for (const auto& [pad, window] : {std::pair(s.pad_top, tall), std::pair(s.pad_bottom, tall),
                                    std::pair(s.pad_left, wide), std::pair(s.pad_right, wide)})
    require(pad >= 0 && pad < window, function, ": pad must be at least 0 and smaller than the window (",
            window, "), got ", pad);
  s.OH = windows(function, "H", s.H, tall, s.stride_h, s.pad_top, s.pad_bottom, ceil_mode);
  s.OW = windows(function, "W", s.W, wide, s.stride_w, s.pad_left, s.pad_right, ceil_mode);
  require(s.PH * s.PW < UINT32_MAX, function, ": the window is too large");
  return s;
}

PoolShape adaptive_shape(Text function, const py::array& x, const std::array<Index, 2>& size) {
  require_images(function, x);
  require_positive(function, "size", {size[0], size[1]});
  require(x.shape(2) < Index{1} << 31 && x.shape(3) < Index{1} << 31, function,
          ": x is too large: its shape is ", x);
  PoolShape s = even_pool(x.shape(1), size[0], size[1], x.shape(2) / size[0], x.shape(3) / size[1]);
  s.H = x.shape(2);
  s.W = x.shape(3);
  s.adaptive = true;
  return s;
}

UpsampleShape upsample_shape(Text function, const py::array& x, const std::array<Index, 2>& scale,
                             bool bilinear, bool align_corners) {
  require_images(function, x);
  require_positive(function, "scale", {scale[0], scale[1]});
  // Positions along an axis are kept as 32-bit numbers, and their products with sizes must be exact.
  for (const int axis : {0, 1})
    require(x.shape(2 + axis) <= (Index{1} << 31) / scale[axis], function, ": scale ", scale[axis],
            " makes x of shape ", x, " too large");
  return {x.shape(1), x.shape(2), x.shape(3), scale[0], scale[1], bilinear, align_corners};
}

}  // namespace cnnlib
