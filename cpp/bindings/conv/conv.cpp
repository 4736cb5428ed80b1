#include <algorithm>
#include <array>
#include <iterator>
#include <optional>

#include "conv_shape.hpp"

namespace cnnlib {
namespace {

template <Direction direction>
py::object conv_forward(Text function, const Floats& x, const Floats& w, const MaybeFloats& b,
                        const py::object& conv_param, bool relu, const MaybeFloats& out_buffer) {
  const ConvLayer<direction> layer(function, x, w, conv_param, relu_if(relu));
  if (b) require_shape(function, "b", *b, {layer.out[0]});
  return computed(
      function, layer.out_shape(), x, out_buffer, [&](const auto& k, Out y) { layer.forward(k, x, w, b, y); },
      products(layer.shape()));
}

// (dx, dw, db), each None unless wanted.
template <Direction direction>
py::tuple conv_backward(Text function, const Floats& dout, const Floats& x, const Floats& w,
                        const py::object& conv_param, const Needs& needs) {
  const ConvLayer<direction> layer(function, x, w, conv_param);
  require_shape(function, "dout", dout, layer.out_shape());
  const Gradients g(function, x, x, w, layer.out[0], needs);
  unlocked(
      x, [&](const auto& k) { layer.backward(k, dout, x, w, g.dx, g.dw, g.db); },
      2 * products(layer.shape()));
  return py::make_tuple(g.dx, g.dw, g.db);
}

// (dx, dw, db, dgamma, dbeta), the first three None unless wanted; `a` is the convolution's output.
py::tuple conv_bn_relu_backward(Text function, const Floats& dout, const Floats& x, const Floats& w,
                                const Floats& a, const Array<double>& mean, const Array<double>& inv_std,
                                const Floats& gamma, const Floats& beta, bool from_batch,
                                const py::object& conv_param, const Needs& needs) {
  const ConvRequest request = conv_request(function, x, w, conv_param);
  const ConvShape& s = request.shape;
  require_shapes(function, {s.N, s.F, s.OH, s.OW}, {{"dout", dout}, {"a", a}});
  require_shapes(function, {s.F}, {{"mean", mean}, {"inv_std", inv_std}, {"gamma", gamma}, {"beta", beta}});
  const Gradients g(function, x, x, w, s.F, needs);
  const FloatsResult dgamma(function, {s.F}, x), dbeta(function, {s.F}, x);
  unlocked(x, [&](const auto& k) {
    k.conv_bn_relu_backward(
        {dout, x, w, a, mean, inv_std, gamma, beta, from_batch, g.dx, g.dw, g.db, dgamma, dbeta}, request);
  });
  return py::make_tuple(g.dx, g.dw, g.db, dgamma, dbeta);
}

Floats borrowed(py::handle array) { return py::reinterpret_borrow<Floats>(array); }

// None where the kernels cannot take the arrays as they are: cnnlib.layers.conv takes a closer look then.
py::object ready_conv_forward(Text function, py::handle x, py::handle w, py::handle b,
                              const py::object& conv_param, bool relu) {
  const py::handle arrays[] = {x, w, b};
  if (ready_dtype(arrays, b.is_none() ? 2 : 3) == nullptr) return py::none();
  return conv_forward<Direction::forward>(function, borrowed(x), borrowed(w),
                                          b.is_none() ? std::nullopt : MaybeFloats(borrowed(b)), conv_param,
                                          relu, std::nullopt);
}

// Whether dx, dw and db are asked for: None asks for all, a tuple names them. Nothing for other things.
std::optional<Needs> plainly_needed(py::handle needs) {
  constexpr const char* names[] = {"dx", "dw", "db"};
  if (needs.is_none()) return std::array{true, true, true};
  if (!PyTuple_CheckExact(needs.ptr())) return std::nullopt;
  Needs needed{};
  for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(needs.ptr()); ++i) {
    PyObject* item = PyTuple_GET_ITEM(needs.ptr(), i);
    const auto named = std::find_if(std::begin(names), std::end(names), [&](const char* name) {
      return PyUnicode_CheckExact(item) && PyUnicode_CompareWithASCIIString(item, name) == 0;
    });
    if (named == std::end(names)) return std::nullopt;
    needed[named - names] = true;
  }
  return needed;
}

// `cache` is (x, w, b, conv_param).
py::object ready_conv_backward(Text function, py::handle dout, py::handle cache, py::handle needs) {
  const auto needed = plainly_needed(needs);
  if (!needed || !PyTuple_Check(cache.ptr()) || PyTuple_GET_SIZE(cache.ptr()) != 4) return py::none();
  const auto part = [&](Py_ssize_t i) { return py::handle(PyTuple_GET_ITEM(cache.ptr(), i)); };
  const py::handle x = part(0), w = part(1), b = part(2);
  const py::handle arrays[] = {dout, x, w, b};
  if (ready_dtype(arrays, b.is_none() ? 3 : 4) == nullptr) return py::none();
  const auto [need_dx, need_dw, need_db] = *needed;
  return conv_backward<Direction::forward>(function, borrowed(dout), borrowed(x), borrowed(w),
                                           py::reinterpret_borrow<py::object>(part(3)),
                                           {need_dx, need_dw, need_db && !b.is_none()});
}

// (method, cost in cycles, tile, blocks, threads, scratch bytes, packed bytes, [(method, cycles), ...]) of a
// pass, for arrays of these shapes.
py::tuple conv_plan(bool single, const ConvRequest& request, Pass pass) {
  ConvCosts costs;
  const auto [explained, count] = AnyKernels(single)([&](const auto& k) {
    return std::pair(k.explain_conv(request, pass), k.conv_costs(request, pass, costs));
  });
  const auto& [choice, plan] = explained;
  py::list alternatives;
  for (int i = 0; i < count; ++i)
    alternatives.append(py::make_tuple(name_of(costs[i].method), costs[i].cycles));
  py::dict blocks;
  for (const Block& block : plan.blocks)
    if (block.name != nullptr) blocks[block.name] = block.size;
  return py::make_tuple(name_of(choice.method), choice.cycles,
                        py::make_tuple(plan.tile_rows, plan.tile_columns), blocks, plan.threads,
                        plan.scratch_bytes, plan.packed_bytes, alternatives);
}

// The plans of the forward pass, dx and dw.
py::tuple conv_plans(const Floats& x, const Floats& w, const py::object& conv_param) {
  const ConvRequest request = conv_request("explain", x, w, conv_param);
  const bool single = x.single();
  return py::make_tuple(conv_plan(single, request, Pass::forward),
                        conv_plan(single, request, Pass::input_gradient),
                        conv_plan(single, request, Pass::weight_gradient));
}

// Bytes that conv_bn_relu takes beside its arrays: (forward in mode 'train', backward).
std::pair<std::size_t, std::size_t> conv_bn_relu_scratch(const Floats& x, const Floats& w,
                                                         const py::object& conv_param) {
  const ConvRequest request = conv_request("explain", x, w, conv_param);
  const ConvNormScratch bytes =
      AnyKernels(x.single())([&](const auto& k) { return k.conv_bn_relu_scratch(request); });
  return {bytes.forward, bytes.backward};
}

}  // namespace

void bind_conv(py::module_& m) {
  def(m, "ready_conv_forward(function, x, w, b, conv_param, relu)", &ready_conv_forward);
  def(m, "ready_conv_backward(function, dout, cache, needs)", &ready_conv_backward);
  def(m, "conv_forward(function, x, w, b, conv_param, relu=False, out=None)",
      &conv_forward<Direction::forward>);
  def(m, "conv_transpose_forward(function, x, w, b, conv_param, relu=False, out=None)",
      &conv_forward<Direction::transposed>);
  def(m, "conv_plans(x, w, conv_param)", &conv_plans);
  def(m, "conv_bn_relu_scratch(x, w, conv_param)", &conv_bn_relu_scratch);
  def(m, "conv_backward(function, dout, x, w, conv_param, needs)", &conv_backward<Direction::forward>);
  def(m, "conv_transpose_backward(function, dout, x, w, conv_param, needs)",
      &conv_backward<Direction::transposed>);
  def(m,
      "conv_bn_relu_backward(function, dout, x, w, a, mean, inv_std, gamma, beta, from_batch, conv_param, "
      "needs)",
      &conv_bn_relu_backward);
  bind_conv_algorithm(m);
  bind_prepared_conv(m);
}

}  // namespace cnnlib
