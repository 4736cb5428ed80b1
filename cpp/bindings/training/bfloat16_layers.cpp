// Layers of training on bfloat16: values and their gradients are images of it, parameters and theirs floats.
// `x` and `out` are numbers of values, `w`, `b`, `gamma`, `beta` of parameters (-1: none).
#include "../../dispatch.hpp"
#include "../layers/image_layers.hpp"
#include "../program/narrow_values.hpp"
#include "bound_training.hpp"

namespace cnnlib {
namespace {

const BfloatKernels* training_kernels() {
  const BfloatKernels* kernels = active_bfloat16();
  require(kernels != nullptr, "loss: this processor has no instructions for bfloat16");
  return kernels;
}

void bfloat_narrow_layer(BoundTraining& p, int x, int out) {
  const BfloatKernels* const k = training_kernels();
  const BfloatImage s = p.makes_image(out, {p.size_of(x)});
  p.reads(x, shape_of(s));
  const bool need_dx = p.wants(x);
  p.add(out, [=](Batch& batch) -> Batch::Backward {
    k->narrow(In(batch.value(x)), s, batch.make(out), batch.N);
    return [=](Batch& taken) {
      const Memory<void> dout = taken.take_gradient(out);
      if (!need_dx) return;
      taken.pass_to(x, true, [&](Out dx) { k->widen(In(dout), s, dx, taken.N); });
    };
  });
}

void bfloat_widen_layer(BoundTraining& p, int x, int out) {
  const BfloatKernels* const k = training_kernels();
  const BfloatImage s = p.reads_image(x);
  p.makes(out, shape_of(s));
  p.add(out, [=](Batch& batch) -> Batch::Backward {
    k->widen(In(batch.value(x)), s, batch.make(out), batch.N);
    return [=](Batch& taken) {
      taken.pass_back(x, out, [&](In dout, Out dx) { k->narrow(dout, s, dx, taken.N); });
    };
  });
}

// A convolution from x to out. Images have the borders that its windows reach, and those of its gradient.
BfloatConv checked_bfloat_conv(BoundTraining& p, int x, int out, const Floats& weights, int w, int b,
                               const py::object& conv_param) {
  BfloatConv c = conv_of_image("loss", p.reads_image(x), weights, conv_param);
  c.y = p.makes_image(out, shape_of(c.y));
  require(reaches_inside(c) && (!p.wants(x) || gradient_reaches_inside(c)),
          "loss: a convolution or its gradient reaches beyond the border of its input");
  p.takes(w, weights.size());
  p.takes(b, c.shape.F, true);
  require(training_kernels()->gradients_fit(c) && training_kernels()->method(c).run != nullptr,
          "loss: a convolution without gradients in bfloat16");
  return c;
}

// The gradient before a ReLU, by its result; dout where there is none.
Memory<void> before_relu(const BfloatKernels& k, Batch& batch, int out, const Memory<void>& dout,
                         const Memory<void>& y) {
  if (y == nullptr) return dout;
  const Memory<void> result = batch.like(out);
  k.relu_backward(*batch.form(out).image, In(dout), In(y), Out(result), batch.N);
  return result;
}

void pass_back_conv(const BfloatKernels& k, Batch& batch, const BfloatConv& c, int x, bool need_dx,
                    const Memory<void>& input, const Memory<void>& dout, int w, int b) {
  batch.pass_to(x, need_dx, [&](Out dx) {
    k.conv_backward(
        k.method, c,
        {In(input), In(dout), batch.param(w), dx, batch.param_gradient(w), batch.param_gradient(b)}, batch.N);
  });
}

void bfloat_conv_layer(BoundTraining& p, int x, int out, const Floats& weights, int w, int b,
                       const py::object& conv_param, const std::optional<double>& bound) {
  const BfloatKernels* const k = training_kernels();
  BfloatConv c = checked_bfloat_conv(p, x, out, weights, w, b, conv_param);
  if (bound) c.epilogue.activation = {0, static_cast<float>(*bound)};
  require(!bound || *bound == std::numeric_limits<double>::infinity(), "loss: a ReLU with a bound");
  const bool need_dx = p.wants(x), relu = bound.has_value();
  p.add(out, [=](Batch& batch) -> Batch::Backward {
    const Memory<void> input = batch.value(x);
    k->conv_forward(k->method, c, batch.param(w), batch.param(b), In(input), batch.make(out), batch.N);
    const Memory<void> y = relu ? batch.value(out) : Memory<void>();
    return [=](Batch& taken) {
      const Memory<void> of_out = taken.take_gradient(out);
      pass_back_conv(*k, taken, c, x, need_dx, input, before_relu(*k, taken, out, of_out, y), w, b);
    };
  });
}

struct NormParams {
  int gamma, beta;
  std::size_t number;

