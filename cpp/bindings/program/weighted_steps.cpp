// Steps with weights: convolutions and fully connected layers.
#include <array>
#include <limits>
#include <tuple>

#include "../conv/conv_shape.hpp"
#include "bound_program.hpp"

namespace cnnlib {
namespace {

// A correlation of images of the shape s.N = 1: a convolution, or a transposed one, which is the dx of s.
template <class T>
void correlation_step(BoundProgram<T>& p, const std::string& name, int input, int output, const ConvShape& s,
                      Pass pass, const Array<T>& w, const MaybeArray<T>& b, bool add, bool relu, T most) {
  const std::vector<Index> x{s.C, s.H, s.W}, y{s.F, s.OH, s.OW};
  const bool forward = pass == Pass::forward;
  p.reads_and_writes(input, forward ? x : y, output, forward ? y : x);
  if (b) require_shape("prepare", "b", *b, {forward ? s.F : s.C});
  const Kernels<T>& k = p.kernels();
  const ConvPlan plan = k.prepare_network_conv(s, pass);
  require(!add || plan.adds, "prepare: a convolution that cannot add to its output");
  const T* weights = p.keep(w);
  T* const packed = p.new_weights(plan.packed_bytes);
  k.pack_conv(plan, weights, packed);
  const ConvEpilogue<T> epilogue{p.keep(b), add, relu, most};
  p.add_step(
      name + " [" + name_of(plan.method) + "]", products(s) / 8,
      [=, &k](const Frame<T>& f) {
        ConvPlan own = plan;
        own.shape.N = f.images;
        k.run_prepared_conv(own, f.read(input), weights, packed, epilogue, f.write(output));
      },
      plan.packed_bytes);
}

template <class T>
void conv_step(BoundProgram<T>& p, const std::string& name, int input, int output, const Array<T>& like,
               const Array<T>& w, const MaybeArray<T>& b, const py::object& conv_param, bool add, bool relu,
               double most) {
  const ConvShape s = of_images(conv_shape("prepare", like, w, conv_param), 1);
  correlation_step(p, name, input, output, s, Pass::forward, w, b, add, relu, static_cast<T>(most));
}

template <class T>
void conv_transpose_step(BoundProgram<T>& p, const std::string& name, int input, int output,
                         const Array<T>& like, const Array<T>& w, const MaybeArray<T>& b,
                         const py::object& conv_param) {
  const ConvShape s = of_images(conv_transpose_shape("prepare", like, w, conv_param), 1);
  correlation_step(p, name, input, output, s, Pass::input_gradient, w, b, false, false,
                   std::numeric_limits<T>::infinity());
}

template <class T>
using InvertedResidualLayer = std::tuple<Array<T>, MaybeArray<T>, bool, double>;  // w, b, relu, most

// `like` is an array of no images of the input's size, conv_param the depthwise convolution's.
template <class T>
InvertedResidualShape inverted_residual_shape(const Array<T>& like,
                                              const std::array<InvertedResidualLayer<T>, 3>& layers,
                                              const py::object& conv_param) {
  const Array<T>&expand = std::get<0>(layers[0]), &depthwise = std::get<0>(layers[1]);
  const Array<T>& project = std::get<0>(layers[2]);
  for (const Array<T>* array : {&like, &expand, &depthwise, &project})
    require(array->ndim() == 4, "prepare: 4 dimensions expected, got shape ", *array);
  const Array<T> hidden = new_array<T>("prepare", {0, depthwise.shape(0), like.shape(2), like.shape(3)});
  InvertedResidualShape s{1, like.shape(1), project.shape(0),
                          conv_shape("prepare", hidden, depthwise, conv_param)};
  s.depthwise.N = 1;
  const ConvShape& d = s.depthwise;
  require(d.groups == d.C && d.F == d.C, "prepare: w must have one filter for each channel, got shape ",
          depthwise);
  require_shape("prepare", "w", expand, {d.C, s.C, 1, 1});
  require_shape("prepare", "w", project, {s.F, d.C, 1, 1});
  const Index outputs[] = {d.C, d.C, s.F};
  for (std::size_t i = 0; i < 3; ++i)
    if (const MaybeArray<T>& b = std::get<1>(layers[i])) require_shape("prepare", "b", *b, {outputs[i]});
  return s;
}

// `layers` are those of the three convolutions, conv_param the depthwise one's. `other` is a
// value to add to the result, or -1.
template <class T>
void inverted_residual_step(BoundProgram<T>& p, const std::string& name, int input, int other, int output,
                            const Array<T>& like, const std::array<InvertedResidualLayer<T>, 3>& layers,
                            const py::object& conv_param) {
  const InvertedResidualShape s = inverted_residual_shape(like, layers, conv_param);
  const ConvShape& d = s.depthwise;
  p.reads_and_writes(input, {s.C, d.H, d.W}, output, {s.F, d.OH, d.OW});
  if (other >= 0) p.reads(other, {s.F, d.OH, d.OW});
  const auto own = [&](const InvertedResidualLayer<T>& layer) {
    const auto& [w, b, relu, most] = layer;
    return typename InvertedResidualLayers<T>::Layer{p.keep(w), {p.keep(b), false, relu, T(most)}};
  };
  const InvertedResidualLayers<T> all{own(layers[0]), own(layers[1]), own(layers[2])};
  const Kernels<T>& k = p.kernels();
  const std::size_t bytes = checked_product(k.inverted_residual_packed_size(s), sizeof(T));
  T* const packed = p.new_weights(bytes);
  k.pack_inverted_residual(s, all, packed);
  const double work = products(d) + double(d.C) * double(s.F * d.OH * d.OW + s.C * d.H * d.W);
  p.add_step(
      name + " [inverted-residual]", work / 8,
      [=, &k](const Frame<T>& f) {
        InvertedResidualShape images = s;
        images.N = f.images;
        k.run_inverted_residual(images, all, packed, f.read(input), other < 0 ? nullptr : f.read(other),
                                f.write(output));
      },
      bytes);
}

template <class T>
void affine_step(BoundProgram<T>& p, const std::string& name, int input, int output, const Array<T>& w,
                 const MaybeArray<T>& b, bool relu) {
  require(w.ndim() == 2, "prepare: w must have shape (D, M), got ", w);
  const Index D = w.shape(0), M = w.shape(1);
  p.reads_and_writes(input, {D}, output, {M});
  if (b) require_shape("prepare", "b", *b, {M});
  const Kernels<T>& k = p.kernels();
  const T *weights = p.keep(w), *bias = p.keep(b);
  p.add_step(name, double(D) * double(M) / 8, [=, &k](const Frame<T>& f) {
    k.affine_forward(f.read(input), weights, bias, f.write(output), {f.images, D, M, false}, relu);
  });
}

}  // namespace

template <class T>
void bind_weighted_steps(py::class_<BoundProgram<T>>& program) {
  const auto name = py::arg("name"), input = py::arg("input"), output = py::arg("output");
  const auto like = fixed("like"), w = fixed("w");
  const auto b = fixed("b").none(true), conv_param = py::arg("conv_param"), relu = py::arg("relu");
  program
      .def("conv", &conv_step<T>, name, input, output, like, w, b, conv_param, py::arg("add"), relu,
           py::arg("most"))
      .def("inverted_residual", &inverted_residual_step<T>, name, input, py::arg("other"), output, like,
           py::arg("layers"), conv_param)
      .def("conv_transpose", &conv_transpose_step<T>, name, input, output, like, w, b, conv_param)
      .def("affine", &affine_step<T>, name, input, output, w, b, relu);
}

template void bind_weighted_steps(py::class_<BoundProgram<float>>&);
template void bind_weighted_steps(py::class_<BoundProgram<double>>&);

}  // namespace cnnlib
