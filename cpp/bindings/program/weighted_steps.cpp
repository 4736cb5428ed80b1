// Steps with weights: convolutions, fully connected layers and norms.
#include <array>
#include <tuple>

#include "../conv/conv_shape.hpp"
#include "bound_program.hpp"

namespace cnnlib {
namespace {

// A layer ends with min(max(v, 0), bound), or with nothing without a bound.
Clamp<double> up_to(std::optional<double> bound) {
  return bound ? Clamp<double>{0, *bound} : Clamp<double>{};
}

template <Direction direction>
void conv_step(BoundProgram& p, const std::string& name, int input, int output, const Floats& like,
               const Floats& w, const MaybeFloats& b, const py::object& conv_param, bool add,
               std::optional<double> bound) {
  ConvLayer<direction> layer("prepare", like, w, conv_param, up_to(bound));
  layer.request = network_request(layer.request, p.live(), add);
  p.reads_and_writes(input, layer.in, output, layer.out);
  if (b) require_shape("prepare", "b", *b, {layer.out[0]});
  const int weights = p.takes(w), bias = p.takes(b);
  p.kernels([&](const auto& k) {
    const auto plan = planned(k, layer.request, layer.pass);
    p.add_packed_step(
        name + " [" + name_of(plan->choice.method) + "]", products(layer.shape()) / 8,
        plan->explain(1).packed_bytes, {weights},
        [=](const auto&, const Weights& from, Out packed) { plan->pack(from.array(weights), packed); },
        [=, activation = layer.activation](const auto&, const Frame& f, In packed) {
          plan->run({f.images,
                     f.read(input),
                     f.weights->array(weights),
                     packed,
                     {f.weights->array(bias), add, activation},
                     f.write(output)});
        });
  });
}

using InvertedResidualLayer = std::tuple<Floats, MaybeFloats, std::optional<double>>;  // w, b, bound

// Its convolutions: numbers of arrays, and what follows.
struct ConvOfBlock {
  int w, b;
  Clamp<double> activation;

  template <class T>
  typename InvertedResidualLayers<T>::Layer with(const Weights& from) const {
    return {from.array(w), {from.array(b), false, activation}};
  }
};
using BlockLayers = std::array<ConvOfBlock, 3>;

// Those layers with their arrays, of whichever type a kernel takes.
struct LayersWithArrays {
  const BlockLayers& layers;
  const Weights& from;

  template <class T>
  operator InvertedResidualLayers<T>() const {
    return {layers[0].with<T>(from), layers[1].with<T>(from), layers[2].with<T>(from)};
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
  BlockLayers block;
  std::vector<int> arrays;
  for (std::size_t i = 0; i < 3; ++i) {
    const auto& [w, b, bound] = layers[i];
    block[i].w = p.takes(w);
    block[i].b = p.takes(b);
    block[i].activation = up_to(bound);
    arrays.insert(arrays.end(), {block[i].w, block[i].b});
  }
  const auto size = p.kernels([&](const auto& k) { return k.inverted_residual_packed_size(s); });
  const std::size_t bytes = checked_product(size, static_cast<std::size_t>(p.kernels.item()));
  const double work = products(d) + double(d.C) * double(s.F * d.OH * d.OW + s.C * d.H * d.W);
  p.add_packed_step(
      name + " [inverted-residual]", work / 8, bytes, arrays,
      [=](const auto& k, const Weights& from, Out packed) {
        k.pack_inverted_residual(s, LayersWithArrays{block, from}, packed);
      },
      [=](const auto& k, const Frame& f, In packed) {
        InvertedResidualShape images = s;
        images.N = f.images;
        k.run_inverted_residual(images, LayersWithArrays{block, *f.weights}, packed, f.read(input),
                                other < 0 ? In() : f.read(other), f.write(output));
      });
}

// A product with one row of each sample, or with each of several rows.
void affine_step(BoundProgram& p, const std::string& name, int input, int output, const Floats& w,
                 const MaybeFloats& b, std::optional<double> bound) {
  require(w.ndim() == 2, "prepare: w must have shape (D, M), got ", w);
  const Index D = w.shape(0), M = w.shape(1);
  require(D > 0 && M > 0, "prepare: w must not be empty, got ", w);
  const Index rows = std::max<Index>(1, p.size_of(input) / D);
  p.reads_and_writes(input, {rows, D}, output, {rows, M});
  if (b) require_shape("prepare", "b", *b, {M});
  const int weights = p.takes(w), bias = p.takes(b);
  p.add_step(name, double(rows) * double(D) * double(M) / 8, [=](const auto& k, const Frame& f) {
    k.affine_forward(f.read(input), f.weights->array(weights), f.weights->array(bias), f.write(output),
                     {f.images * rows, D, M, false}, up_to(bound));
  });
}

// By the statistics (C,) of a batch norm over images (C, S).
void normalize_step(BoundProgram& p, const std::string& name, int input, int output, Index S,
                    const MaybeArray<double>& mean, const MaybeArray<double>& inv_std, const Floats& gamma,
                    const Floats& beta, std::optional<double> bound) {
  const Index C = gamma.size();
  p.reads_and_writes(input, {C, S}, output, {C, S});
  require_shapes("prepare", {C}, {{"gamma", gamma}, {"beta", beta}});
  const std::size_t statistics = p.takes_statistics(C, mean, inv_std);
  const int g = p.takes(gamma), b = p.takes(beta);
  p.add_step(name, double(C) * double(S) / 4, [=](const auto& k, const Frame& f) {
    const Weights::Statistics& own = f.weights->norms[statistics];
    k.batchnorm_normalize(f.read(input), own.mean, own.inv_std, f.weights->array(g), f.weights->array(b),
                          f.write(output), {f.images, C, S}, up_to(bound));
  });
}

void row_norm_step(BoundProgram& p, const std::string& name, int input, int output,
                   const std::array<Index, 5>& shape, double eps, const Floats& gamma, const Floats& beta) {
  const RowNormShape s = row_norm_shape("prepare", shape);
  p.reads_and_writes(input, {s.rows, s.channels, s.S}, output, {s.rows, s.channels, s.S});
  require(gamma.size() == s.C && beta.size() == s.C, "prepare: gamma and beta must have ", s.C, " elements");
  const int g = p.takes(gamma), b = p.takes(beta);
  p.add_step(name, double(s.rows * s.channels) * double(s.S) / 2, [=](const auto& k, const Frame& f) {
    k.rownorm_forward(f.read(input), f.weights->array(g), f.weights->array(b), eps, f.write(output), nullptr,
                      nullptr, of_images(s, f.images));
  });
}

}  // namespace

void bind_weighted_steps(py::class_<BoundProgram>& program) {
  def(program, "conv(name, input, output, like, w, b, conv_param, add, bound)",
      &conv_step<Direction::forward>);
  def(program, "conv_transpose(name, input, output, like, w, b, conv_param, add, bound)",
      &conv_step<Direction::transposed>);
  def(program, "inverted_residual(name, input, other, output, like, layers, conv_param)",
      &inverted_residual_step);
  def(program, "affine(name, input, output, w, b, bound)", &affine_step);
  def(program, "normalize(name, input, output, S, mean, inv_std, gamma, beta, bound)", &normalize_step);
  def(program, "row_norm(name, input, output, shape, eps, gamma, beta)", &row_norm_step);
}

}  // namespace cnnlib
