#include <algorithm>

#include "arrays.hpp"

namespace cnnlib {

Activation activation_named(const char* function, const std::string& name) {
  const auto end = std::end(activation_names);
  const auto found = std::find(std::begin(activation_names), end, name);
  require(found != end, function, ": unknown activation ", name);
  return static_cast<Activation>(found - std::begin(activation_names));
}

namespace {

// The result, and, if it is wanted, the same once more for activation_backward: of functions whose gradient
// is taken from it.
template <class T>
py::tuple activation_forward(const char* function, const std::string& name, const Array<T>& x, double alpha,
                             bool want_copy) {
  const Activation kind = activation_named(function, name);
  const Result<T> y(function, x);
  MaybeArray<T> copy = array_if<T>(want_copy && from_result(kind), function, x);
  T* y_copy = mutable_or_null(copy);
  const Index n = x.size();
  unlocked(
      [&] { kernels<T>().activation_forward(kind, x.data(), y.data, y_copy, static_cast<T>(alpha), n); });
  return py::make_tuple(y.array, copy);
}

template <class T>
py::array activation_backward(const char* function, const std::string& name, const Array<T>& dout,
                              const Array<T>& kept, double alpha) {
  const Activation kind = activation_named(function, name);
  require_shape(function, "dout", dout, kept);
  const Index n = kept.size();
  return computed<T>(function, kept, [&](T* to) {
    kernels<T>().activation_backward(kind, dout.data(), kept.data(), to, static_cast<T>(alpha), n);
  });
}

// The result, and, if it is wanted, the same once more for softmax_backward.
template <class T>
py::tuple softmax_forward(const char* function, const Array<T>& x, bool want_copy) {
  const ScoresShape s = scores_shape(function, "x", "(N, C) or (N, C, H, W) with C, H, W >= 1", x);
  const Result<T> y(function, x);
  MaybeArray<T> copy = array_if<T>(want_copy, function, x);
  T* y_copy = mutable_or_null(copy);
  unlocked([&] { kernels<T>().softmax_forward(x.data(), y.data, y_copy, s.N, s.C, s.inner); });
  return py::make_tuple(y.array, copy);
}

template <class T>
py::array softmax_backward(const char* function, const Array<T>& dout, const Array<T>& y) {
  require_shape(function, "dout", dout, y);
  const ScoresShape s = scores_shape(function, "out in cache", "(N, C) or (N, C, H, W) with C, H, W >= 1", y);
  return computed<T>(function, y, [&](T* to) {
    kernels<T>().softmax_backward(dout.data(), y.data(), to, s.N, s.C, s.inner);
  });
}

}  // namespace

template <class T>
void bind_activations(py::module_& m) {
  const auto x = fixed("x"), dout = fixed("dout");
  const auto kept = fixed("kept"), y = fixed("y");
  const auto function = py::arg("function"), name = py::arg("name"), alpha = py::arg("alpha");
  const auto want_copy = py::arg("want_copy") = false;
  m.def("activation_forward", &activation_forward<T>, function, name, x, alpha, want_copy);
  m.def("activation_backward", &activation_backward<T>, function, name, dout, kept, alpha);
  m.def("softmax_forward", &softmax_forward<T>, function, x, want_copy);
  m.def("softmax_backward", &softmax_backward<T>, function, dout, y);
}

template void bind_activations<float>(py::module_&);
template void bind_activations<double>(py::module_&);

}  // namespace cnnlib
