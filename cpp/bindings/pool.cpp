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

}  // namespace

PoolShape pool_shape(Text function, const py::array& x, const PoolGeometry& g, bool ceil_mode,
                     bool count_include_pad) {
  require(x.ndim() == 4, function, ": x must have 4 dimensions (N, C, H, W), got shape ", x);
  require(x.shape(2) >= 1 && x.shape(3) >= 1, function, ": x has an empty image: its shape is ", x);
  PoolShape s{};
  s.planes = x.shape(0) * x.shape(1);
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

namespace {

py::dtype winner_dtype(const PoolShape& s) {
  return s.winner_bytes() == 1 ? py::dtype::of<std::uint8_t>() : py::dtype::of<std::uint32_t>();
}

// The shape of a result: of the same channels.
template <class Shape>
std::vector<Index> outputs_of(const py::array& x, const Shape& s) {
  return {x.shape(0), x.shape(1), s.OH, s.OW};
}
std::vector<Index> outputs_of(const py::array& x, const UpsampleShape& s) {
  return {x.shape(0), x.shape(1), s.H * s.scale_h, s.W * s.scale_w};
}

// (out, argmax): the winner of each window as kh * PW + kw, the type's largest number where there is none.
py::tuple max_pool_forward(Text function, const Floats& x, const PoolGeometry& g, bool ceil_mode,
                           const MaybeFloats& out_buffer) {
  const PoolShape s = pool_shape(function, x, g, ceil_mode, false);
  const FloatsResult out(function, outputs_of(x, s), x, out_buffer);
  py::array argmax = new_array(function, outputs_of(x, s), winner_dtype(s));
  unlocked(x, [&, to = argmax.mutable_data()](const auto& k) { k.max_pool_forward(x, out, to, s); });
  return py::make_tuple(out, argmax);
}

py::object max_pool_backward(Text function, const Floats& dout, const Floats& x, const PoolGeometry& g,
                             bool ceil_mode, const py::array& argmax) {
  const PoolShape s = pool_shape(function, x, g, ceil_mode, false);
  require_shape(function, "dout", dout, outputs_of(x, s));
  require_shape(function, "argmax", argmax, dout);
  const bool contiguous = (argmax.flags() & py::array::c_style) != 0;
  require(contiguous && argmax.dtype().equal(winner_dtype(s)), function,
          ": argmax is not what the forward pass returned");
  return computed(function, x,
                  [&](const auto& k, Out dx) { k.max_pool_backward(dout, argmax.data(), dx, s); });
}

void require_images(Text function, const py::array& x) {
  require(x.ndim() == 4 && x.shape(1) >= 1 && x.shape(2) >= 1 && x.shape(3) >= 1, function,
          ": x must be (N, C, H, W) with C, H, W >= 1, got shape ", x);
}

AdaptivePoolShape adaptive_shape(Text function, const py::array& x, const std::array<Index, 2>& size) {
  require_images(function, x);
  require_positive(function, "size", {size[0], size[1]});
  require(x.shape(2) < Index{1} << 31 && x.shape(3) < Index{1} << 31, function,
          ": x is too large: its shape is ", x);
  return {x.shape(0) * x.shape(1), x.shape(2), x.shape(3), size[0], size[1]};
}

// (out, argmax): where in its plane each window's maximum stands.
py::tuple adaptive_max_pool_forward(Text function, const Floats& x, const std::array<Index, 2>& size,
                                    const MaybeFloats& out_buffer) {
  const AdaptivePoolShape s = adaptive_shape(function, x, size);
  const FloatsResult out(function, outputs_of(x, s), x, out_buffer);
  const Result<std::int64_t> argmax(function, outputs_of(x, s));
  unlocked(x, [&](const auto& k) { k.adaptive_max_pool_forward(x, out, argmax, s); });
  return py::make_tuple(out, argmax);
}

py::object adaptive_max_pool_backward(Text function, const Floats& dout, const Floats& x,
                                      const std::array<Index, 2>& size, const Array<std::int64_t>& argmax) {
  const AdaptivePoolShape s = adaptive_shape(function, x, size);
  require_shape(function, "dout", dout, outputs_of(x, s));
  require_shape(function, "argmax", argmax, dout);
  return computed(function, x,
                  [&](const auto& k, Out dx) { k.adaptive_max_pool_backward(dout, argmax, dx, s); });
}

UpsampleShape upsample_shape(Text function, const py::array& x, const std::array<Index, 2>& scale,
                             bool bilinear, bool align_corners) {
  require_images(function, x);
  require_positive(function, "scale", {scale[0], scale[1]});
  // Positions along an axis are kept as 32-bit numbers, and their products with sizes must be exact.
  for (const int axis : {0, 1})
    require(x.shape(2 + axis) <= (Index{1} << 31) / scale[axis], function, ": scale ", scale[axis],
            " makes x of shape ", x, " too large");
  return {x.shape(0) * x.shape(1), x.shape(2), x.shape(3), scale[0], scale[1], bilinear, align_corners};
}

// Of layers whose shape is shape_of(function, x, args...) and whose kernel, kernel_of(k), keeps nothing.
template <class Shape, class... Args, class KernelOf>
auto planes_forward(Shape (*shape_of)(Text, const py::array&, Args...), KernelOf kernel_of) {
  return [=](Text function, const Floats& x, Args... args, const MaybeFloats& out) {
    require_one_dtype(x, out);
    const Shape s = shape_of(function, x, args...);
    return computed(function, outputs_of(x, s), x, out, [&](const auto& k, Out y) { kernel_of(k)(x, y, s); });
  };
}
template <class Shape, class... Args, class KernelOf>
auto planes_backward(Shape (*shape_of)(Text, const py::array&, Args...), KernelOf kernel_of) {
  return [=](Text function, const Floats& dout, const Floats& x, Args... args) {
    require_one_dtype(dout, x);
    const Shape s = shape_of(function, x, args...);
    require_shape(function, "dout", dout, outputs_of(x, s));
    return computed(function, x, [&](const auto& k, Out dx) { kernel_of(k)(dout, dx, s); });
  };
}

py::object global_avg_pool_forward(const Floats& x, const MaybeFloats& out_buffer) {
  require(x.ndim() == 4 && x.shape(2) >= 1 && x.shape(3) >= 1,
          "global_avg_pool_forward: x must be (N, C, H, W) with H, W >= 1, got shape ", x);
  const PoolShape s = even_pool(x.shape(0) * x.shape(1), 1, 1, x.shape(2), x.shape(3));
  return computed("global_avg_pool_forward", {x.shape(0), x.shape(1)}, x, out_buffer,
                  [&](const auto& k, Out y) { k.avg_pool_forward(x, y, s); });
}

py::object global_avg_pool_backward(const Floats& dout, const std::array<Index, 4>& shape) {
  require_shape("global_avg_pool_backward", "dout", dout, {shape[0], shape[1]});
  const PoolShape s = even_pool(shape[0] * shape[1], 1, 1, shape[2], shape[3]);
  return computed("global_avg_pool_backward", {shape.data(), 4}, dout, {},
                  [&](const auto& k, Out dx) { k.avg_pool_backward(dout, dx, s); });
}

}  // namespace

void bind_pool(py::module_& m) {
  const auto x = fixed("x"), dout = fixed("dout"), function = py::arg("function");
  const auto out = fixed("out") = py::none();
  const auto geometry = py::arg("geometry"), ceil_mode = py::arg("ceil_mode"),
             count = py::arg("count_include_pad");
  def(m, "max_pool_forward", &max_pool_forward, function, x, geometry, ceil_mode, out);
  def(m, "max_pool_backward", &max_pool_backward, function, dout, x, geometry, ceil_mode, py::arg("argmax"));
  m.def("avg_pool_forward", planes_forward(&pool_shape, [](const auto& k) { return k.avg_pool_forward; }),
        Arguments{function, x, geometry, ceil_mode, count, out});
  m.def("avg_pool_backward", planes_backward(&pool_shape, [](const auto& k) { return k.avg_pool_backward; }),
        Arguments{function, dout, x, geometry, ceil_mode, count});
  def(m, "global_avg_pool_forward", &global_avg_pool_forward, x, out);
  def(m, "global_avg_pool_backward", &global_avg_pool_backward, dout, py::arg("shape"));
  const auto size = py::arg("size"), scale = py::arg("scale"), bilinear = py::arg("bilinear"),
             align_corners = py::arg("align_corners");
  m.def("adaptive_avg_pool_forward",
        planes_forward(&adaptive_shape, [](const auto& k) { return k.adaptive_avg_pool_forward; }),
        Arguments{function, x, size, out});
  m.def("adaptive_avg_pool_backward",
        planes_backward(&adaptive_shape, [](const auto& k) { return k.adaptive_avg_pool_backward; }),
        Arguments{function, dout, x, size});
  def(m, "adaptive_max_pool_forward", &adaptive_max_pool_forward, function, x, size, out);
  def(m, "adaptive_max_pool_backward", &adaptive_max_pool_backward, function, dout, x, size, fixed("argmax"));
  m.def("upsample_forward", planes_forward(&upsample_shape, [](const auto& k) { return k.upsample_forward; }),
        Arguments{function, x, scale, bilinear, align_corners, out});
  m.def("upsample_backward",
        planes_backward(&upsample_shape, [](const auto& k) { return k.upsample_backward; }),
        Arguments{function, dout, x, scale, bilinear, align_corners});
}

}  // namespace cnnlib
