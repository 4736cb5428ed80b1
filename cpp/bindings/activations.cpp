#include <algorithm>

#include "activation_names.hpp"

namespace cnnlib {

Activation activation_named(const char* function, const std::string& name) {
  const auto end = std::end(activation_names);
  const auto found = std::find(std::begin(activation_names), end, name);
  require(found != end, [&] { return std::string(function) + ": unknown activation " + name; });
  return static_cast<Activation>(found - std::begin(activation_names));
}

namespace {

// `copy` gets the result too, unless it is none.
template <class T>
Array<T> activation_result(const char* function, Activation kind, const Array<T>& x, double alpha,
                           MaybeArray<T>& copy) {
  Array<T> out = new_array<T>(function, shape_of(x));
  T *y = out.mutable_data(), *again = mutable_or_null(copy);
  const Index n = x.size();
  unlocked([&] { kernels<T>().activation_forward(kind, x.data(), y, again, static_cast<T>(alpha), n); });
  return out;
}

template <class T>
py::array activation_forward(const char* function, const std::string& name, const Array<T>& x, double alpha) {
  MaybeArray<T> none;
  return activation_result(function, activation_named(function, name), x, alpha, none);
}

// For 'sigmoid' and 'tanh': the result, and the same once more, which activation_backward takes.
template <class T>
py::tuple activation_forward_with_copy(const char* function, const std::string& name, const Array<T>& x) {
  const Activation kind = activation_named(function, name);
  require(from_result(kind), [&] {
    return std::string(function) + ": the gradient of " + name + " is not taken from its result";
  });
  MaybeArray<T> copy = new_array<T>(function, shape_of(x));
  const Array<T> out = activation_result(function, kind, x, 0, copy);
  return py::make_tuple(out, copy);
}

template <class T>
py::array activation_backward(const char* function, const std::string& name, const Array<T>& dout,
                              const Array<T>& kept, double alpha) {
  const Activation kind = activation_named(function, name);
  require_shape(function, "dout", dout, shape_of(kept));
  const Index n = kept.size();
  return computed<T>(function, shape_of(kept), [&](T* to) {
    kernels<T>().activation_backward(kind, dout.data(), kept.data(), to, static_cast<T>(alpha), n);
  });
}

template <class T>
Array<T> softmax_result(const char* function, const Array<T>& x, MaybeArray<T>& copy) {
  const ScoresShape s = scores_shape(function, "x", "(N, C) or (N, C, H, W) with C, H, W >= 1", x);
  Array<T> out = new_array<T>(function, shape_of(x));
  T *y = out.mutable_data(), *again = mutable_or_null(copy);
  unlocked([&] { kernels<T>().softmax_forward(x.data(), y, again, s.N, s.C, s.inner); });
  return out;
}

template <class T>
py::array softmax_forward(const char* function, const Array<T>& x) {
  MaybeArray<T> none;
  return softmax_result(function, x, none);
}

// The result, and the same once more, which softmax_backward takes.
template <class T>
py::tuple softmax_forward_with_copy(const char* function, const Array<T>& x) {
  MaybeArray<T> copy = new_array<T>(function, shape_of(x));
  const Array<T> out = softmax_result(function, x, copy);
  return py::make_tuple(out, copy);
}

template <class T>
py::array softmax_backward(const char* function, const Array<T>& dout, const Array<T>& y) {
  require_shape(function, "dout", dout, shape_of(y));
  const ScoresShape s = scores_shape(function, "out in cache", "(N, C) or (N, C, H, W) with C, H, W >= 1", y);
  return computed<T>(function, shape_of(y), [&](T* to) {
    kernels<T>().softmax_backward(dout.data(), y.data(), to, s.N, s.C, s.inner);
  });
}

}  // namespace

template <class T>
void bind_activations(py::module_& m) {
  const auto x = py::arg("x").noconvert(), dout = py::arg("dout").noconvert();
  const auto kept = py::arg("kept").noconvert(), y = py::arg("y").noconvert();
  const auto function = py::arg("function"), name = py::arg("name"), alpha = py::arg("alpha");
  m.def("activation_forward", &activation_forward<T>, function, name, x, alpha);
  m.def("activation_forward_with_copy", &activation_forward_with_copy<T>, function, name, x);
  m.def("activation_backward", &activation_backward<T>, function, name, dout, kept, alpha);
  m.def("softmax_forward", &softmax_forward<T>, function, x);
  m.def("softmax_forward_with_copy", &softmax_forward_with_copy<T>, function, x);
  m.def("softmax_backward", &softmax_backward<T>, function, dout, y);
}

template void bind_activations<float>(py::module_&);
template void bind_activations<double>(py::module_&);

}  // namespace cnnlib
