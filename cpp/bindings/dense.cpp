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
                  [&](const auto& k, Out y) { k.affine_forward(x, w, b, y, s, relu_if(relu)); });
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

template <Join kind>
py::object joined(Text function, const Floats& a, const Floats& b) {
  require_shape(function, "b", b, a);
  const Index n = a.size();
  return computed(function, a, [&](const auto& k, Out out) { k.join(kind, a, b, out, n); });
}

// a += b
void add_to(Text function, Floats& a, const Floats& b) {
  require_shape(function, "b", b, a);
  const Out to = a.mutable_data();
  const Index n = a.size();
  unlocked(a, [&](const auto& k) { k.join(Join::add, to, b, to, n); });
}

}  // namespace

void bind_dense(py::module_& m) {
  def(m, "affine_forward(function, x, w, b, relu, transposed)", &affine_forward);
  def(m, "affine_backward(function, dout, x, w, needs, transposed)", &affine_backward);
  def(m, "relu_mask(function, x)", &relu_mask);
  def(m, "relu_backward_by_mask(function, dout, mask)", &relu_backward_by_mask);
  def(m, "add(function, a, b)", &joined<Join::add>);
  def(m, "add_relu(function, a, b)", &joined<Join::add_relu>);
  def(m, "multiply(function, a, b)", &joined<Join::multiply>);
  def(m, "add_to(function, a, b)", &add_to);
}

}  // namespace cnnlib
