// Layers with weights and norms, each as its layer of cnnlib.layers computes it. `x`, `out` are numbers of
// values, `w`, `b`, `gamma`, `beta` of parameters (-1: none).
#include "../conv/conv_shape.hpp"
#include "../program/checks.hpp"
#include "bound_training.hpp"

namespace cnnlib {
namespace {

// A layer that keeps its input, and what forward(k, batch, x, out) returns, for backward(k, batch, kept, x,
// dout, dx).
template <class Forward, class Backward>
void add_layer(BoundTraining& p, int x, int out, Relu relu, bool need_dx, const Forward& forward,
               const Backward& backward) {
  p.add(out, [=](Batch& batch) -> Batch::Backward {
    const Memory<void> input = batch.value(x);
    const Out y = batch.make(out);
    const auto kept = batch.kernels([&](const auto& k) { return forward(k, batch, input, y); });
    const KeptRelu kept_relu(batch, out, relu);
    return [=](Batch& taken) {
      const Memory<void> of_out = taken.take_gradient(out), dout = kept_relu.before(taken, out, of_out);
      taken.pass_to(x, need_dx, [&](Out dx) {
        taken.kernels([&](const auto& k) { backward(k, taken, kept, In(input), In(dout), dx); });
      });
    };
  });
}

struct Nothing {};

// A convolution that fits the values and parameters.
template <Direction direction>
ConvLayer<direction> checked_conv(BoundTraining& p, int x, int out, const Floats& like, const Floats& weights,
                                  int w, int b, const py::object& conv_param, bool relu = false) {
  const ConvLayer<direction> layer("loss", like, weights, conv_param, relu_if(relu));
  p.reads(x, layer.in);
  p.makes(out, layer.out);
  p.takes(w, weights.size());
  p.takes(b, layer.out[0], true);
  return layer;
}

template <Direction direction>
void conv_layer(BoundTraining& p, int x, int out, const Floats& like, const Floats& weights, int w, int b,
                const py::object& conv_param, bool relu, bool by_mask) {
  const auto layer = checked_conv<direction>(p, x, out, like, weights, w, b, conv_param, relu);
  add_layer(
      p, x, out,
      !relu     ? Relu::none
      : by_mask ? Relu::by_mask
                : Relu::by_result,
      p.wants(x),
      [=](const auto& k, Batch& batch, In in, Out y) {
        layer.of(batch.N).forward(k, in, batch.param(w), batch.param(b), y);
        return Nothing();
      },
      [=](const auto& k, Batch& batch, Nothing, In in, In dout, Out dx) {
        layer.of(batch.N).backward(k, dout, in, batch.param(w), dx, batch.param_gradient(w),
                                   batch.param_gradient(b));
      });
}

void conv_bn_relu_layer(BoundTraining& p, int x, int out, const Floats& like, const Floats& weights, int w,
                        int b, int gamma, int beta, const py::object& conv_param) {
  const auto layer = checked_conv<Direction::forward>(p, x, out, like, weights, w, b, conv_param);
  const ConvShape s = layer.shape();
  check_norm(p, gamma, beta, s.F);
  const std::size_t norm = p.new_norm(s.F);
  add_layer(
      p, x, out, Relu::none, p.wants(x),  // the kernels have their own
      [=](const auto& k, Batch& batch, In in, Out y) {
        const BatchStatistics own(batch, norm, s.F);
        const Memory<void> a = batch.like(out);
        layer.of(batch.N).forward(k, in, batch.param(w), batch.param(b), Out(a));
        k.batchnorm_train(In(a), batch.param(gamma), batch.param(beta), batch.eps[norm], y, own.mean.get(),
                          own.var.get(), own.inv_std.get(), {batch.N, s.F, s.OH * s.OW}, relu_if(true));
        return std::pair(own, a);
      },
      [=](const auto& k, Batch& batch, const std::pair<BatchStatistics, Memory<void>>& kept, In in, In dout,
          Out dx) {
        const auto& [own, a] = kept;
        k.conv_bn_relu_backward(
            {dout, in, batch.param(w), In(a), own.mean.get(), own.inv_std.get(), batch.param(gamma),
             batch.param(beta), true, dx, batch.param_gradient(w), batch.param_gradient(b),
             batch.param_gradient(gamma), batch.param_gradient(beta)},
            layer.of(batch.N).request);
      });
}

// Images (C, S), or features with an S of 1.
void batchnorm_layer(BoundTraining& p, int x, int out, Index C, Index S, int gamma, int beta, bool relu) {
  p.reads(x, {C, S});
  p.makes(out, {C, S});
  check_norm(p, gamma, beta, C);
  const std::size_t norm = p.new_norm(C);
  add_layer(
      p, x, out, Relu::none, true,  // the kernels have their own
      [=](const auto& k, Batch& batch, In in, Out y) {
        const BatchStatistics own(batch, norm, C);
        k.batchnorm_train(in, batch.param(gamma), batch.param(beta), batch.eps[norm], y, own.mean.get(),
                          own.var.get(), own.inv_std.get(), {batch.N, C, S}, relu_if(relu));
        return own;
      },
      [=](const auto& k, Batch& batch, const BatchStatistics& own, In in, In dout, Out dx) {
        k.batchnorm_backward(dout, in, own.mean.get(), own.inv_std.get(), batch.param(gamma),
                             relu ? batch.param(beta) : In(), dx, batch.param_gradient(gamma),
                             batch.param_gradient(beta), {batch.N, C, S}, true);
      });
}

// Each row by itself.
void row_norm_layer(BoundTraining& p, int x, int out, const std::array<Index, 5>& shape, int gamma, int beta,
                    double eps) {
  const RowNormShape s = row_norm_shape("loss", shape);
  p.reads(x, {s.rows, s.channels, s.S});
  p.makes(out, {s.rows, s.channels, s.S});
  check_norm(p, gamma, beta, s.C);
  using Kept = std::array<Memory<double>, 2>;  // mean and 1 / sqrt(variance + eps)
  add_layer(
      p, x, out, Relu::none, true,
      [=](const auto& k, Batch& batch, In in, Out y) {
        const RowNormShape images = of_images(s, batch.N);
        const Kept kept{new_memory<double>(images.rows), new_memory<double>(images.rows)};
        k.rownorm_forward(in, batch.param(gamma), batch.param(beta), eps, y, kept[0].get(), kept[1].get(),
                          images);
        return kept;
      },
      [=](const auto& k, Batch& batch, const Kept& kept, In in, In dout, Out dx) {
        k.rownorm_backward(dout, in, kept[0].get(), kept[1].get(), batch.param(gamma), dx,
                           batch.param_gradient(gamma), batch.param_gradient(beta), of_images(s, batch.N));
      });
}

void affine_layer(BoundTraining& p, int x, int out, Index D, Index M, int w, int b, bool relu) {
  p.reads(x, {D});
  p.makes(out, {M});
  require(elements_of({D, M}) > 0, "loss: weights without elements");
  p.takes(w, D * M);
  p.takes(b, M, true);
  add_layer(
      p, x, out, relu ? Relu::by_mask : Relu::none, p.wants(x),
      [=](const auto& k, Batch& batch, In in, Out y) {
        k.affine_forward(in, batch.param(w), batch.param(b), y, {batch.N, D, M, false}, relu_if(relu));
        return Nothing();
      },
      [=](const auto& k, Batch& batch, Nothing, In in, In dout, Out dx) {
        k.affine_backward(dout, in, batch.param(w), dx, batch.param_gradient(w), batch.param_gradient(b),
                          {batch.N, D, M, false});
      });
}

}  // namespace

void bind_weighted_layers(py::class_<BoundTraining>& program) {
  def(program, "conv(x, out, like, weights, w, b, conv_param, relu, by_mask)",
      &conv_layer<Direction::forward>);
  def(program, "conv_transpose(x, out, like, weights, w, b, conv_param, relu, by_mask)",
      &conv_layer<Direction::transposed>);
  def(program, "conv_bn_relu(x, out, like, weights, w, b, gamma, beta, conv_param)", &conv_bn_relu_layer);
  def(program, "batchnorm(x, out, C, S, gamma, beta, relu)", &batchnorm_layer);
  def(program, "row_norm(x, out, shape, gamma, beta, eps)", &row_norm_layer);
  def(program, "affine(x, out, D, M, w, b, relu)", &affine_layer);
}

}  // namespace cnnlib
