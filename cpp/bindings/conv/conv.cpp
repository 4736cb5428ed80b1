#include <algorithm>
#include <array>
#include <iterator>
#include <optional>

#include "conv_shape.hpp"

namespace cnnlib {
namespace {

template <class T>
py::array conv_forward(const char* function, const Array<T>& x, const Array<T>& w, const MaybeArray<T>& b,
                       const py::object& conv_param, bool relu, const MaybeArray<T>& out_buffer) {
  const ConvShape s = conv_shape(function, x, w, conv_param);
  if (b) require_shape(function, "b", *b, {s.F});
  return computed<T>(
      function, {s.N, s.F, s.OH, s.OW}, out_buffer,
      [&](T* y) { kernels<T>().conv_forward(x.data(), w.data(), data_or_null(b), y, s, relu); }, products(s));
}

// (dx, dw, db), each None unless wanted.
template <class T>
py::tuple conv_backward(const char* function, const Array<T>& dout, const Array<T>& x, const Array<T>& w,
                        const py::object& conv_param, const Needs& needs) {
  const ConvShape s = conv_shape(function, x, w, conv_param);
  require_shape(function, "dout", dout, {s.N, s.F, s.OH, s.OW});
  const Gradients<T> g(function, x, w, s.F, needs);
  unlocked(
      [&] {
        kernels<T>().conv_backward(x.data(), w.data(), dout.data(), nullptr, g.dx_data, g.dw_data, g.db_data,
                                   s);
      },
      2 * products(s));
  return py::make_tuple(g.dx, g.dw, g.db);
}

// (dx, dw, db, dgamma, dbeta), the first three None unless wanted; `a` is the convolution's output.
template <class T>
py::tuple conv_bn_relu_backward(const char* function, const Array<T>& dout, const Array<T>& x,
                                const Array<T>& w, const Array<T>& a, const Array<double>& mean,
                                const Array<double>& inv_std, const Array<T>& gamma, const Array<T>& beta,
                                bool from_batch, const py::object& conv_param, const Needs& needs) {
  const ConvShape s = conv_shape(function, x, w, conv_param);
  require_shape(function, "dout", dout, {s.N, s.F, s.OH, s.OW});
  require_shape(function, "a", a, {s.N, s.F, s.OH, s.OW});
  require_channels(function, s.F, {{"mean", mean}, {"inv_std", inv_std}, {"gamma", gamma}, {"beta", beta}});
  const Gradients<T> g(function, x, w, s.F, needs);
  const Result<T> dgamma(function, {s.F}), dbeta(function, {s.F});
  const ConvNormGradients<T> gradients{dout.data(),    x.data(),     w.data(),    a.data(),   mean.data(),
                                       inv_std.data(), gamma.data(), beta.data(), from_batch, g.dx_data,
                                       g.dw_data,      g.db_data,    dgamma.data, dbeta.data};
  unlocked([&] { kernels<T>().conv_bn_relu_backward(gradients, s); });
  return py::make_tuple(g.dx, g.dw, g.db, dgamma.array, dbeta.array);
}

template <class T>
py::array conv_transpose_forward(const Array<T>& x, const Array<T>& w, const MaybeArray<T>& b,
                                 const py::object& conv_param, const MaybeArray<T>& out_buffer) {
  const ConvShape s = conv_transpose_shape("conv_transpose_forward", x, w, conv_param);
  if (b) require_shape("conv_transpose_forward", "b", *b, {s.C});
  return computed<T>("conv_transpose_forward", {s.N, s.C, s.H, s.W}, out_buffer, [&](T* y) {
    kernels<T>().conv_backward(nullptr, w.data(), x.data(), data_or_null(b), y, nullptr, nullptr, s);
  });
}

template <class T>
py::tuple conv_transpose_backward(const Array<T>& dout, const Array<T>& x, const Array<T>& w,
                                  const py::object& conv_param, const Needs& needs) {
  constexpr const char* function = "conv_transpose_backward";
  const ConvShape s = conv_transpose_shape(function, x, w, conv_param);
  require_shape(function, "dout", dout, {s.N, s.C, s.H, s.W});
  const Gradients<T> g(function, x, w, s.C, needs);
  unlocked([&] {
    run_conv_transpose_backward(dout.data(), x.data(), w.data(), g.dx_data, g.dw_data, g.db_data, s);
  });
  return py::make_tuple(g.dx, g.dw, g.db);
}

template <class T>
Array<T> borrowed(py::handle array) {
  return py::reinterpret_borrow<Array<T>>(array);
}
template <class T>
MaybeArray<T> borrowed_or_null(py::handle array) {
  return array.is_none() ? std::nullopt : MaybeArray<T>(borrowed<T>(array));
}

// body(T()) for the dtype T of `arrays` and b, which may be None; None where they need a closer look, which
// cnnlib.layers.conv takes.
template <std::size_t count, class Body>
py::object if_ready(const std::array<py::handle, count>& arrays, py::handle b, const Body& body) {
  PyObject* dtype = ready_dtype(arrays.data(), count);
  if (dtype == nullptr || (!b.is_none() && ready_dtype(&b, 1) != dtype)) return py::none();
  static const PyObject* const single = py::dtype::of<float>().release().ptr();
  return dtype == single ? body(float()) : body(double());
}

py::object ready_conv_forward(const char* function, py::handle x, py::handle w, py::handle b,
                              const py::object& conv_param, bool relu) {
  return if_ready(std::array{x, w}, b, [&](auto zero) -> py::object {
    using T = decltype(zero);
    return conv_forward<T>(function, borrowed<T>(x), borrowed<T>(w), borrowed_or_null<T>(b), conv_param, relu,
                           std::nullopt);
  });
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
py::object ready_conv_backward(const char* function, py::handle dout, py::handle cache, py::handle needs) {
  const auto needed = plainly_needed(needs);
  if (!needed || !PyTuple_Check(cache.ptr()) || PyTuple_GET_SIZE(cache.ptr()) != 4) return py::none();
  const auto part = [&](Py_ssize_t i) { return py::handle(PyTuple_GET_ITEM(cache.ptr(), i)); };
  const py::handle x = part(0), w = part(1), b = part(2);
  return if_ready(std::array{dout, x, w}, b, [&](auto zero) -> py::object {
    using T = decltype(zero);
    const auto [need_dx, need_dw, need_db] = *needed;
    return conv_backward<T>(function, borrowed<T>(dout), borrowed<T>(x), borrowed<T>(w),
                            py::reinterpret_borrow<py::object>(part(3)),
                            {need_dx, need_dw, need_db && !b.is_none()});
  });
}

// (method, cost in cycles, tile, blocks, threads, scratch bytes, packed bytes, [(method, cycles), ...]) of a
// pass, for arrays of these shapes.
template <class T>
py::tuple conv_plan(const ConvShape& s, Pass pass) {
  const ConvPlan plan = kernels<T>().conv_plan(s, pass);
  ConvCosts costs;
  const int count = kernels<T>().conv_costs(s, pass, costs);
  py::list alternatives;
  for (int i = 0; i < count; ++i)
    alternatives.append(py::make_tuple(name_of(costs[i].method), costs[i].cycles));
  py::dict blocks;
  for (const Block& block : plan.blocks)
    if (block.name != nullptr) blocks[block.name] = block.size;
  return py::make_tuple(name_of(plan.method), plan.cost, py::make_tuple(plan.tile_rows, plan.tile_columns),
                        blocks, plan.threads, plan.scratch_bytes, plan.packed_bytes, alternatives);
}

// The plans of the forward pass, dx and dw.
template <class T>
py::tuple conv_plans(const Array<T>& x, const Array<T>& w, const py::object& conv_param) {
  const ConvShape s = conv_shape("explain", x, w, conv_param);
  return py::make_tuple(conv_plan<T>(s, Pass::forward), conv_plan<T>(s, Pass::input_gradient),
                        conv_plan<T>(s, Pass::weight_gradient));
}

// Bytes that conv_bn_relu takes beside its arrays: (forward in mode 'train', backward).
template <class T>
std::pair<std::size_t, std::size_t> conv_bn_relu_scratch(const Array<T>& x, const Array<T>& w,
                                                         const py::object& conv_param) {
  const ConvNormScratch bytes = kernels<T>().conv_bn_relu_scratch(conv_shape("explain", x, w, conv_param));
  return {bytes.forward, bytes.backward};
}

}  // namespace

void bind_ready_conv(py::module_& m) {
  const auto function = py::arg("function"), conv_param = py::arg("conv_param");
  m.def("ready_conv_forward", &ready_conv_forward, function, py::arg("x"), py::arg("w"), py::arg("b"),
        conv_param, py::arg("relu"));
  m.def("ready_conv_backward", &ready_conv_backward, function, py::arg("dout"), py::arg("cache"),
        py::arg("needs"));
}

template <class T>
void bind_conv(py::module_& m) {
  const auto function = py::arg("function"), conv_param = py::arg("conv_param"), needs = py::arg("needs");
  const auto x = fixed("x"), w = fixed("w"), b = fixed("b").none(true), dout = fixed("dout");
  const auto out = fixed("out") = py::none();
  m.def("conv_forward", &conv_forward<T>, function, x, w, b, conv_param, py::arg("relu") = false, out);
  m.def("conv_plans", &conv_plans<T>, x, w, conv_param);
  m.def("conv_bn_relu_scratch", &conv_bn_relu_scratch<T>, x, w, conv_param);
  m.def("conv_backward", &conv_backward<T>, function, dout, x, w, conv_param, needs);
  m.def("conv_bn_relu_backward", &conv_bn_relu_backward<T>, function, dout, x, w, fixed("a"), fixed("mean"),
        fixed("inv_std"), fixed("gamma"), fixed("beta"), py::arg("from_batch"), conv_param, needs);
  m.def("conv_transpose_forward", &conv_transpose_forward<T>, x, w, b, conv_param, out);
  m.def("conv_transpose_backward", &conv_transpose_backward<T>, dout, x, w, conv_param, needs);
}

template void bind_conv<float>(py::module_&);
template void bind_conv<double>(py::module_&);

}  // namespace cnnlib
