// Layers with weights and norms, each as its layer of cnnlib.layers computes it. `x`, `out` are numbers of
// values, `w`, `b`, `gamma`, `beta` of parameters (-1: none), `norm` of batch norms.
#include "../conv/conv_shape.hpp"
#include "../program/checks.hpp"
#include "bound_training.hpp"

namespace cnnlib {
namespace {

// Whether a ReLU follows a layer, and what the layer keeps of its result for it: the bits where the gradient
// passes or, where another layer keeps the result anyway, the result.
enum class Relu { none, by_mask, by_result };

template <class T>
struct KeptRelu {
  Memory<std::uint8_t> mask;
  Memory<T> y;

  KeptRelu(Batch<T>& batch, int out, Relu relu) {
    const Index n = batch.elements(out);
    if (relu == Relu::by_result) y = batch.value(out);
    if (relu != Relu::by_mask) return;
    mask = new_memory<std::uint8_t>(ceil_div(n, 8));
    kernels<T>().relu_mask(batch.value(out).get(), mask.get(), n);
  }

  // The gradient before the ReLU, or the output's, dout, where there is none.
  Memory<T> before(Batch<T>& batch, int out, const Memory<T>& dout) const {
    if (mask == nullptr && y == nullptr) return dout;
    Memory<T> result = batch.like(out);
    const Index n = batch.elements(out);
    if (mask != nullptr)
      kernels<T>().relu_backward_by_mask(dout.get(), mask.get(), result.get(), n);
    else
      kernels<T>().relu_backward(dout.get(), y.get(), result.get(), n);
    return result;
  }
};

// A layer that keeps its input, and what forward(batch, x, out) returns, for backward(batch, kept, x, dout,
// dx).
template <class T, class Forward, class Backward>
void add_layer(BoundTraining<T>& p, int x, int out, Relu relu, bool need_dx, const Forward& forward,
               const Backward& backward) {
  p.add([=](Batch<T>& batch) -> BatchBackward<T> {
    const Memory<T> input = batch.value(x);
    const auto kept = forward(batch, input.get(), batch.make(out));
    const KeptRelu<T> kept_relu(batch, out, relu);
    return [=](Batch<T>& taken) {
      const Memory<T> of_out = taken.take_gradient(out), dout = kept_relu.before(taken, out, of_out);
      taken.pass_to(x, need_dx, [&](T* dx) { backward(taken, kept, input.get(), dout.get(), dx); });
    };
  });
}

struct Nothing {};

template <class T>
void check_conv(BoundTraining<T>& p, int x, int out, const ConvShape& s, const Array<T>& weights, int w,
                int b) {
  p.reads(x, {s.C, s.H, s.W});
  p.makes(out, {s.F, s.OH, s.OW});
  p.takes(w, weights.size());
  p.takes(b, s.F, true);
}

template <class T>
void check_norm(const BoundTraining<T>& p, int gamma, int beta, Index C) {
  for (const int param : {gamma, beta}) {
    p.takes(param, C);
    require(p.trains(param), "loss: a norm that is frozen");
  }
}

template <class T>
void conv_layer(BoundTraining<T>& p, int x, int out, const Array<T>& like, const Array<T>& weights, int w,
                int b, const py::object& conv_param, bool relu, bool by_mask, bool need_dx) {
  const ConvShape s = conv_shape("loss", like, weights, conv_param);
  check_conv(p, x, out, s, weights, w, b);
  add_layer(
      p, x, out,
      !relu     ? Relu::none
      : by_mask ? Relu::by_mask
                : Relu::by_result,
      need_dx,
      [=](Batch<T>& batch, const T* in, T* y) {
        kernels<T>().conv_forward(in, batch.param(w), batch.param(b), y, of_images(s, batch.N), relu);
        return Nothing();
      },
      [=](Batch<T>& batch, Nothing, const T* in, const T* dout, T* dx) {
        kernels<T>().conv_backward(in, batch.param(w), dout, nullptr, dx, batch.param_gradient(w),
                                   batch.param_gradient(b), of_images(s, batch.N));
      });
}

template <class T>
void conv_transpose_layer(BoundTraining<T>& p, int x, int out, const Array<T>& like, const Array<T>& weights,
                          int w, int b, const py::object& conv_param, bool need_dx) {
  const ConvShape s = conv_transpose_shape("loss", like, weights, conv_param);
  p.reads(x, {s.F, s.OH, s.OW});
  p.makes(out, {s.C, s.H, s.W});
  p.takes(w, weights.size());
  p.takes(b, s.C, true);
  add_layer(
      p, x, out, Relu::none, need_dx,
      [=](Batch<T>& batch, const T* in, T* y) {
        kernels<T>().conv_backward(nullptr, batch.param(w), in, batch.param(b), y, nullptr, nullptr,
                                   of_images(s, batch.N));
        return Nothing();
      },
      [=](Batch<T>& batch, Nothing, const T* in, const T* dout, T* dx) {
        run_conv_transpose_backward(dout, in, batch.param(w), dx, batch.param_gradient(w),
                                    batch.param_gradient(b), of_images(s, batch.N));
      });
}

// Mean, variance and 1 / sqrt(variance + eps) of a batch norm's C channels, the first two left in the batch.
struct Statistics {
  Memory<double> mean, var, inv_std;

