#include <tuple>

#include "../memory/scratch.hpp"
#include "pool_shape.hpp"

namespace cnnlib {
namespace {

// The output size of one axis. With ceil_mode a last window may hang over the end, provided that it
// starts inside the image or its leading padding.
Index windows(const char* function, const char* axis, Index size, Index window, Index stride, Index before,
              Index after, bool ceil_mode) {
  const Index room = size + before + after - window;
  require(room >= 0, [&] {
    return std::string(function) + ": the window is larger than the padded input along " + axis + ": " +
           std::to_string(window) + " > " + std::to_string(size + before + after);
  });
  Index count = room / stride + 1;
  if (ceil_mode && room % stride != 0 && count * stride < size + before) ++count;
  return count;
}

}  // namespace

PoolShape pool_shape(const char* function, const py::array& x, const PoolGeometry& g, bool ceil_mode,
                     bool count_include_pad) {
  require(x.ndim() == 4, [&] {
    return std::string(function) + ": x must have 4 dimensions (N, C, H, W), got shape " + text(x);
  });
  require(x.shape(2) >= 1 && x.shape(3) >= 1,
          [&] { return std::string(function) + ": x has an empty image: its shape is " + text(x); });
  static constexpr const char* names[] = {"pool_height", "pool_width", "stride", "stride",   "pad",
                                          "pad",         "pad",        "pad",    "dilation", "dilation"};
  for (const int i : {0, 1, 2, 3, 8, 9, 4, 5, 6, 7}) {  // pads after what the window consists of
    const Index least = i >= 4 && i <= 7 ? 0 : 1;
    const Index window = i >= 4 && i <= 7 ? (g[i < 6 ? 0 : 1] - 1) * g[i < 6 ? 8 : 9] + 1 : Index{1} << 31;
    require(g[i] >= least && g[i] < window, [&] {
      return std::string(function) + ": " + names[i] + " must be at least " + std::to_string(least) +
             " and smaller than " +
             (window == Index{1} << 31 ? "2**31" : "the window (" + std::to_string(window) + ")") + ", got " +
             std::to_string(g[i]);
    });
  }
  PoolShape s{};
  s.planes = x.shape(0) * x.shape(1);
  s.H = x.shape(2);
  s.W = x.shape(3);
  std::tie(s.PH, s.PW, s.stride_h, s.stride_w, s.pad_top, s.pad_bottom, s.pad_left, s.pad_right, s.dilation_h,
           s.dilation_w) = std::tuple_cat(g);
  s.count_include_pad = count_include_pad;
  s.OH = windows(function, "H", s.H, (s.PH - 1) * s.dilation_h + 1, s.stride_h, s.pad_top, s.pad_bottom,
                 ceil_mode);
  s.OW = windows(function, "W", s.W, (s.PW - 1) * s.dilation_w + 1, s.stride_w, s.pad_left, s.pad_right,
                 ceil_mode);
  require(s.PH * s.PW < UINT32_MAX, [&] { return std::string(function) + ": the window is too large"; });
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
  Array<T> out = result_array<T>(function, shape, out_buffer);
  py::array arg = new_array(function, shape, winner_dtype(s));
  T* y = out.mutable_data();
  void* a = arg.mutable_data();
  unlocked([&] { kernels<T>().max_pool_forward(x.data(), y, a, s); });
  return py::make_tuple(out, arg);
}

// Without an argmax plane it is found again from x.
template <class T>
py::array max_pool_backward(const char* function, const Array<T>& dout, const Array<T>& x,
                            const PoolGeometry& g, bool ceil_mode, const std::optional<py::array>& argmax) {
  const PoolShape s = pool_shape(function, x, g, ceil_mode, false);
  require_shape(function, "dout", dout, {x.shape(0), x.shape(1), s.OH, s.OW});
  if (argmax) {
    require_shape(function, "argmax", *argmax, shape_of(dout));
    const bool contiguous = (argmax->flags() & py::array::c_style) != 0;
    require(contiguous && argmax->dtype().equal(winner_dtype(s)),
            [&] { return std::string(function) + ": argmax is not what the forward pass returned"; });
  }
  const Index outputs = s.planes * s.OH * s.OW;
  return computed<T>(function, shape_of(x), [&](T* to) {
    const Kernels<T>& k = kernels<T>();
    if (argmax) return k.max_pool_backward(dout.data(), argmax->data(), to, s);
    const Scratch arg(static_cast<std::size_t>(outputs * s.winner_bytes()));
    const Scratch out(static_cast<std::size_t>(outputs) * sizeof(T));
    k.max_pool_forward(x.data(), static_cast<T*>(out.data()), arg.data(), s);
    k.max_pool_backward(dout.data(), arg.data(), to, s);
  });
}

template <class T>
py::array avg_pool_forward(const char* function, const Array<T>& x, const PoolGeometry& g, bool ceil_mode,
                           bool count_include_pad, const MaybeArray<T>& out_buffer) {
  const PoolShape s = pool_shape(function, x, g, ceil_mode, count_include_pad);
  return computed<T>(function, {x.shape(0), x.shape(1), s.OH, s.OW}, out_buffer,
                     [&](T* y) { kernels<T>().avg_pool_forward(x.data(), y, s); });
}

template <class T>
py::array avg_pool_backward(const char* function, const Array<T>& dout, const Array<T>& x,
                            const PoolGeometry& g, bool ceil_mode, bool count_include_pad) {
  const PoolShape s = pool_shape(function, x, g, ceil_mode, count_include_pad);
  require_shape(function, "dout", dout, {x.shape(0), x.shape(1), s.OH, s.OW});
  return computed<T>(function, shape_of(x),
                     [&](T* to) { kernels<T>().avg_pool_backward(dout.data(), to, s); });
}

template <class T>
py::array global_avg_pool_forward(const Array<T>& x, const MaybeArray<T>& out_buffer) {
  require(x.ndim() == 4 && x.shape(2) >= 1 && x.shape(3) >= 1, [&] {
    return "global_avg_pool_forward: x must be (N, C, H, W) with H, W >= 1, got shape " + text(x);
  });
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
  const auto x = py::arg("x").noconvert(), dout = py::arg("dout").noconvert();
  const auto out = py::arg("out").noconvert() = py::none();
  const auto function = py::arg("function");
  const auto geometry = py::arg("geometry"), ceil_mode = py::arg("ceil_mode"),
             count = py::arg("count_include_pad");
  m.def("max_pool_forward", &max_pool_forward<T>, function, x, geometry, ceil_mode, out);
  m.def("max_pool_backward", &max_pool_backward<T>, function, dout, x, geometry, ceil_mode,
        py::arg("argmax") = py::none());
  m.def("avg_pool_forward", &avg_pool_forward<T>, function, x, geometry, ceil_mode, count, out);
  m.def("avg_pool_backward", &avg_pool_backward<T>, function, dout, x, geometry, ceil_mode, count);
  m.def("global_avg_pool_forward", &global_avg_pool_forward<T>, x, out);
  m.def("global_avg_pool_backward", &global_avg_pool_backward<T>, dout, py::arg("shape"));
}

template void bind_pool<float>(py::module_&);
template void bind_pool<double>(py::module_&);

}  // namespace cnnlib
