#include <cstring>

#include "arrays.hpp"

namespace cnnlib {
namespace {

using Stats = Array<double>;

// x (N, C) or (N, C, H, W).
BatchNormShape batchnorm_shape(Text function, const Floats& x, int ndim) {
  require(x.ndim() == ndim, function, ": x must have ",
          ndim == 2 ? "2 dimensions (N, D)" : "4 dimensions (N, C, H, W)", ", got shape ", x);
  return {x.shape(0), x.shape(1), ndim == 2 ? 1 : x.shape(2) * x.shape(3)};
}

// What the gradient of a parameter (C,) is where nothing adds to it.
FloatsResult zeros(Text function, Index C, const Floats& like) {
  const FloatsResult result(function, {C}, like);
  std::memset(result, 0, static_cast<std::size_t>(C * like.itemsize()));
  return result;
}

// The kernels take no empty x: their loops may run over the other dimensions, however large.
template <class Kernel>
void unless_empty(const Floats& x, const Kernel& kernel) {
  if (x.size() > 0) unlocked(x, kernel);
}

// (y, mean, var, inv_std), the latter three (C,) in double.
py::tuple batchnorm_train(Text function, const Floats& x, int ndim, const Floats& gamma, const Floats& beta,
                          double eps, bool relu, const MaybeFloats& out_buffer) {
  const BatchNormShape s = batchnorm_shape(function, x, ndim);
  require(s.N * s.S > 0, function, ": mode 'train' needs at least one value a channel, got shape ", x);
  require_shapes(function, {s.C}, {{"gamma", gamma}, {"beta", beta}});
  const FloatsResult y(function, x, x, out_buffer);
  const Result<double> mean(function, {s.C}), var(function, {s.C}), inv_std(function, {s.C});
  unless_empty(x, [&](const auto& k) {
    k.batchnorm_train(x, gamma, beta, eps, y, mean, var, inv_std, s, relu_if(relu));
  });
  return py::make_tuple(y, mean, var, inv_std);
}

py::object moved(Text function, const Floats& running, const Stats& statistic, double momentum) {
  require_shape(function, "statistic", statistic, running);
  return moved_statistic(running, statistic, momentum);
}

py::object batchnorm_normalize(Text function, const Floats& x, int ndim, const Stats& mean,
                               const Stats& inv_std, const Floats& gamma, const Floats& beta, bool relu,
                               const MaybeFloats& out_buffer) {
  const BatchNormShape s = batchnorm_shape(function, x, ndim);
  require_shapes(function, {s.C}, {{"gamma", gamma}, {"beta", beta}, {"mean", mean}, {"inv_std", inv_std}});
  const bool filled = x.size() > 0;
  return computed(function, x, x, out_buffer, [&](const auto& k, Out y) {
    if (filled) k.batchnorm_normalize(x, mean, inv_std, gamma, beta, y, s, relu_if(relu));
  });
}

py::tuple batchnorm_backward(Text function, const Floats& dout, const Floats& x, int ndim, const Stats& mean,
                             const Stats& inv_std, const Floats& gamma, const MaybeFloats& beta,
                             bool from_batch) {
  const BatchNormShape s = batchnorm_shape(function, x, ndim);
  require_shape(function, "dout", dout, x);
  require_shapes(function, {s.C}, {{"mean", mean}, {"inv_std", inv_std}, {"gamma", gamma}});
  if (beta) require_shape(function, "beta", *beta, {s.C});
  const FloatsResult dx(function, x, x), dgamma = zeros(function, s.C, x), dbeta = zeros(function, s.C, x);
  unless_empty(x, [&](const auto& k) {
    k.batchnorm_backward(dout, x, mean, inv_std, gamma, beta, dx, dgamma, dbeta, s, from_batch);
  });
  return py::make_tuple(dx, dgamma, dbeta);
}

// x (N, D) in one group, or (N, C, H, W) in G groups of channels, or each of its pixels a row.
RowNormShape rownorm_shape(Text function, const Floats& x, int ndim, Index groups, bool by_pixel) {
  const BatchNormShape s = batchnorm_shape(function, x, ndim);
  require(s.C >= 1 && s.S >= 1, function, ": x has an empty dimension: its shape is ", x);
  require(groups >= 1 && s.C % groups == 0, function, ": G must divide the channels: x is ", x, ", G is ",
          groups);
  if (by_pixel) return {s.N * s.S, s.C, 1, s.C, s.S};
  return {s.N * groups, s.C / groups, s.S, s.C};
}

// (y, mean, inv_std), the latter two (N * G,) in double.
py::tuple rownorm_forward(Text function, const Floats& x, int ndim, const Floats& gamma, const Floats& beta,
                          Index groups, double eps, const MaybeFloats& out_buffer, bool by_pixel) {
  const RowNormShape s = rownorm_shape(function, x, ndim, groups, by_pixel);
  require_shapes(function, {s.C}, {{"gamma", gamma}, {"beta", beta}});
  const FloatsResult y(function, x, x, out_buffer);
  const Result<double> mean(function, {s.rows}), inv_std(function, {s.rows});
  unless_empty(x, [&](const auto& k) { k.rownorm_forward(x, gamma, beta, eps, y, mean, inv_std, s); });
  return py::make_tuple(y, mean, inv_std);
}

py::tuple rownorm_backward(Text function, const Floats& dout, const Floats& x, int ndim, const Stats& mean,
                           const Stats& inv_std, const Floats& gamma, Index groups, bool by_pixel) {
  const RowNormShape s = rownorm_shape(function, x, ndim, groups, by_pixel);
  require_shape(function, "dout", dout, x);
  require_shapes(function, {s.rows}, {{"mean", mean}, {"inv_std", inv_std}});
  require_shape(function, "gamma", gamma, {s.C});
  const FloatsResult dx(function, x, x), dgamma = zeros(function, s.C, x), dbeta = zeros(function, s.C, x);
  unless_empty(
      x, [&](const auto& k) { k.rownorm_backward(dout, x, mean, inv_std, gamma, dx, dgamma, dbeta, s); });
  return py::make_tuple(dx, dgamma, dbeta);
}

}  // namespace

py::object moved_statistic(const Floats& running, const double* statistic, double momentum) {
  const FloatsResult moved("moved_statistic", running, running);
  by_type(running.single(), [&](auto zero) {
    using T = decltype(zero);
    const T* old = running;
    T* to = moved;
    for (Index c = 0; c < running.size(); ++c)
      to[c] = T(momentum * double(old[c]) + (1 - momentum) * statistic[c]);
  });
  return moved;
}

void bind_norm(py::module_& m) {
  def(m, "batchnorm_train(function, x, ndim, gamma, beta, eps, relu=False, out=None)", &batchnorm_train);
  def(m, "moved_statistic(function, running, statistic, momentum)", &moved);
  def(m, "batchnorm_normalize(function, x, ndim, mean, inv_std, gamma, beta, relu=False, out=None)",
      &batchnorm_normalize);
  def(m, "batchnorm_backward(function, dout, x, ndim, mean, inv_std, gamma, beta, from_batch)",
      &batchnorm_backward);
  def(m, "rownorm_forward(function, x, ndim, gamma, beta, groups, eps, out, by_pixel)", &rownorm_forward);
  def(m, "rownorm_backward(function, dout, x, ndim, mean, inv_std, gamma, groups, by_pixel)",
      &rownorm_backward);
}

}  // namespace cnnlib
