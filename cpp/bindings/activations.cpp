#include <algorithm>

#include "arrays.hpp"

namespace cnnlib {

Activation activation_named(Text function, Text name) {
  const auto end = std::end(activation_names);
  const auto found = std::find(std::begin(activation_names), end, name);
  require(found != end, function, ": unknown activation ", name);
  return static_cast<Activation>(found - std::begin(activation_names));
}

namespace {

// The result, and, if it is wanted, the same once more for activation_backward: of functions whose gradient
// is taken from it.
py::tuple activation_forward(Text function, Text name, const Floats& x, double alpha, bool want_copy) {
  const Activation kind = activation_named(function, name);
  const FloatsResult y(function, x, x), copy(function, x, x, want_copy && from_result(kind));
  const Index n = x.size();
  unlocked(x, [&](const auto& k) { k.activation_forward(kind, x, y, copy, alpha, n); });
  return py::make_tuple(y, copy);
}

py::object activation_backward(Text function, Text name, const Floats& dout, const Floats& kept,
                               double alpha) {
  const Activation kind = activation_named(function, name);
  require_shape(function, "dout", dout, kept);
  const Index n = kept.size();
  return computed(function, kept,
                  [&](const auto& k, Out dx) { k.activation_backward(kind, dout, kept, dx, alpha, n); });
}

// The result, and, if it is wanted, the same once more for softmax_backward.
py::tuple softmax_forward(Text function, const Floats& x, bool want_copy) {
  const ScoresShape s = scores_shape(function, "x", "(N, C) or (N, C, H, W) with C, H, W >= 1", x);
  const FloatsResult y(function, x, x), copy(function, x, x, want_copy);
  unlocked(x, [&](const auto& k) { k.softmax_forward(x, y, copy, s.N, s.C, s.inner); });
  return py::make_tuple(y, copy);
}

py::object softmax_backward(Text function, const Floats& dout, const Floats& y) {
  require_shape(function, "dout", dout, y);
  const ScoresShape s = scores_shape(function, "out in cache", "(N, C) or (N, C, H, W) with C, H, W >= 1", y);
  return computed(function, y,
                  [&](const auto& k, Out dx) { k.softmax_backward(dout, y, dx, s.N, s.C, s.inner); });
}

}  // namespace

void bind_activations(py::module_& m) {
  const auto x = fixed("x"), dout = fixed("dout");
  const auto kept = fixed("kept"), y = fixed("y");
  const auto function = py::arg("function"), name = py::arg("name"), alpha = py::arg("alpha");
  const auto want_copy = py::arg("want_copy") = false;
  def(m, "activation_forward", &activation_forward, function, name, x, alpha, want_copy);
  def(m, "activation_backward", &activation_backward, function, name, dout, kept, alpha);
  def(m, "softmax_forward", &softmax_forward, function, x, want_copy);
  def(m, "softmax_backward", &softmax_backward, function, dout, y);
}

}  // namespace cnnlib