  template <class T>
  Statistics(Batch<T>& batch, std::size_t norm, Index C)
      : mean(batch.mean[norm] = new_memory<double>(C)),
        var(batch.var[norm] = new_memory<double>(C)),
        inv_std(new_memory<double>(C)) {}
};

template <class T>
void conv_bn_relu_layer(BoundTraining<T>& p, int x, int out, const Array<T>& like, const Array<T>& weights,
                        int w, int b, int gamma, int beta, std::size_t norm, const py::object& conv_param,
                        bool need_dx) {
  const ConvShape s = conv_shape("loss", like, weights, conv_param);
  check_conv(p, x, out, s, weights, w, b);
  check_norm(p, gamma, beta, s.F);
  p.has_norm(norm, s.F);
  add_layer(
      p, x, out, Relu::none, need_dx,  // the kernels have their own
      [=](Batch<T>& batch, const T* in, T* y) {
        const Statistics own(batch, norm, s.F);
        const Memory<T> a = batch.like(out);
        kernels<T>().conv_forward(in, batch.param(w), batch.param(b), a.get(), of_images(s, batch.N), false);
        kernels<T>().batchnorm_train(a.get(), batch.param(gamma), batch.param(beta), batch.eps[norm], y,
                                     own.mean.get(), own.var.get(), own.inv_std.get(),
                                     {batch.N, s.F, s.OH * s.OW}, true);
        return std::pair(own, a);
      },
      [=](Batch<T>& batch, const std::pair<Statistics, Memory<T>>& kept, const T* in, const T* dout, T* dx) {
        const auto& [own, a] = kept;
        kernels<T>().conv_bn_relu_backward(
            {dout, in, batch.param(w), a.get(), own.mean.get(), own.inv_std.get(), batch.param(gamma),
             batch.param(beta), true, dx, batch.param_gradient(w), batch.param_gradient(b),
             batch.param_gradient(gamma), batch.param_gradient(beta)},
            of_images(s, batch.N));
      });
}

// Images (C, S), or features with an S of 1.
template <class T>
void batchnorm_layer(BoundTraining<T>& p, int x, int out, Index C, Index S, int gamma, int beta,
                     std::size_t norm, bool relu) {
  p.reads(x, {C, S});
  p.makes(out, {C, S});
  check_norm(p, gamma, beta, C);
  p.has_norm(norm, C);
  add_layer(
      p, x, out, Relu::none, true,  // the kernels have their own
      [=](Batch<T>& batch, const T* in, T* y) {
        const Statistics own(batch, norm, C);
        kernels<T>().batchnorm_train(in, batch.param(gamma), batch.param(beta), batch.eps[norm], y,
                                     own.mean.get(), own.var.get(), own.inv_std.get(), {batch.N, C, S}, relu);
        return own;
      },
      [=](Batch<T>& batch, const Statistics& own, const T* in, const T* dout, T* dx) {
        kernels<T>().batchnorm_backward(dout, in, own.mean.get(), own.inv_std.get(), batch.param(gamma),
                                        relu ? batch.param(beta) : nullptr, dx, batch.param_gradient(gamma),
                                        batch.param_gradient(beta), {batch.N, C, S}, true);
      });
}

// Each row by itself.
template <class T>
void row_norm_layer(BoundTraining<T>& p, int x, int out, const std::array<Index, 5>& shape, int gamma,
                    int beta, double eps) {
  const RowNormShape s = row_norm_shape("loss", shape);
  p.reads(x, {s.rows, s.channels, s.S});
  p.makes(out, {s.rows, s.channels, s.S});
  check_norm(p, gamma, beta, s.C);
  using Kept = std::array<Memory<double>, 2>;  // mean and 1 / sqrt(variance + eps)
  add_layer(
      p, x, out, Relu::none, true,
      [=](Batch<T>& batch, const T* in, T* y) {
        const RowNormShape images = of_images(s, batch.N);
        const Kept kept{new_memory<double>(images.rows), new_memory<double>(images.rows)};
        kernels<T>().rownorm_forward(in, batch.param(gamma), batch.param(beta), eps, y, kept[0].get(),
                                     kept[1].get(), images);
        return kept;
      },
      [=](Batch<T>& batch, const Kept& kept, const T* in, const T* dout, T* dx) {
        kernels<T>().rownorm_backward(dout, in, kept[0].get(), kept[1].get(), batch.param(gamma), dx,
                                      batch.param_gradient(gamma), batch.param_gradient(beta),
                                      of_images(s, batch.N));
      });
}

template <class T>
void affine_layer(BoundTraining<T>& p, int x, int out, Index D, Index M, int w, int b, bool relu,
                  bool need_dx) {
  p.reads(x, {D});
  p.makes(out, {M});
  require(elements_of({D, M}) > 0, "loss: weights without elements");
  p.takes(w, D * M);
  p.takes(b, M, true);
  add_layer(
      p, x, out, relu ? Relu::by_mask : Relu::none, need_dx,
      [=](Batch<T>& batch, const T* in, T* y) {
        kernels<T>().affine_forward(in, batch.param(w), batch.param(b), y, {batch.N, D, M, false}, relu);
        return Nothing();
      },
      [=](Batch<T>& batch, Nothing, const T* in, const T* dout, T* dx) {
        kernels<T>().affine_backward(dout, in, batch.param(w), dx, batch.param_gradient(w),
                                     batch.param_gradient(b), {batch.N, D, M, false});
      });
}

}  // namespace

template <class T>
void bind_weighted_layers(py::class_<BoundTraining<T>>& program) {
  const auto x = py::arg("x"), out = py::arg("out"), w = py::arg("w"), b = py::arg("b");
  const auto gamma = py::arg("gamma"), beta = py::arg("beta"), norm = py::arg("norm");
  const auto like = fixed("like"), weights = fixed("weights");
  const auto conv_param = py::arg("conv_param"), has_relu = py::arg("relu"), need_dx = py::arg("need_dx");
  program
      .def("conv", &conv_layer<T>, x, out, like, weights, w, b, conv_param, has_relu, py::arg("by_mask"),
           need_dx)
      .def("conv_transpose", &conv_transpose_layer<T>, x, out, like, weights, w, b, conv_param, need_dx)
      .def("conv_bn_relu", &conv_bn_relu_layer<T>, x, out, like, weights, w, b, gamma, beta, norm, conv_param,
           need_dx)
      .def("batchnorm", &batchnorm_layer<T>, x, out, py::arg("C"), py::arg("S"), gamma, beta, norm, has_relu)
      .def("row_norm", &row_norm_layer<T>, x, out, py::arg("shape"), gamma, beta, py::arg("eps"))
      .def("affine", &affine_layer<T>, x, out, py::arg("D"), py::arg("M"), w, b, has_relu, need_dx);
}

template void bind_weighted_layers(py::class_<BoundTraining<float>>&);
template void bind_weighted_layers(py::class_<BoundTraining<double>>&);

}  // namespace cnnlib
