// Steps with weights: convolutions, fully connected layers and norms.
#include <array>
#include <tuple>

#include "../conv/conv_shape.hpp"
#include "bound_program.hpp"

namespace cnnlib {
namespace {

template <Direction direction>
void conv_step(BoundProgram& p, const std::string& name, int input, int output, const Floats& like,
               const Floats& w, const MaybeFloats& b, const py::object& conv_param, bool add, bool relu,
               double most) {
  auto layer = ConvLayer<direction>("prepare", like, w, conv_param, relu).of(1);
  layer.request.weights = WeightUse::streamed;
  p.reads_and_writes(input, layer.in, output, layer.out);
  if (b) require_shape("prepare", "b", *b, {layer.out[0]});
  const In weights = p.keep(w);
  const Epilogue epilogue{p.keep(b), add, relu, most};
  p.kernels([&](const auto& k) {
    const auto plan = planned(k, layer.request, layer.pass);
    require(!add || plan->choice.adds, "prepare: a convolution that cannot add to its output");
    const std::size_t bytes = plan->explain(1).packed_bytes;
    const Out packed = p.new_weights(bytes);
    plan->pack(weights, packed);
    p.add_step(
        name + " [" + name_of(plan->choice.method) + "]", products(layer.shape()) / 8,
        [=](const Frame& f) {
          plan->run({f.images, f.read(input), weights, packed, epilogue, f.write(output)});
        },
        bytes);
  });
}

using InvertedResidualLayer = std::tuple<Floats, MaybeFloats, bool, double>;  // w, b, relu, most

struct KeptLayers {
  In w[3];
  Epilogue epilogue[3];

