// Layers with weights and norms, each as its layer of cnnlib.layers computes it. `x`, `out` are numbers of
// values, `w`, `b`, `gamma`, `beta` of parameters (-1: none), `norm` of batch norms.
#include "../conv/conv_shape.hpp"
#include "../program/checks.hpp"
#include "bound_training.hpp"

namespace cnnlib {
namespace {

// The bits of a ReLU's result y of so many elements where the gradient passes.
template <class T>
Memory<std::uint8_t> mask_of(const T* y, Index n) {
  auto mask = new_memory<std::uint8_t>(ceil_div(n, 8));
  kernels<T>().relu_mask(y, mask.get(), n);
  return mask;
}

// What a layer with a ReLU keeps of its result y: the mask or, where another layer keeps y anyway, y.
template <class T>
struct KeptRelu {
  Memory<std::uint8_t> mask;
  Memory<T> y;

  KeptRelu(Batch<T>& batch, int out, bool relu, bool by_mask) {
    if (relu && by_mask) mask = mask_of(batch.value(out).get(), batch.elements(out));
    if (relu && !by_mask) y = batch.value(out);
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
  p.takes(gamma, C);
  p.takes(beta, C);
}

template <class T>
void conv_layer(BoundTraining<T>& p, int x, int out, const Array<T>& like, const Array<T>& weights, int w,
                int b, const py::object& conv_param, bool relu, bool by_mask, bool need_dx) {
  const ConvShape one = conv_shape("loss", like, weights, conv_param);
  check_conv(p, x, out, one, weights, w, b);
  p.add([=](Batch<T>& batch) -> BatchBackward<T> {
    ConvShape s = one;
    s.N = batch.N;
    T* y = batch.make(out);
    kernels<T>().conv_forward(batch.value(x).get(), batch.param(w), batch.param(b), y, s, relu);
    const KeptRelu<T> kept_relu(batch, out, relu, by_mask);
    return [=, kept = batch.value(x)](Batch<T>& taken) {
      const Memory<T> behind = taken.take_gradient(out), dout = kept_relu.before(taken, out, behind);
      taken.pass_to(x, need_dx, [&](T* dx) {
        kernels<T>().conv_backward(kept.get(), taken.param(w), dout.get(), nullptr, dx,
                                   taken.param_gradient(w), taken.param_gradient(b), s);
      });
    };
  });
}

template <class T>
void conv_transpose_layer(BoundTraining<T>& p, int x, int out, const Array<T>& like, const Array<T>& weights,
                          int w, int b, const py::object& conv_param, bool need_dx) {
  const ConvShape one = conv_transpose_shape("loss", like, weights, conv_param);
  p.reads(x, {one.F, one.OH, one.OW});
  p.makes(out, {one.C, one.H, one.W});
  p.takes(w, weights.size());
  p.takes(b, one.C, true);
  p.add([=](Batch<T>& batch) -> BatchBackward<T> {
    ConvShape s = one;
    s.N = batch.N;
    kernels<T>().conv_backward(nullptr, batch.param(w), batch.value(x).get(), batch.param(b), batch.make(out),
                               nullptr, nullptr, s);
    return [=, kept = batch.value(x)](Batch<T>& taken) {
      const Kernels<T>& k = kernels<T>();
      const Memory<T> dout = taken.take_gradient(out);
      taken.pass_to(x, need_dx, [&](T* dx) {
        T *dw = taken.param_gradient(w), *db = taken.param_gradient(b);
        if (dx != nullptr) k.conv_forward(dout.get(), taken.param(w), nullptr, dx, s, false);
        if (dw != nullptr) k.conv_backward(dout.get(), nullptr, kept.get(), nullptr, nullptr, dw, nullptr, s);
        if (db != nullptr) k.bias_gradient(dout.get(), db, s.N, s.C, s.H * s.W);
      });
    };
  });
}

// Mean, variance and 1 / sqrt(variance + eps) of a batch norm's C channels.
struct Statistics {
  Memory<double> mean, var, inv_std;
  explicit Statistics(Index C)
      : mean(new_memory<double>(C)), var(new_memory<double>(C)), inv_std(new_memory<double>(C)) {}
  template <class T>
  void leave_in(Batch<T>& batch, std::size_t norm) const {
    batch.mean[norm] = mean;
    batch.var[norm] = var;
  }
};

template <class T>
void conv_bn_relu_layer(BoundTraining<T>& p, int x, int out, const Array<T>& like, const Array<T>& weights,
                        int w, int b, int gamma, int beta, std::size_t norm, const py::object& conv_param,
                        bool need_dx) {
  const ConvShape one = conv_shape("loss", like, weights, conv_param);
  check_conv(p, x, out, one, weights, w, b);
  check_norm(p, gamma, beta, one.F);
  p.has_norm(norm, one.F);
  p.add([=](Batch<T>& batch) -> BatchBackward<T> {
    ConvShape s = one;
    s.N = batch.N;
    const Statistics own(s.F);
    const Memory<T> a = batch.like(out);
    kernels<T>().conv_bn_relu_train(
        {batch.value(x).get(), batch.param(w), batch.param(b), batch.param(gamma), batch.param(beta),
         batch.eps[norm], a.get(), batch.make(out), own.mean.get(), own.var.get(), own.inv_std.get()},
        s);
    own.leave_in(batch, norm);
    return [=, kept = batch.value(x)](Batch<T>& taken) {
      const Memory<T> dout = taken.take_gradient(out);
      taken.pass_to(x, need_dx, [&](T* dx) {
        kernels<T>().conv_bn_relu_backward(
            {dout.get(), kept.get(), taken.param(w), a.get(), own.mean.get(), own.inv_std.get(),
             taken.param(gamma), taken.param(beta), true, dx, taken.param_gradient(w),
             taken.param_gradient(b), taken.param_gradient(gamma), taken.param_gradient(beta)},
            s);
      });
    };
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
  p.add([=](Batch<T>& batch) -> BatchBackward<T> {
    const BatchNormShape s{batch.N, C, S};
    const Statistics own(C);
    kernels<T>().batchnorm_train(batch.value(x).get(), batch.param(gamma), batch.param(beta), batch.eps[norm],
                                 batch.make(out), own.mean.get(), own.var.get(), own.inv_std.get(), s, relu);
    own.leave_in(batch, norm);
    return [=, kept = batch.value(x)](Batch<T>& taken) {
      taken.pass_back(x, out, [&](const T* dout, T* dx) {
        kernels<T>().batchnorm_backward(dout, kept.get(), own.mean.get(), own.inv_std.get(),
                                        taken.param(gamma), relu ? taken.param(beta) : nullptr, dx,
                                        taken.param_gradient(gamma), taken.param_gradient(beta), s, true);
      });
    };
  });
}

// Each row by itself: so many groups of an image's C channels, of S values each.
template <class T>
void row_norm_layer(BoundTraining<T>& p, int x, int out, const std::array<Index, 3>& shape, int gamma,
                    int beta, double eps) {
  const auto [groups, C, S] = shape;
  p.reads(x, {C, S});
  p.makes(out, {C, S});
  require(groups >= 1 && C % groups == 0, [] { return std::string("loss: groups that do not divide"); });
  check_norm(p, gamma, beta, C);
  p.add([=, groups = groups, C = C, S = S](Batch<T>& batch) -> BatchBackward<T> {
    const RowNormShape s{batch.N * groups, C / groups, S, C};
    const auto mean = new_memory<double>(s.rows), inv_std = new_memory<double>(s.rows);
    kernels<T>().rownorm_forward(batch.value(x).get(), batch.param(gamma), batch.param(beta), eps,
                                 batch.make(out), mean.get(), inv_std.get(), s);
    return [=, kept = batch.value(x)](Batch<T>& taken) {
      taken.pass_back(x, out, [&](const T* dout, T* dx) {
        kernels<T>().rownorm_backward(dout, kept.get(), mean.get(), inv_std.get(), taken.param(gamma), dx,
                                      taken.param_gradient(gamma), taken.param_gradient(beta), s);
      });
    };
  });
}

template <class T>
void affine_layer(BoundTraining<T>& p, int x, int out, Index D, Index M, int w, int b, bool relu,
                  bool need_dx) {
  p.reads(x, {D});
  p.makes(out, {M});
  require(elements_of({D, M}) > 0, [] { return std::string("loss: weights without elements"); });
  p.takes(w, D * M);
  p.takes(b, M, true);
  p.add([=](Batch<T>& batch) -> BatchBackward<T> {
    const DenseShape s{batch.N, D, M, false};
    T* y = batch.make(out);
    kernels<T>().affine_forward(batch.value(x).get(), batch.param(w), batch.param(b), y, s, relu);
    const KeptRelu<T> kept_relu(batch, out, relu, true);
    return [=, kept = batch.value(x)](Batch<T>& taken) {
      const Memory<T> behind = taken.take_gradient(out), dout = kept_relu.before(taken, out, behind);
      taken.pass_to(x, need_dx, [&](T* dx) {
        kernels<T>().affine_backward(dout.get(), kept.get(), taken.param(w), dx, taken.param_gradient(w),
                                     taken.param_gradient(b), s);
      });
    };
  });
}

}  // namespace

template <class T>
void bind_weighted_layers(py::class_<BoundTraining<T>>& program) {
  const auto x = py::arg("x"), out = py::arg("out"), w = py::arg("w"), b = py::arg("b");
  const auto gamma = py::arg("gamma"), beta = py::arg("beta"), norm = py::arg("norm");
  const auto like = py::arg("like").noconvert(), weights = py::arg("weights").noconvert();
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
