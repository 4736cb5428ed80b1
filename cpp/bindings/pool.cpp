#include <tuple>

#include "pool_shape.hpp"

namespace cnnlib {
namespace {

// The output size of one axis. With ceil_mode a last window may hang over the end, provided that it
// starts inside the image or its leading padding.
Index windows(const char* function, const char* axis, Index size, Index window, Index stride, Index before,
              Index after, bool ceil_mode) {
  const Index room = size + before + after - window;
  require(room >= 0, function, ": the window is larger than the padded input along ", axis, ": ", window,
          " > ", size + before + after);
  Index count = room / stride + 1;
  if (ceil_mode && room % stride != 0 && count * stride < size + before) ++count;
  return count;
}

void require_positive(const char* function, const char* name, std::initializer_list<Index> numbers) {
  for (const Index n : numbers)
    require(n >= 1 && n < Index{1} << 31, function, ": ", name,
            " must be at least 1 and smaller than 2**31, got ", n);
}

}  // namespace

PoolShape pool_shape(const char* function, const py::array& x, const PoolGeometry& g, bool ceil_mode,
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

// (out, argmax): the winner of each window as kh * PW + kw, the type's largest number where there is none.
template <class T>
py::tuple max_pool_forward(const char* function, const Array<T>& x, const PoolGeometry& g, bool ceil_mode,
                           const MaybeArray<T>& out_buffer) {
  const PoolShape s = pool_shape(function, x, g, ceil_mode, false);
  const std::vector<Index> shape = {x.shape(0), x.shape(1), s.OH, s.OW};
  const Result<T> out(function, shape, out_buffer);
  py::array arg = new_array(function, shape, winner_dtype(s));
  void* a = arg.mutable_data();
  unlocked([&] { kernels<T>().max_pool_forward(x.data(), out.data, a, s); });
  return py::make_tuple(out.array, arg);
}

template <class T>
py::array max_pool_backward(const char* function, const Array<T>& dout, const Array<T>& x,
                            const PoolGeometry& g, bool ceil_mode, const py::array& argmax) {
  const PoolShape s = pool_shape(function, x, g, ceil_mode, false);
  require_shape(function, "dout", dout, {x.shape(0), x.shape(1), s.OH, s.OW});
  require_shape(function, "argmax", argmax, dout);
  const bool contiguous = (argmax.flags() & py::array::c_style) != 0;
  require(contiguous && argmax.dtype().equal(winner_dtype(s)), function,
          ": argmax is not what the forward pass returned");
  return computed<T>(function, x,
                     [&](T* to) { kernels<T>().max_pool_backward(dout.data(), argmax.data(), to, s); });
}

void require_images(const char* function, const py::array& x) {
  require(x.ndim() == 4 && x.shape(1) >= 1 && x.shape(2) >= 1 && x.shape(3) >= 1, function,
          ": x must be (N, C, H, W) with C, H, W >= 1, got shape ", x);
}

AdaptivePoolShape adaptive_shape(const char* function, const py::array& x, const std::array<Index, 2>& size) {
  require_images(function, x);
  require_positive(function, "size", {size[0], size[1]});
  require(x.shape(2) < Index{1} << 31 && x.shape(3) < Index{1} << 31, function,
          ": x is too large: its shape is ", x);
  return {x.shape(0) * x.shape(1), x.shape(2), x.shape(3), size[0], size[1]};
}

// (out, argmax): where in its plane each window's maximum stands.
template <class T>
py::tuple adaptive_max_pool_forward(const char* function, const Array<T>& x, const std::array<Index, 2>& size,
                                    const MaybeArray<T>& out_buffer) {
  const AdaptivePoolShape s = adaptive_shape(function, x, size);
  const std::vector<Index> shape = {x.shape(0), x.shape(1), s.OH, s.OW};
  const Result<T> out(function, shape, out_buffer);
  const Result<std::int64_t> argmax(function, shape);
  unlocked([&] { kernels<T>().adaptive_max_pool_forward(x.data(), out.data, argmax.data, s); });
  return py::make_tuple(out.array, argmax.array);
}

template <class T>
py::array adaptive_max_pool_backward(const char* function, const Array<T>& dout, const Array<T>& x,
                                     const std::array<Index, 2>& size, const Array<std::int64_t>& argmax) {
  const AdaptivePoolShape s = adaptive_shape(function, x, size);
  require_shape(function, "dout", dout, {x.shape(0), x.shape(1), s.OH, s.OW});
  require_shape(function, "argmax", argmax, dout);
  return computed<T>(function, x, [&](T* to) {
    kernels<T>().adaptive_max_pool_backward(dout.data(), argmax.data(), to, s);
  });
}

UpsampleShape upsample_shape(const char* function, const py::array& x, const std::array<Index, 2>& scale,
                             bool bilinear, bool align_corners) {
  require_images(function, x);
  require_positive(function, "scale", {scale[0], scale[1]});
  // Positions along an axis are kept as 32-bit numbers, and their products with sizes must be exact.
  for (const int axis : {0, 1})
    require(x.shape(2 + axis) <= (Index{1} << 31) / scale[axis], function, ": scale ", scale[axis],
            " makes x of shape ", x, " too large");
  return {x.shape(0) * x.shape(1), x.shape(2), x.shape(3), scale[0], scale[1], bilinear, align_corners};
}

template <class Shape>
std::array<Index, 2> outputs_of(const Shape& s) {
  return {s.OH, s.OW};
}
std::array<Index, 2> outputs_of(const UpsampleShape& s) { return {s.H * s.scale_h, s.W * s.scale_w}; }

// Layers whose shape is shape_of(function, x, args...) and whose kernel, a member of the table, keeps
// nothing.
template <class T, auto shape_of, auto kernel, class... Args>
py::array planes_forward(const char* function, const Array<T>& x, Args... args,
                         const MaybeArray<T>& out_buffer) {
  const auto s = shape_of(function, x, args...);
  const auto [OH, OW] = outputs_of(s);
  return computed<T>(function, {x.shape(0), x.shape(1), OH, OW}, out_buffer,
                     [&](T* y) { (kernels<T>().*kernel)(x.data(), y, s); });
}
template <class T, auto shape_of, auto kernel, class... Args>
py::array planes_backward(const char* function, const Array<T>& dout, const Array<T>& x, Args... args) {
  const auto s = shape_of(function, x, args...);
  const auto [OH, OW] = outputs_of(s);
  require_shape(function, "dout", dout, {x.shape(0), x.shape(1), OH, OW});
  return computed<T>(function, x, [&](T* dx) { (kernels<T>().*kernel)(dout.data(), dx, s); });
}

template <class T>
py::array global_avg_pool_forward(const Array<T>& x, const MaybeArray<T>& out_buffer) {
  require(x.ndim() == 4 && x.shape(2) >= 1 && x.shape(3) >= 1,
          "global_avg_pool_forward: x must be (N, C, H, W) with H, W >= 1, got shape ", x);
  const PoolShape s = even_pool(x.shape(0) * x.shape(1), 1, 1, x.shape(2), x.shape(3));
  return computed<T>("global_avg_pool_forward", {x.shape(0), x.shape(1)}, out_buffer,
                     [&](T* y) { kernels<T>().avg_pool_forward(x.data(), y, s); });
}

template <class T>
py::array global_avg_pool_backward(const Array<T>& dout, const std::array<Index, 4>& shape) {
  require_shape("global_avg_pool_backward", "dout", dout, {shape[0], shape[1]});
  const PoolShape s = even_pool(shape[0] * shape[1], 1, 1, shape[2], shape[3]);
  return computed<T>("global_avg_pool_backward", {shape.data(), 4},
                     [&](T* to) { kernels<T>().avg_pool_backward(dout.data(), to, s); });
}

}  // namespace

template <class T>
void bind_pool(py::module_& m) {
  using K = PoolKernels<T>;
  using Pair = std::array<Index, 2>;
  const auto x = fixed("x"), dout = fixed("dout"), function = py::arg("function");
  const auto out = fixed("out") = py::none();
  const auto geometry = py::arg("geometry"), ceil_mode = py::arg("ceil_mode"),
             count = py::arg("count_include_pad");
  m.def("max_pool_forward", &max_pool_forward<T>, function, x, geometry, ceil_mode, out);
  m.def("max_pool_backward", &max_pool_backward<T>, function, dout, x, geometry, ceil_mode,
        py::arg("argmax"));
  m.def("avg_pool_forward", &planes_forward<T, &pool_shape, &K::avg_pool_forward, PoolGeometry, bool, bool>,
        function, x, geometry, ceil_mode, count, out);
  m.def("avg_pool_backward",
        &planes_backward<T, &pool_shape, &K::avg_pool_backward, PoolGeometry, bool, bool>, function, dout, x,
        geometry, ceil_mode, count);
  m.def("global_avg_pool_forward", &global_avg_pool_forward<T>, x, out);
  m.def("global_avg_pool_backward", &global_avg_pool_backward<T>, dout, py::arg("shape"));
  const auto size = py::arg("size"), scale = py::arg("scale"), bilinear = py::arg("bilinear"),
             align_corners = py::arg("align_corners");
  m.def("adaptive_avg_pool_forward", &planes_forward<T, &adaptive_shape, &K::adaptive_avg_pool_forward, Pair>,
        function, x, size, out);
  m.def("adaptive_avg_pool_backward",
        &planes_backward<T, &adaptive_shape, &K::adaptive_avg_pool_backward, Pair>, function, dout, x, size);
  m.def("adaptive_max_pool_forward", &adaptive_max_pool_forward<T>, function, x, size, out);
  m.def("adaptive_max_pool_backward", &adaptive_max_pool_backward<T>, function, dout, x, size,
        fixed("argmax"));
  m.def("upsample_forward", &planes_forward<T, &upsample_shape, &K::upsample_forward, Pair, bool, bool>,
        function, x, scale, bilinear, align_corners, out);
  m.def("upsample_backward", &planes_backward<T, &upsample_shape, &K::upsample_backward, Pair, bool, bool>,
        function, dout, x, scale, bilinear, align_corners);
}

template void bind_pool<float>(py::module_&);
template void bind_pool<double>(py::module_&);

}  // namespace cnnlib
