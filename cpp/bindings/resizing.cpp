#include <array>

#include "arrays.hpp"

namespace cnnlib {
namespace {

void require_images(const char* function, const py::array& x) {
  require(x.ndim() == 4 && x.shape(1) >= 1 && x.shape(2) >= 1 && x.shape(3) >= 1, [&] {
    return std::string(function) + ": x must be (N, C, H, W) with C, H, W >= 1, got shape " + text(x);
  });
}

// A pair of numbers from 1 to 2^31.
void require_positive(const char* function, const char* name, const std::array<Index, 2>& pair) {
  for (const Index n : pair)
    require(n >= 1 && n < Index{1} << 31, [&] {
      return std::string(function) + ": " + name + " must be at least 1 and smaller than 2**31, got " +
             std::to_string(n);
    });
}

AdaptivePoolShape adaptive_shape(const char* function, const py::array& x, const std::array<Index, 2>& size) {
  require_images(function, x);
  require_positive(function, "size", size);
  require(x.shape(2) < Index{1} << 31 && x.shape(3) < Index{1} << 31,
          [&] { return std::string(function) + ": x is too large: its shape is " + text(x); });
  return {x.shape(0) * x.shape(1), x.shape(2), x.shape(3), size[0], size[1]};
}

template <class T>
py::array adaptive_avg_pool_forward(const char* function, const Array<T>& x, const std::array<Index, 2>& size,
                                    const MaybeArray<T>& out_buffer) {
  const AdaptivePoolShape s = adaptive_shape(function, x, size);
  return computed<T>(function, {x.shape(0), x.shape(1), s.OH, s.OW}, out_buffer,
                     [&](T* y) { kernels<T>().adaptive_avg_pool_forward(x.data(), y, s); });
}

template <class T>
py::array adaptive_avg_pool_backward(const char* function, const Array<T>& dout, const Array<T>& x,
                                     const std::array<Index, 2>& size) {
  const AdaptivePoolShape s = adaptive_shape(function, x, size);
  require_shape(function, "dout", dout, {x.shape(0), x.shape(1), s.OH, s.OW});
  return computed<T>(function, shape_of(x),
                     [&](T* to) { kernels<T>().adaptive_avg_pool_backward(dout.data(), to, s); });
}

// (out, argmax): where in its plane each window's maximum stands.
template <class T>
py::tuple adaptive_max_pool_forward(const char* function, const Array<T>& x, const std::array<Index, 2>& size,
                                    const MaybeArray<T>& out_buffer) {
  const AdaptivePoolShape s = adaptive_shape(function, x, size);
  const std::vector<Index> shape = {x.shape(0), x.shape(1), s.OH, s.OW};
  Array<T> out = result_array<T>(function, shape, out_buffer);
  Array<std::int64_t> argmax = new_array<std::int64_t>(function, shape);
  T* y = out.mutable_data();
  std::int64_t* arg = argmax.mutable_data();
  unlocked([&] { kernels<T>().adaptive_max_pool_forward(x.data(), y, arg, s); });
  return py::make_tuple(out, argmax);
}

template <class T>
py::array adaptive_max_pool_backward(const char* function, const Array<T>& dout, const Array<T>& x,
                                     const std::array<Index, 2>& size, const Array<std::int64_t>& argmax) {
  const AdaptivePoolShape s = adaptive_shape(function, x, size);
  require_shape(function, "dout", dout, {x.shape(0), x.shape(1), s.OH, s.OW});
  require_shape(function, "argmax", argmax, shape_of(dout));
  return computed<T>(function, shape_of(x), [&](T* to) {
    kernels<T>().adaptive_max_pool_backward(dout.data(), argmax.data(), to, s);
  });
}

UpsampleShape upsample_shape(const char* function, const py::array& x, const std::array<Index, 2>& scale,
                             bool bilinear, bool align_corners) {
  require_images(function, x);
  require_positive(function, "scale", scale);
  // Positions along an axis are kept as 32-bit numbers, and their products with sizes must be exact.
  for (const int axis : {0, 1})
    require(x.shape(2 + axis) <= (Index{1} << 31) / scale[axis], [&] {
      return std::string(function) + ": scale " + std::to_string(scale[axis]) + " makes x of shape " +
             text(x) + " too large";
    });
  return {x.shape(0) * x.shape(1), x.shape(2), x.shape(3), scale[0], scale[1], bilinear, align_corners};
}

template <class T>
py::array upsample_forward(const char* function, const Array<T>& x, const std::array<Index, 2>& scale,
                           bool bilinear, bool align_corners, const MaybeArray<T>& out_buffer) {
  const UpsampleShape s = upsample_shape(function, x, scale, bilinear, align_corners);
  return computed<T>(function, {x.shape(0), x.shape(1), s.H * s.scale_h, s.W * s.scale_w}, out_buffer,
                     [&](T* y) { kernels<T>().upsample_forward(x.data(), y, s); });
}

template <class T>
py::array upsample_backward(const char* function, const Array<T>& dout, const Array<T>& x,
                            const std::array<Index, 2>& scale, bool bilinear, bool align_corners) {
  const UpsampleShape s = upsample_shape(function, x, scale, bilinear, align_corners);
  require_shape(function, "dout", dout, {x.shape(0), x.shape(1), s.H * s.scale_h, s.W * s.scale_w});
  return computed<T>(function, shape_of(x),
                     [&](T* to) { kernels<T>().upsample_backward(dout.data(), to, s); });
}

}  // namespace

template <class T>
void bind_resizing(py::module_& m) {
  const auto x = py::arg("x").noconvert(), dout = py::arg("dout").noconvert();
  const auto out = py::arg("out").noconvert() = py::none();
  const auto function = py::arg("function"), size = py::arg("size"), scale = py::arg("scale");
  const auto bilinear = py::arg("bilinear"), align_corners = py::arg("align_corners");
  m.def("adaptive_avg_pool_forward", &adaptive_avg_pool_forward<T>, function, x, size, out);
  m.def("adaptive_avg_pool_backward", &adaptive_avg_pool_backward<T>, function, dout, x, size);
  m.def("adaptive_max_pool_forward", &adaptive_max_pool_forward<T>, function, x, size, out);
  m.def("adaptive_max_pool_backward", &adaptive_max_pool_backward<T>, function, dout, x, size,
        py::arg("argmax").noconvert());
  m.def("upsample_forward", &upsample_forward<T>, function, x, scale, bilinear, align_corners, out);
  m.def("upsample_backward", &upsample_backward<T>, function, dout, x, scale, bilinear, align_corners);
}

template void bind_resizing<float>(py::module_&);
template void bind_resizing<double>(py::module_&);

}  // namespace cnnlib
