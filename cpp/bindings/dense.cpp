#include <algorithm>

#include "arrays.hpp"

namespace cnnlib {
namespace {

// x (N, D), w (D, M), or (M, D) where it lies transposed.
template <class T>
DenseShape dense_shape(const char* function, const Array<T>& x, const Array<T>& w, bool transposed) {
  std::vector<Index> shape(w.shape(), w.shape() + w.ndim());
  if (transposed) std::reverse(shape.begin(), shape.end());
  require(x.ndim() == 2 && w.ndim() == 2 && x.shape(1) == shape[0], function,
          ": x with D = d1 * ... * dk values a row needs w (D, M); x as (N, D) is ", x, ", w is ", shape);
  return {x.shape(0), x.shape(1), shape[1], transposed};
}

template <class T>
py::array affine_forward(const char* function, const Array<T>& x, const Array<T>& w, const MaybeArray<T>& b,
                         bool relu, bool transposed) {
  const DenseShape s = dense_shape(function, x, w, transposed);
  if (b) require_shape(function, "b", *b, {s.M});
  return computed<T>(function, {s.N, s.M}, [&](T* y) {
    kernels<T>().affine_forward(x.data(), w.data(), data_or_null(b), y, s, relu);
  });
}

// (dx (N, D), dw, db), each None unless wanted.
template <class T>
py::tuple affine_backward(const char* function, const Array<T>& dout, const Array<T>& x, const Array<T>& w,
                          const Needs& needs, bool transposed) {
  const DenseShape s = dense_shape(function, x, w, transposed);
  require_shape(function, "dout", dout, {s.N, s.M});
  const Gradients<T> g(function, {s.N, s.D}, {s.D, s.M}, s.M, needs);
  unlocked([&] {
    kernels<T>().affine_backward(dout.data(), x.data(), w.data(), g.dx_data, g.dw_data, g.db_data, s);
  });
  return py::make_tuple(g.dx, g.dw, g.db);
}

template <class T>
py::array relu_forward(const Array<T>& x) {
  const Index n = x.size();
  return computed<T>("relu_forward", x, [&](T* y) { kernels<T>().relu_forward(x.data(), y, n); });
}

template <class T>
py::array relu_backward(const char* function, const Array<T>& dout, const Array<T>& x) {
  require_shape(function, "dout", dout, x);
  const Index n = x.size();
  return computed<T>(function, x, [&](T* to) { kernels<T>().relu_backward(dout.data(), x.data(), to, n); });
}

// The mask of a ReLU from its result x: a bit for each element, set where the gradient passes.
template <class T>
py::array relu_mask(const char* function, const Array<T>& x) {
  const Index n = x.size();
  return computed<std::uint8_t>(function, {ceil_div(n, 8)},
                                [&](std::uint8_t* bits) { kernels<T>().relu_mask(x.data(), bits, n); });
}

// The gradient of a ReLU whose result had the shape of dout and this mask.
template <class T>
py::array relu_backward_by_mask(const char* function, const Array<T>& dout, const Array<std::uint8_t>& mask) {
  const Index n = dout.size();
  require_shape(function, "ReLU's mask in cache", mask, {ceil_div(n, 8)});
  return computed<T>(function, dout,
                     [&](T* to) { kernels<T>().relu_backward_by_mask(dout.data(), mask.data(), to, n); });
}

// out = kernel(a, b), a member of the table.
template <class T, void (*ElementwiseKernels<T>::*kernel)(const T*, const T*, T*, Index)>
py::array combined(const char* function, const Array<T>& a, const Array<T>& b) {
  require_shape(function, "b", b, a);
  const Index n = a.size();
  return computed<T>(function, a, [&](T* to) { (kernels<T>().*kernel)(a.data(), b.data(), to, n); });
}

// a += b
template <class T>
void add_to(const char* function, Array<T>& a, const Array<T>& b) {
  require_shape(function, "b", b, a);
  T* to = a.mutable_data();
  const Index n = a.size();
  unlocked([&] { kernels<T>().add(to, b.data(), to, n); });
}

}  // namespace

template <class T>
void bind_dense(py::module_& m) {
  const auto x = fixed("x"), w = fixed("w"), dout = fixed("dout");
  const auto b = fixed("b").none(true);
  const auto function = py::arg("function");
  m.def("affine_forward", &affine_forward<T>, function, x, w, b, py::arg("relu") = false,
        py::arg("transposed") = false);
  m.def("affine_backward", &affine_backward<T>, function, dout, x, w, py::arg("needs"),
        py::arg("transposed") = false);
  m.def("relu_forward", &relu_forward<T>, x);
  m.def("relu_backward", &relu_backward<T>, function, dout, x);
  m.def("relu_mask", &relu_mask<T>, function, x);
  m.def("relu_backward_by_mask", &relu_backward_by_mask<T>, function, dout, fixed("mask"));
  const auto a = fixed("a"), other = fixed("b");
  using K = ElementwiseKernels<T>;
  m.def("add", &combined<T, &K::add>, function, a, other);
  m.def("add_relu", &combined<T, &K::add_relu>, function, a, other);
  m.def("multiply", &combined<T, &K::multiply>, function, a, other);
  m.def("add_to", &add_to<T>, function, a, other);
}

template void bind_dense<float>(py::module_&);
template void bind_dense<double>(py::module_&);

}  // namespace cnnlib