  template <class T>
  operator InvertedResidualLayers<T>() const {
    return {{w[0], epilogue[0]}, {w[1], epilogue[1]}, {w[2], epilogue[2]}};
  }
};

// `like` is an array of no images of the input's size, conv_param the depthwise convolution's.
InvertedResidualShape inverted_residual_shape(const Floats& like,
                                              const std::array<InvertedResidualLayer, 3>& layers,
                                              const py::object& conv_param) {
  for (const auto& layer : layers) require_one_dtype(like, std::get<0>(layer), std::get<1>(layer));
  const Floats &expand = std::get<0>(layers[0]), &depthwise = std::get<0>(layers[1]);
  const Floats& project = std::get<0>(layers[2]);
  for (const Floats* array : {&like, &expand, &depthwise, &project})
    require(array->ndim() == 4, "prepare: 4 dimensions expected, got shape ", *array);
  const Floats hidden =
      new_array("prepare", {0, depthwise.shape(0), like.shape(2), like.shape(3)}, like.single());
  InvertedResidualShape s{1, like.shape(1), project.shape(0),
                          conv_request("prepare", hidden, depthwise, conv_param).shape};
  s.depthwise.N = 1;
  const ConvShape& d = s.depthwise;
  require(d.groups == d.C && d.F == d.C, "prepare: w must have one filter for each channel, got shape ",
          depthwise);
  require_shape("prepare", "w", expand, {d.C, s.C, 1, 1});
  require_shape("prepare", "w", project, {s.F, d.C, 1, 1});
  const Index outputs[] = {d.C, d.C, s.F};
  for (std::size_t i = 0; i < 3; ++i)
    if (const MaybeFloats& b = std::get<1>(layers[i])) require_shape("prepare", "b", *b, {outputs[i]});
  return s;
}

// `layers` are those of the three convolutions, conv_param the depthwise one's. `other` is a
// value to add to the result, or -1.
void inverted_residual_step(BoundProgram& p, const std::string& name, int input, int other, int output,
                            const Floats& like, const std::array<InvertedResidualLayer, 3>& layers,
                            const py::object& conv_param) {
  const InvertedResidualShape s = inverted_residual_shape(like, layers, conv_param);
  const ConvShape& d = s.depthwise;
  p.reads_and_writes(input, {s.C, d.H, d.W}, output, {s.F, d.OH, d.OW});
  if (other >= 0) p.reads(other, {s.F, d.OH, d.OW});
  KeptLayers kept;
  for (std::size_t i = 0; i < 3; ++i) {
    const auto& [w, b, relu, most] = layers[i];
    kept.w[i] = p.keep(w);
    kept.epilogue[i] = {p.keep(b), false, relu, most};
  }
  const auto size = p.kernels([&](const auto& k) { return k.inverted_residual_packed_size(s); });
  const std::size_t bytes = checked_product(size, static_cast<std::size_t>(p.kernels.item()));
  const Out packed = p.new_weights(bytes);
  p.kernels([&](const auto& k) { k.pack_inverted_residual(s, kept, packed); });
  const double work = products(d) + double(d.C) * double(s.F * d.OH * d.OW + s.C * d.H * d.W);
  p.add_step(
      name + " [inverted-residual]", work / 8,
      [=](const auto& k, const Frame& f) {
        InvertedResidualShape images = s;
        images.N = f.images;
        k.run_inverted_residual(images, kept, packed, f.read(input), other < 0 ? In() : f.read(other),
                                f.write(output));
      },
      bytes);
}

void affine_step(BoundProgram& p, const std::string& name, int input, int output, const Floats& w,
                 const MaybeFloats& b, bool relu) {
  require(w.ndim() == 2, "prepare: w must have shape (D, M), got ", w);
  const Index D = w.shape(0), M = w.shape(1);
  p.reads_and_writes(input, {D}, output, {M});
  if (b) require_shape("prepare", "b", *b, {M});
  const In weights = p.keep(w), bias = p.keep(b);
  p.add_step(name, double(D) * double(M) / 8, [=](const auto& k, const Frame& f) {
    k.affine_forward(f.read(input), weights, bias, f.write(output), {f.images, D, M, false}, relu);
  });
}

// By the statistics (C,) of a batch norm over images (C, S).
void normalize_step(BoundProgram& p, const std::string& name, int input, int output, Index S,
                    const Array<double>& mean, const Array<double>& inv_std, const Floats& gamma,
                    const Floats& beta, bool relu) {
  const Index C = gamma.size();
  p.reads_and_writes(input, {C, S}, output, {C, S});
  require_shapes("prepare", {C}, {{"mean", mean}, {"inv_std", inv_std}, {"gamma", gamma}, {"beta", beta}});
  const double *m = p.keep(mean), *i = p.keep(inv_std);
  const In g = p.keep(gamma), b = p.keep(beta);
  p.add_step(name, double(C) * double(S) / 4, [=](const auto& k, const Frame& f) {
    k.batchnorm_normalize(f.read(input), m, i, g, b, f.write(output), {f.images, C, S}, relu);
  });
}

void row_norm_step(BoundProgram& p, const std::string& name, int input, int output,
                   const std::array<Index, 5>& shape, double eps, const Floats& gamma, const Floats& beta) {
  const RowNormShape s = row_norm_shape("prepare", shape);
  p.reads_and_writes(input, {s.rows, s.channels, s.S}, output, {s.rows, s.channels, s.S});
  require_shapes("prepare", {s.C}, {{"gamma", gamma}, {"beta", beta}});
  const In g = p.keep(gamma), b = p.keep(beta);
  p.add_step(name, double(s.rows * s.channels) * double(s.S) / 2, [=](const auto& k, const Frame& f) {
    k.rownorm_forward(f.read(input), g, b, eps, f.write(output), nullptr, nullptr, of_images(s, f.images));
  });
}

}  // namespace

void bind_weighted_steps(py::class_<BoundProgram>& program) {
  def(program, "conv(name, input, output, like, w, b, conv_param, add, relu, most)",
      &conv_step<Direction::forward>);
  def(program, "conv_transpose(name, input, output, like, w, b, conv_param, add, relu, most)",
      &conv_step<Direction::transposed>);
  def(program, "inverted_residual(name, input, other, output, like, layers, conv_param)",
      &inverted_residual_step);
  def(program, "affine(name, input, output, w, b, relu)", &affine_step);
  def(program, "normalize(name, input, output, S, mean, inv_std, gamma, beta, relu)", &normalize_step);
  def(program, "row_norm(name, input, output, shape, eps, gamma, beta)", &row_norm_step);
}

}  // namespace cnnlib
