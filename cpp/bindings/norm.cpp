#include <algorithm>

#include "running_statistics.hpp"

namespace cnnlib {
namespace {

using Stats = Array<double>;

// x (N, C) or (N, C, H, W).
template <class T>
BatchNormShape batchnorm_shape(const char* function, const Array<T>& x, int ndim) {
  require(x.ndim() == ndim, [&] {
    return std::string(function) + ": x must have " +
           (ndim == 2 ? "2 dimensions (N, D)" : "4 dimensions (N, C, H, W)") + ", got shape " + text(x);
  });
  return {x.shape(0), x.shape(1), ndim == 2 ? 1 : x.shape(2) * x.shape(3)};
}

// What the gradient of a parameter (C,) is where nothing adds to it.
template <class T>
Array<T> zeros(const char* function, Index C) {
  Array<T> array = new_array<T>(function, {C});
  std::fill_n(array.mutable_data(), C, T(0));
  return array;
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
  require(s.N * s.S > 0, [&] {
    return std::string(function) + ": mode 'train' needs at least one value a channel, got shape " + text(x);
  });
  require_channels(function, s.C, {{"gamma", gamma}, {"beta", beta}});
  Array<T> out = result_array<T>(function, shape_of(x), out_buffer);
  Stats mean = new_array<double>(function, {s.C}), var = new_array<double>(function, {s.C}),
        inv_std = new_array<double>(function, {s.C});
  T* y = out.mutable_data();
  double *m = mean.mutable_data(), *v = var.mutable_data(), *i = inv_std.mutable_data();
  unless_empty(x, [&] {
    kernels<T>().batchnorm_train(x.data(), gamma.data(), beta.data(), eps, y, m, v, i, s, relu);
  });
  return py::make_tuple(out, mean, var, inv_std);
}

template <class T>
py::array moved(const char* function, const Array<T>& running, const Stats& statistic, double momentum) {
  require_shape(function, "statistic", statistic, shape_of(running));
  return moved_statistic<T>(running, statistic.data(), momentum);
}

template <class T>
py::array batchnorm_normalize(const char* function, const Array<T>& x, int ndim, const Stats& mean,
                              const Stats& inv_std, const Array<T>& gamma, const Array<T>& beta, bool relu,
                              const MaybeArray<T>& out_buffer) {
  const BatchNormShape s = batchnorm_shape(function, x, ndim);
  require_channels(function, s.C, {{"gamma", gamma}, {"beta", beta}, {"mean", mean}, {"inv_std", inv_std}});
  const bool filled = x.size() > 0;
  return computed<T>(function, shape_of(x), out_buffer, [&](T* y) {
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
  require_shape(function, "dout", dout, shape_of(x));
  require_channels(function, s.C, {{"mean", mean}, {"inv_std", inv_std}, {"gamma", gamma}});
  if (beta) require_shape(function, "beta", *beta, {s.C});
  Array<T> dx = new_array<T>(function, shape_of(x)), dgamma = zeros<T>(function, s.C),
           dbeta = zeros<T>(function, s.C);
  T *dx_data = dx.mutable_data(), *dgamma_data = dgamma.mutable_data(), *dbeta_data = dbeta.mutable_data();
  unless_empty(x, [&] {
    kernels<T>().batchnorm_backward(dout.data(), x.data(), mean.data(), inv_std.data(), gamma.data(),
                                    data_or_null(beta), dx_data, dgamma_data, dbeta_data, s, from_batch);
  });
  return py::make_tuple(dx, dgamma, dbeta);
}

// x (N, D) in one group, or (N, C, H, W) in G groups of channels, or each of its pixels a row.
template <class T>
RowNormShape rownorm_shape(const char* function, const Array<T>& x, int ndim, Index groups, bool by_pixel) {
  const BatchNormShape s = batchnorm_shape(function, x, ndim);
  require(s.C >= 1 && s.S >= 1,
          [&] { return std::string(function) + ": x has an empty dimension: its shape is " + text(x); });
  require(groups >= 1 && s.C % groups == 0, [&] {
    return std::string(function) + ": G must divide the channels: x is " + text(x) + ", G is " +
           std::to_string(groups);
  });
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
  Array<T> out = result_array<T>(function, shape_of(x), out_buffer);
  Stats mean = new_array<double>(function, {s.rows}), inv_std = new_array<double>(function, {s.rows});
  T* y = out.mutable_data();
  double *m = mean.mutable_data(), *i = inv_std.mutable_data();
  unless_empty(x,
               [&] { kernels<T>().rownorm_forward(x.data(), gamma.data(), beta.data(), eps, y, m, i, s); });
  return py::make_tuple(out, mean, inv_std);
}

template <class T>
py::tuple rownorm_backward(const char* function, const Array<T>& dout, const Array<T>& x, int ndim,
                           const Stats& mean, const Stats& inv_std, const Array<T>& gamma, Index groups,
                           bool by_pixel) {
  const RowNormShape s = rownorm_shape(function, x, ndim, groups, by_pixel);
  require_shape(function, "dout", dout, shape_of(x));
  require_channels(function, s.rows, {{"mean", mean}, {"inv_std", inv_std}});
  require_shape(function, "gamma", gamma, {s.C});
  Array<T> dx = new_array<T>(function, shape_of(x)), dgamma = zeros<T>(function, s.C),
           dbeta = zeros<T>(function, s.C);
  T *dx_data = dx.mutable_data(), *dgamma_data = dgamma.mutable_data(), *dbeta_data = dbeta.mutable_data();
  unless_empty(x, [&] {
    kernels<T>().rownorm_backward(dout.data(), x.data(), mean.data(), inv_std.data(), gamma.data(), dx_data,
                                  dgamma_data, dbeta_data, s);
  });
  return py::make_tuple(dx, dgamma, dbeta);
}

}  // namespace

template <class T>
void bind_norm(py::module_& m) {
  const auto function = py::arg("function"), ndim = py::arg("ndim");
  const auto x = py::arg("x").noconvert(), dout = py::arg("dout").noconvert();
  const auto gamma = py::arg("gamma").noconvert(), beta = py::arg("beta").noconvert();
  const auto mean = py::arg("mean").noconvert(), inv_std = py::arg("inv_std").noconvert();
  const auto out = py::arg("out").noconvert() = py::none();
  m.def("batchnorm_train", &batchnorm_train<T>, function, x, ndim, gamma, beta, py::arg("eps"),
        py::arg("relu") = false, out);
  m.def("moved_statistic", &moved<T>, function, py::arg("running").noconvert(),
        py::arg("statistic").noconvert(), py::arg("momentum"));
  m.def("batchnorm_normalize", &batchnorm_normalize<T>, function, x, ndim, mean, inv_std, gamma, beta,
        py::arg("relu") = false, out);
  m.def("batchnorm_backward", &batchnorm_backward<T>, function, dout, x, ndim, mean, inv_std, gamma,
        py::arg("beta").noconvert().none(true), py::arg("from_batch"));
  m.def("rownorm_forward", &rownorm_forward<T>, function, x, ndim, gamma, beta, py::arg("groups"),
        py::arg("eps"), out, py::arg("by_pixel") = false);
  m.def("rownorm_backward", &rownorm_backward<T>, function, dout, x, ndim, mean, inv_std, gamma,
        py::arg("groups"), py::arg("by_pixel") = false);
}

template void bind_norm<float>(py::module_&);
template void bind_norm<double>(py::module_&);

}  // namespace cnnlib
