#include <algorithm>

#include "running_statistics.hpp"

namespace cnnlib {
namespace {

using Stats = Array<double>;

// x (N, C) or (N, C, H, W).
template <class T>
BatchNormShape batchnorm_shape(const char* function, const Array<T>& x, int ndim) {
  require(x.ndim() == ndim, function, ": x must have ",
          ndim == 2 ? "2 dimensions (N, D)" : "4 dimensions (N, C, H, W)", ", got shape ", x);
  return {x.shape(0), x.shape(1), ndim == 2 ? 1 : x.shape(2) * x.shape(3)};
}

// What the gradient of a parameter (C,) is where nothing adds to it.
template <class T>
Result<T> zeros(const char* function, Index C) {
  Result<T> result(function, {C});
  std::fill_n(result.data, C, T(0));
  return result;
}

// The kernels take no empty x: their loops may run over the other dimensions, however large.
template <class T, class Kernel>
void unless_empty(const Array<T>& x, Kernel&& kernel) {
  if (x.size() > 0) unlocked(kernel);
}

// (y, mean, var, inv_std), the latter three (C,) in double.
template <class T>
py::tuple batchnorm_train(const char* function, const Array<T>& x, int ndim, const Array<T>& gamma,
                          const Array<T>& beta, double eps, bool relu, const MaybeArray<T>& out_buffer) {
  const BatchNormShape s = batchnorm_shape(function, x, ndim);
  require(s.N * s.S > 0, function, ": mode 'train' needs at least one value a channel, got shape ", x);
  require_channels(function, s.C, {{"gamma", gamma}, {"beta", beta}});
  const Result<T> y(function, x, out_buffer);
  const Result<double> mean(function, {s.C}), var(function, {s.C}), inv_std(function, {s.C});
  unless_empty(x, [&] {
    kernels<T>().batchnorm_train(x.data(), gamma.data(), beta.data(), eps, y.data, mean.data, var.data,
                                 inv_std.data, s, relu);
  });
  return py::make_tuple(y.array, mean.array, var.array, inv_std.array);
}

template <class T>
py::array moved(const char* function, const Array<T>& running, const Stats& statistic, double momentum) {
  require_shape(function, "statistic", statistic, running);
  return moved_statistic<T>(running, statistic.data(), momentum);
}

template <class T>
py::array batchnorm_normalize(const char* function, const Array<T>& x, int ndim, const Stats& mean,
                              const Stats& inv_std, const Array<T>& gamma, const Array<T>& beta, bool relu,
                              const MaybeArray<T>& out_buffer) {
  const BatchNormShape s = batchnorm_shape(function, x, ndim);
  require_channels(function, s.C, {{"gamma", gamma}, {"beta", beta}, {"mean", mean}, {"inv_std", inv_std}});
  const bool filled = x.size() > 0;
  return computed<T>(function, x, out_buffer, [&](T* y) {
    if (filled)
      kernels<T>().batchnorm_normalize(x.data(), mean.data(), inv_std.data(), gamma.data(), beta.data(), y, s,
                                       relu);
  });
}

template <class T>
py::tuple batchnorm_backward(const char* function, const Array<T>& dout, const Array<T>& x, int ndim,
                             const Stats& mean, const Stats& inv_std, const Array<T>& gamma,
                             const MaybeArray<T>& beta, bool from_batch) {
  const BatchNormShape s = batchnorm_shape(function, x, ndim);
  require_shape(function, "dout", dout, x);
  require_channels(function, s.C, {{"mean", mean}, {"inv_std", inv_std}, {"gamma", gamma}});
  if (beta) require_shape(function, "beta", *beta, {s.C});
  const Result<T> dx(function, x), dgamma = zeros<T>(function, s.C), dbeta = zeros<T>(function, s.C);
  unless_empty(x, [&] {
    kernels<T>().batchnorm_backward(dout.data(), x.data(), mean.data(), inv_std.data(), gamma.data(),
                                    data_or_null(beta), dx.data, dgamma.data, dbeta.data, s, from_batch);
  });
  return py::make_tuple(dx.array, dgamma.array, dbeta.array);
}

// x (N, D) in one group, or (N, C, H, W) in G groups of channels, or each of its pixels a row.
template <class T>
RowNormShape rownorm_shape(const char* function, const Array<T>& x, int ndim, Index groups, bool by_pixel) {
  const BatchNormShape s = batchnorm_shape(function, x, ndim);
  require(s.C >= 1 && s.S >= 1, function, ": x has an empty dimension: its shape is ", x);
  require(groups >= 1 && s.C % groups == 0, function, ": G must divide the channels: x is ", x, ", G is ",
          groups);
  if (by_pixel) return {s.N * s.S, s.C, 1, s.C, s.S};
  return {s.N * groups, s.C / groups, s.S, s.C};
}

// (y, mean, inv_std), the latter two (N * G,) in double.
template <class T>
py::tuple rownorm_forward(const char* function, const Array<T>& x, int ndim, const Array<T>& gamma,
                          const Array<T>& beta, Index groups, double eps, const MaybeArray<T>& out_buffer,
                          bool by_pixel) {
  const RowNormShape s = rownorm_shape(function, x, ndim, groups, by_pixel);
  require_channels(function, s.C, {{"gamma", gamma}, {"beta", beta}});
  const Result<T> y(function, x, out_buffer);
  const Result<double> mean(function, {s.rows}), inv_std(function, {s.rows});
  unless_empty(x, [&] {
    kernels<T>().rownorm_forward(x.data(), gamma.data(), beta.data(), eps, y.data, mean.data, inv_std.data,
                                 s);
  });
  return py::make_tuple(y.array, mean.array, inv_std.array);
}

template <class T>
py::tuple rownorm_backward(const char* function, const Array<T>& dout, const Array<T>& x, int ndim,
                           const Stats& mean, const Stats& inv_std, const Array<T>& gamma, Index groups,
                           bool by_pixel) {
  const RowNormShape s = rownorm_shape(function, x, ndim, groups, by_pixel);
  require_shape(function, "dout", dout, x);
  require_channels(function, s.rows, {{"mean", mean}, {"inv_std", inv_std}});
  require_shape(function, "gamma", gamma, {s.C});
  const Result<T> dx(function, x), dgamma = zeros<T>(function, s.C), dbeta = zeros<T>(function, s.C);
  unless_empty(x, [&] {
    kernels<T>().rownorm_backward(dout.data(), x.data(), mean.data(), inv_std.data(), gamma.data(), dx.data,
                                  dgamma.data, dbeta.data, s);
  });
  return py::make_tuple(dx.array, dgamma.array, dbeta.array);
}

}  // namespace

template <class T>
void bind_norm(py::module_& m) {
  const auto function = py::arg("function"), ndim = py::arg("ndim");
  const auto x = fixed("x"), dout = fixed("dout");
  const auto gamma = fixed("gamma"), beta = fixed("beta");
  const auto mean = fixed("mean"), inv_std = fixed("inv_std");
  const auto out = fixed("out") = py::none();
  m.def("batchnorm_train", &batchnorm_train<T>, function, x, ndim, gamma, beta, py::arg("eps"),
        py::arg("relu") = false, out);
  m.def("moved_statistic", &moved<T>, function, fixed("running"), fixed("statistic"), py::arg("momentum"));
  m.def("batchnorm_normalize", &batchnorm_normalize<T>, function, x, ndim, mean, inv_std, gamma, beta,
        py::arg("relu") = false, out);
  m.def("batchnorm_backward", &batchnorm_backward<T>, function, dout, x, ndim, mean, inv_std, gamma,
        fixed("beta").none(true), py::arg("from_batch"));
  m.def("rownorm_forward", &rownorm_forward<T>, function, x, ndim, gamma, beta, py::arg("groups"),
        py::arg("eps"), out, py::arg("by_pixel") = false);
  m.def("rownorm_backward", &rownorm_backward<T>, function, dout, x, ndim, mean, inv_std, gamma,
        py::arg("groups"), py::arg("by_pixel") = false);
}

template void bind_norm<float>(py::module_&);
template void bind_norm<double>(py::module_&);

}  // namespace cnnlib
