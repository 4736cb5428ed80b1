#include <algorithm>

#include "arrays.hpp"

namespace cnnlib {
namespace {

// x (N, D), w (D, M), or (M, D) where it lies transposed.
DenseShape dense_shape(Text function, const Floats& x, const Floats& w, bool transposed) {
  std::vector<Index> shape(w.shape(), w.shape() + w.ndim());
  if (transposed) std::reverse(shape.begin(), shape.end());
  require(x.ndim() == 2 && w.ndim() == 2 && x.shape(1) == shape[0], function,
          ": x with D = d1 * ... * dk values a row needs w (D, M); x as (N, D) is ", x, ", w is ", shape);
  return {x.shape(0), x.shape(1), shape[1], transposed};
}

py::object affine_forward(Text function, const Floats& x, const Floats& w, const MaybeFloats& b, bool relu,
                          bool transposed) {
  const DenseShape s = dense_shape(function, x, w, transposed);
  if (b) require_shape(function, "b", *b, {s.M});
  return computed(function, {s.N, s.M}, x, {},
                  [&](const auto& k, Out y) { k.affine_forward(x, w, b, y, s, relu); });
}

// (dx (N, D), dw, db), each None unless wanted.
py::tuple affine_backward(Text function, const Floats& dout, const Floats& x, const Floats& w,
                          const Needs& needs, bool transposed) {
  const DenseShape s = dense_shape(function, x, w, transposed);
  require_shape(function, "dout", dout, {s.N, s.M});
  const Gradients g(function, x, {s.N, s.D}, {s.D, s.M}, s.M, needs);
  unlocked(x, [&](const auto& k) { k.affine_backward(dout, x, w, g.dx, g.dw, g.db, s); });
  return py::make_tuple(g.dx, g.dw, g.db);
}

py::object relu_forward(const Floats& x) {
  const Index n = x.size();
  return computed("relu_forward", x, [&](const auto& k, Out y) { k.relu_forward(x, y, n); });
}

py::object relu_backward(Text function, const Floats& dout, const Floats& x) {
  require_shape(function, "dout", dout, x);
  const Index n = x.size();
  return computed(function, x, [&](const auto& k, Out dx) { k.relu_backward(dout, x, dx, n); });
}

// The mask of a ReLU from its result x: a bit for each element, set where the gradient passes.
py::object relu_mask(Text function, const Floats& x) {
  const Index n = x.size();
  const Result<std::uint8_t> bits(function, {ceil_div(n, 8)});
  unlocked(x, [&](const auto& k) { k.relu_mask(x, bits, n); });
  return bits;
}

// The gradient of a ReLU whose result had the shape of dout and this mask.
py::object relu_backward_by_mask(Text function, const Floats& dout, const Array<std::uint8_t>& mask) {
  const Index n = dout.size();
  require_shape(function, "ReLU's mask in cache", mask, {ceil_div(n, 8)});
  return computed(function, dout, [&](const auto& k, Out dx) { k.relu_backward_by_mask(dout, mask, dx, n); });
}

// out = kernel_of(k)(a, b)
template <class KernelOf>
py::object combined(Text function, const Floats& a, const Floats& b, const KernelOf& kernel_of) {
  require_shape(function, "b", b, a);
  const Index n = a.size();
  return computed(function, a, [&](const auto& k, Out out) { kernel_of(k)(a, b, out, n); });
}
py::object add(Text function, const Floats& a, const Floats& b) {
  return combined(function, a, b, [](const auto& k) { return k.add; });
}
py::object add_relu(Text function, const Floats& a, const Floats& b) {
  return combined(function, a, b, [](const auto& k) { return k.add_relu; });
}
py::object multiply(Text function, const Floats& a, const Floats& b) {
  return combined(function, a, b, [](const auto& k) { return k.multiply; });
}

// a += b
void add_to(Text function, Floats& a, const Floats& b) {
  require_shape(function, "b", b, a);
  const Out to = a.mutable_data();
  const Index n = a.size();
  unlocked(a, [&](const auto& k) { k.add(to, b, to, n); });
}

}  // namespace

void bind_dense(py::module_& m) {
  const auto x = fixed("x"), w = fixed("w"), dout = fixed("dout");
  const auto b = fixed("b").none(true);
  const auto function = py::arg("function");
  def(m, "affine_forward", &affine_forward, function, x, w, b, py::arg("relu") = false,
      py::arg("transposed") = false);
  def(m, "affine_backward", &affine_backward, function, dout, x, w, py::arg("needs"),
      py::arg("transposed") = false);
  def(m, "relu_forward", &relu_forward, x);
  def(m, "relu_backward", &relu_backward, function, dout, x);
  def(m, "relu_mask", &relu_mask, function, x);
  def(m, "relu_backward_by_mask", &relu_backward_by_mask, function, dout, fixed("mask"));
  const auto a = fixed("a"), other = fixed("b");
  def(m, "add", &add, function, a, other);
  def(m, "add_relu", &add_relu, function, a, other);
  def(m, "multiply", &multiply, function, a, other);
  def(m, "add_to", &add_to, function, a, other);
}

}  // namespace cnnlib