  NormParams(BoundTraining& p, int of_gamma, int of_beta, Index C)
      : gamma(of_gamma), beta(of_beta), number(p.new_norm(C)) {
    check_norm(p, gamma, beta, C);
  }
  BatchStatistics forward(const BfloatKernels& k, Batch& batch, const BfloatNorm& s, In x, Out y) const {
    const BatchStatistics own(batch, number, s.x.C);
    k.norm_train(s, x, batch.param(gamma), batch.param(beta), batch.eps[number], y, own.mean.get(),
                 own.var.get(), own.inv_std.get(), batch.N);
    return own;
  }
  void backward(const BfloatKernels& k, Batch& batch, const BfloatNorm& s, const BatchStatistics& own,
                In dout, In x, Out dx) const {
    k.norm_backward(s,
                    {dout, x, own.mean.get(), own.inv_std.get(), batch.param(gamma), batch.param(beta), dx,
                     batch.param_gradient(gamma), batch.param_gradient(beta)},
                    batch.N);
  }
};

void bfloat_conv_bn_relu_layer(BoundTraining& p, int x, int out, const Floats& weights, int w, int b,
                               int gamma, int beta, const py::object& conv_param) {
  const BfloatKernels* const k = training_kernels();
  const BfloatConv c = checked_bfloat_conv(p, x, out, weights, w, b, conv_param);
  const NormParams norm(p, gamma, beta, c.shape.F);
  const BfloatNorm s{c.y, c.y, true};
  const bool need_dx = p.wants(x);
  p.add(out, [=](Batch& batch) -> Batch::Backward {
    const Memory<void> input = batch.value(x), a = batch.like(out);
    k->conv_forward(k->method, c, batch.param(w), batch.param(b), In(input), Out(a), batch.N);
    const BatchStatistics own = norm.forward(*k, batch, s, In(a), batch.make(out));
    return [=](Batch& taken) {
      const Memory<void> dout = taken.take_gradient(out), da = taken.like(out);
      norm.backward(*k, taken, s, own, In(dout), In(a), Out(da));
      pass_back_conv(*k, taken, c, x, need_dx, input, da, w, b);
    };
  });
}

void bfloat_norm_layer(BoundTraining& p, int x, int out, int gamma, int beta, bool relu) {
  const BfloatKernels* const k = training_kernels();
  const BfloatImage in = p.reads_image(x);
  const BfloatNorm s{in, p.makes_image(out, shape_of(in)), relu};
  const NormParams norm(p, gamma, beta, in.C);
  p.add(out, [=](Batch& batch) -> Batch::Backward {
    const Memory<void> input = batch.value(x);
    const BatchStatistics own = norm.forward(*k, batch, s, In(input), batch.make(out));
    return [=](Batch& taken) {
      taken.pass_back(x, out,
                      [&](In dout, Out dx) { norm.backward(*k, taken, s, own, dout, In(input), dx); });
    };
  });
}

void bfloat_pool_layer(BoundTraining& p, int x, int out, bool mean, const PoolGeometry& geometry,
                       bool ceil_mode, bool count_include_pad) {
  const BfloatKernels* const k = training_kernels();
  const BfloatImage in = p.reads_image(x);
  const PoolShape shape = pool_of_image("loss", in.C, in.H, in.W, geometry, ceil_mode, count_include_pad);
  require(shape.dilation_h == 1 && shape.dilation_w == 1, "loss: a pool with dilation in bfloat16");
  require(shape.PH * shape.PW <= UINT16_MAX, "loss: windows of too many pixels in bfloat16");
  const BfloatPool s{in, p.makes_image(out, {in.C, shape.OH, shape.OW}), shape};
  p.add(out, [=](Batch& batch) -> Batch::Backward {
    const In from = batch.value(x);
    const Out y = batch.make(out);
    if (mean) {
      k->avg_pool(s, from, y, batch.N);
      return [=](Batch& taken) {
        taken.pass_back(x, out, [&](In dout, Out dx) { k->avg_pool_backward(s, dout, dx, taken.N); });
      };
    }
    // Whole vectors are read at the last pixel.
    const auto places = new_memory<std::uint16_t>(batch.N * shape.OH * shape.OW * in.channels() + 32);
    k->max_pool_with_places(s, from, y, places.get(), batch.N);
    return [=](Batch& taken) {
      taken.pass_back(x, out,
                      [&](In dout, Out dx) { k->max_pool_backward(s, dout, places.get(), dx, taken.N); });
    };
  });
}

void bfloat_sum_layer(BoundTraining& p, const std::array<int, 2>& terms, int out, bool relu) {
  const BfloatKernels* const k = training_kernels();
  const BfloatImage a = p.reads_image(terms[0]), b = p.reads_image(terms[1]);
  const BfloatImage y = p.makes_image(out, shape_of(a));
  require(same_size(a, b), "loss: terms of a sum have different shapes");
  const std::array<bool, 2> wanted{p.wants(terms[0]), p.wants(terms[1])};
  const std::array<BfloatImage, 2> images{a, b};
  p.add(out, [=](Batch& batch) -> Batch::Backward {
    const In first = batch.value(terms[0]), second = batch.value(terms[1]);
    k->join({a, b, y, relu ? Join::add_relu : Join::add}, first, second, batch.make(out), batch.N);
    const Memory<void> kept = relu ? batch.value(out) : Memory<void>();
    return [=](Batch& taken) {
      const Memory<void> of_out = taken.take_gradient(out), dout = before_relu(*k, taken, out, of_out, kept);
      for (int i = 0; i < 2; ++i) {
        if (!wanted[i]) continue;
        if (lie_alike(images[i], y)) {
          taken.add_gradient(terms[i], dout);
          continue;
        }
        const Memory<void> dx = taken.like(terms[i]);
        k->take_channels(y, 0, images[i], In(dout), Out(dx), taken.N);
        taken.add_gradient(terms[i], dx);
      }
    };
  });
}

void bfloat_activation_layer(BoundTraining& p, int x, int out, Text function, double alpha) {
  const BfloatKernels* const k = training_kernels();
  const Activation kind = activation_named("loss", function);
  const BfloatImage in = p.reads_image(x), y = p.makes_image(out, shape_of(in));
  const auto slope = static_cast<float>(alpha);
  const auto& floats = active_isa().f32;
  const BfloatFunction forward = floats.activation_forward;
  const BfloatFunctionGradient backward = floats.activation_backward;
  const bool by_result = from_result(kind);
  p.add(out, [=](Batch& batch) -> Batch::Backward {
    const Memory<void> input = batch.value(x);
    k->activate(in, y, kind, slope, forward, In(input), batch.make(out), batch.N);
    const Memory<void> kept = by_result ? batch.value(out) : input;
    return [=](Batch& taken) {
      taken.pass_back(x, out, [&](In dout, Out dx) {
        k->activate_backward(by_result ? y : in, y, in, kind, slope, backward, dout, In(kept), dx, taken.N);
      });
    };
  });
}

void bfloat_concat_layer(BoundTraining& p, const std::vector<int>& xs, int out) {
  const BfloatKernels* const k = training_kernels();
  std::vector<BfloatImage> images;
  std::vector<bool> wanted;
  Index channels = 0;
  for (const int x : xs) {
    images.push_back(p.reads_image(x));
    wanted.push_back(p.wants(x));
    require(images.back().H == images[0].H && images.back().W == images[0].W, "loss: joined images differ");
    channels += images.back().C;
  }
  require(!xs.empty(), "loss: nothing to join");
  const BfloatImage y = p.makes_image(out, {channels, images[0].H, images[0].W});
  p.add(out, [=](Batch& batch) -> Batch::Backward {
    const Out to = batch.make(out);
    Index first = 0;
    for (std::size_t i = 0; i < xs.size(); first += images[i++].C)
      k->copy_channels(images[i], y, first, In(batch.value(xs[i])), to, batch.N);
    return [=](Batch& taken) {
      const Memory<void> dout = taken.take_gradient(out);
      Index at = 0;
      for (std::size_t i = 0; i < xs.size(); at += images[i++].C)
        if (wanted[i])
          taken.pass_to(xs[i], true,
                        [&](Out dx) { k->take_channels(y, at, images[i], In(dout), dx, taken.N); });
    };
  });
}

}  // namespace

void bind_bfloat16_layers(py::class_<BoundTraining>& program) {
  def(program, "narrow(x, out)", &bfloat_narrow_layer);
  def(program, "widen(x, out)", &bfloat_widen_layer);
  def(program, "bfloat_conv(x, out, weights, w, b, conv_param, bound)", &bfloat_conv_layer);
  def(program, "bfloat_conv_bn_relu(x, out, weights, w, b, gamma, beta, conv_param)",
      &bfloat_conv_bn_relu_layer);
  def(program, "bfloat_norm(x, out, gamma, beta, relu)", &bfloat_norm_layer);
  def(program, "bfloat_pool(x, out, mean, geometry, ceil_mode, count_include_pad)", &bfloat_pool_layer);
  def(program, "bfloat_sum(terms, out, relu)", &bfloat_sum_layer);
  def(program, "bfloat_activation(x, out, kind, alpha)", &bfloat_activation_layer);
  def(program, "bfloat_concat(xs, out)", &bfloat_concat_layer);
}

}  // namespace cnnlib
