// The layers that a training program has, each as its layer of cnnlib.layers computes it. `x`, `out` are
// numbers of values, `w`, `b`, `gamma`, `beta` of parameters (-1: none), `norm` and `mask` of batch norms and
// masks.
#include "../activation_names.hpp"
#include "../conv/conv_shape.hpp"
#include "../pool_shape.hpp"
#include "bound_training.hpp"

namespace cnnlib {
namespace {

template <class T>
using BatchBackward = typename Batch<T>::Backward;

// The bits of a ReLU's result y of so many elements where the gradient passes.
template <class T>
Memory<std::uint8_t> mask_of(const T* y, Index n) {
  auto mask = new_memory<std::uint8_t>(ceil_div(n, 8));
  kernels<T>().relu_mask(y, mask.get(), n);
  return mask;
}

// The gradient before a layer's ReLU, from that of its output and the ReLU's mask (null: it has no ReLU).
template <class T>
Memory<T> before_relu(Batch<T>& batch, int out, const Memory<std::uint8_t>& mask) {
  Memory<T> dout = batch.take_gradient(out);
  if (mask == nullptr) return dout;
  Memory<T> before = batch.like(out);
  kernels<T>().relu_backward_by_mask(dout.get(), mask.get(), before.get(), batch.elements(out));
  return before;
}

template <class T>
void conv_layer(BoundTraining<T>& p, int x, int out, const Array<T>& like, const Array<T>& weights, int w,
                int b, const py::object& conv_param, bool relu, bool need_dx) {
  const ConvShape one = conv_shape("loss", like, weights, conv_param);
  p.add(out, [=](Batch<T>& batch) -> BatchBackward<T> {
    ConvShape s = one;
    s.N = batch.N;
    T* y = batch.make(out);
    kernels<T>().conv_forward(batch.value(x).get(), batch.param(w), batch.param(b), y, s, relu);
    const auto mask = relu ? mask_of(y, batch.elements(out)) : Memory<std::uint8_t>();
    return [=, kept = batch.value(x)](Batch<T>& taken) {
      const Memory<T> dout = before_relu(taken, out, mask);
      const Memory<T> dx = need_dx ? taken.like(x) : Memory<T>();
      kernels<T>().conv_backward(kept.get(), taken.param(w), dout.get(), nullptr, dx.get(),
                                 taken.param_gradient(w), taken.param_gradient(b), s);
      if (need_dx) taken.add_gradient(x, dx);
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
  p.add(out, [=](Batch<T>& batch) -> BatchBackward<T> {
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
      const Memory<T> dout = taken.take_gradient(out), dx = need_dx ? taken.like(x) : Memory<T>();
      kernels<T>().conv_bn_relu_backward(
          {dout.get(), kept.get(), taken.param(w), a.get(), own.mean.get(), own.inv_std.get(),
           taken.param(gamma), taken.param(beta), true, dx.get(), taken.param_gradient(w),
           taken.param_gradient(b), taken.param_gradient(gamma), taken.param_gradient(beta)},
          s);
      if (need_dx) taken.add_gradient(x, dx);
    };
  });
}

// Images (C, S), or features with an S of 1.
template <class T>
void batchnorm_layer(BoundTraining<T>& p, int x, int out, Index C, Index S, int gamma, int beta,
                     std::size_t norm, bool relu) {
  p.add(out, [=](Batch<T>& batch) -> BatchBackward<T> {
    const BatchNormShape s{batch.N, C, S};
    const Statistics own(C);
    kernels<T>().batchnorm_train(batch.value(x).get(), batch.param(gamma), batch.param(beta), batch.eps[norm],
                                 batch.make(out), own.mean.get(), own.var.get(), own.inv_std.get(), s, relu);
    own.leave_in(batch, norm);
    return [=, kept = batch.value(x)](Batch<T>& taken) {
      const Memory<T> dout = taken.take_gradient(out), dx = taken.like(x);
      kernels<T>().batchnorm_backward(dout.get(), kept.get(), own.mean.get(), own.inv_std.get(),
                                      taken.param(gamma), relu ? taken.param(beta) : nullptr, dx.get(),
                                      taken.param_gradient(gamma), taken.param_gradient(beta), s, true);
      taken.add_gradient(x, dx);
    };
  });
}

template <class T>
void affine_layer(BoundTraining<T>& p, int x, int out, Index D, Index M, int w, int b, bool relu,
                  bool need_dx) {
  p.add(out, [=](Batch<T>& batch) -> BatchBackward<T> {
    const DenseShape s{batch.N, D, M, false};
    T* y = batch.make(out);
    kernels<T>().affine_forward(batch.value(x).get(), batch.param(w), batch.param(b), y, s, relu);
    const auto mask = relu ? mask_of(y, batch.elements(out)) : Memory<std::uint8_t>();
    return [=, kept = batch.value(x)](Batch<T>& taken) {
      const Memory<T> dout = before_relu(taken, out, mask);
      const Memory<T> dx = need_dx ? taken.like(x) : Memory<T>();
      kernels<T>().affine_backward(dout.get(), kept.get(), taken.param(w), dx.get(), taken.param_gradient(w),
                                   taken.param_gradient(b), s);
      if (need_dx) taken.add_gradient(x, dx);
    };
  });
}

template <class T>
void relu_layer(BoundTraining<T>& p, int x, int out) {
  p.add(out, [=](Batch<T>& batch) -> BatchBackward<T> {
    kernels<T>().relu_forward(batch.value(x).get(), batch.make(out), batch.elements(out));
    return [=, kept = batch.value(x)](Batch<T>& taken) {
      const Memory<T> dout = taken.take_gradient(out), dx = taken.like(x);
      kernels<T>().relu_backward(dout.get(), kept.get(), dx.get(), taken.elements(x));
      taken.add_gradient(x, dx);
    };
  });
}

// Another function of each element; alpha is elu's.
template <class T>
void activation_layer(BoundTraining<T>& p, int x, int out, const std::string& name, double alpha) {
  const Activation kind = activation_named("loss", name);
  const bool from_result = kind == Activation::sigmoid || kind == Activation::tanh;
  const T a = static_cast<T>(alpha);
  p.add(out, [=](Batch<T>& batch) -> BatchBackward<T> {
    kernels<T>().activation_forward(kind, batch.value(x).get(), batch.make(out), nullptr, a,
                                    batch.elements(out));
    return [=, kept = batch.value(from_result ? out : x)](Batch<T>& taken) {
      const Memory<T> dout = taken.take_gradient(out), dx = taken.like(x);
      kernels<T>().activation_backward(kind, dout.get(), kept.get(), dx.get(), a, taken.elements(x));
      taken.add_gradient(x, dx);
    };
  });
}

template <class T>
void dropout_layer(BoundTraining<T>& p, int x, int out, std::size_t mask) {
  p.add(out, [=](Batch<T>& batch) -> BatchBackward<T> {
    kernels<T>().multiply(batch.value(x).get(), batch.masks[mask], batch.make(out), batch.elements(out));
    return [=](Batch<T>& taken) {
      const Memory<T> dout = taken.take_gradient(out), dx = taken.like(x);
      kernels<T>().multiply(dout.get(), taken.masks[mask], dx.get(), taken.elements(x));
      taken.add_gradient(x, dx);
    };
  });
}

// The sum of two values of one shape.
template <class T>
void add_layer(BoundTraining<T>& p, const std::array<int, 2>& terms, int out, bool relu,
               const std::array<bool, 2>& needs) {
  p.add(out, [=](Batch<T>& batch) -> BatchBackward<T> {
    const T *first = batch.value(terms[0]).get(), *second = batch.value(terms[1]).get();
    T* y = batch.make(out);
    (relu ? kernels<T>().add_relu : kernels<T>().add)(first, second, y, batch.elements(out));
    return [=, kept = relu ? batch.value(out) : Memory<T>()](Batch<T>& taken) {
      Memory<T> dout = taken.take_gradient(out);
      if (relu) {
        Memory<T> before = taken.like(out);
        kernels<T>().relu_backward(dout.get(), kept.get(), before.get(), taken.elements(out));
        dout = std::move(before);
      }
      for (int i = 0; i < 2; ++i)
        if (needs[i]) taken.add_gradient(terms[i], dout);
    };
  });
}

template <class T>
void max_pool_layer(BoundTraining<T>& p, int x, int out, const Array<T>& like, const PoolGeometry& geometry,
                    bool ceil_mode) {
  const Index C = like.shape(1);
  const PoolShape one = pool_shape("loss", like, geometry, ceil_mode, false);
  p.add(out, [=](Batch<T>& batch) -> BatchBackward<T> {
    PoolShape s = one;
    s.planes = batch.N * C;
    const auto winners = new_memory<std::uint8_t>(batch.elements(out) * winner_bytes(s));
    run_max_pool<T>(batch.value(x).get(), batch.make(out), winners.get(), s);
    return [=](Batch<T>& taken) {
      const Memory<T> dout = taken.take_gradient(out), dx = taken.like(x);
      run_max_pool_backward<T>(dout.get(), winners.get(), dx.get(), s);
      taken.add_gradient(x, dx);
    };
  });
}

template <class T>
void avg_pool_layer(BoundTraining<T>& p, int x, int out, const Array<T>& like, const PoolGeometry& geometry,
                    bool ceil_mode, bool count_include_pad) {
  const Index C = like.shape(1);
  const PoolShape one = pool_shape("loss", like, geometry, ceil_mode, count_include_pad);
  p.add(out, [=](Batch<T>& batch) -> BatchBackward<T> {
    PoolShape s = one;
    s.planes = batch.N * C;
    kernels<T>().avg_pool_forward(batch.value(x).get(), batch.make(out), s);
    return [=](Batch<T>& taken) {
      const Memory<T> dout = taken.take_gradient(out), dx = taken.like(x);
      kernels<T>().avg_pool_backward(dout.get(), dx.get(), s);
      taken.add_gradient(x, dx);
    };
  });
}

template <class T>
void global_avg_pool_layer(BoundTraining<T>& p, int x, int out, Index C, Index S) {
  p.add(out, [=](Batch<T>& batch) -> BatchBackward<T> {
    kernels<T>().global_avg_pool_forward(batch.value(x).get(), batch.make(out), batch.N * C, S);
    return [=](Batch<T>& taken) {
      const Memory<T> dout = taken.take_gradient(out), dx = taken.like(x);
      kernels<T>().global_avg_pool_backward(dout.get(), dx.get(), taken.N * C, S);
      taken.add_gradient(x, dx);
    };
  });
}

template <class T>
void flatten_layer(BoundTraining<T>& p, int x, int out) {
  p.add(out, [=](Batch<T>& batch) -> BatchBackward<T> {
    batch.value(out) = batch.value(x);
    return [=](Batch<T>& taken) { taken.add_gradient(x, taken.take_gradient(out)); };
  });
}

}  // namespace

template <class T>
void bind_training_layers(py::class_<BoundTraining<T>>& program) {
  const auto x = py::arg("x"), out = py::arg("out"), w = py::arg("w"), b = py::arg("b");
  const auto gamma = py::arg("gamma"), beta = py::arg("beta"), norm = py::arg("norm");
  const auto C = py::arg("C"), S = py::arg("S"), has_relu = py::arg("relu"), need_dx = py::arg("need_dx");
  const auto like = py::arg("like").noconvert(), weights = py::arg("weights").noconvert();
  const auto conv_param = py::arg("conv_param"), geometry = py::arg("geometry"),
             ceil_mode = py::arg("ceil_mode");
  program.def("conv", &conv_layer<T>, x, out, like, weights, w, b, conv_param, has_relu, need_dx)
      .def("conv_bn_relu", &conv_bn_relu_layer<T>, x, out, like, weights, w, b, gamma, beta, norm, conv_param,
           need_dx)
      .def("batchnorm", &batchnorm_layer<T>, x, out, C, S, gamma, beta, norm, has_relu)
      .def("affine", &affine_layer<T>, x, out, py::arg("D"), py::arg("M"), w, b, has_relu, need_dx)
      .def("relu", &relu_layer<T>, x, out)
      .def("activation", &activation_layer<T>, x, out, py::arg("kind"), py::arg("alpha"))
      .def("dropout", &dropout_layer<T>, x, out, py::arg("mask"))
      .def("add", &add_layer<T>, py::arg("terms"), out, has_relu, py::arg("needs"))
      .def("max_pool", &max_pool_layer<T>, x, out, like, geometry, ceil_mode)
      .def("avg_pool", &avg_pool_layer<T>, x, out, like, geometry, ceil_mode, py::arg("count_include_pad"))
      .def("global_avg_pool", &global_avg_pool_layer<T>, x, out, C, S)
      .def("flatten", &flatten_layer<T>, x, out);
}

template void bind_training_layers(py::class_<BoundTraining<float>>&);
template void bind_training_layers(py::class_<BoundTraining<double>>&);

}  // namespace cnnlib
