#include <numeric>

#include "arrays.hpp"

namespace cnnlib {
namespace {

py::tuple softmax_loss(Text function, const Floats& x, const ScoresShape& s, const std::int64_t* labels,
                       In values, In weights, std::int64_t ignore, double divisor) {
  const double scale = divisor > 0 ? 1 / divisor : 0;  // nothing to average
  const FloatsResult dx(function, x, x);
  double loss = 0;
  unlocked(x, [&](const auto& k) {
    loss = k.softmax_loss(x, {labels, values, weights, ignore, scale}, dx, s.N, s.C, s.inner);
  });
  return py::make_tuple(loss, dx);
}

In class_weights(Text function, const ScoresShape& s, const MaybeFloats& weights) {
  if (weights) require_shape(function, "weights", *weights, {s.C});
  return weights;
}

// For labels in [0, C), or `ignore`: (loss, dx), averaged over what is not ignored.
py::tuple softmax_loss_of_labels(Text function, const Floats& x, const Array<std::int64_t>& y,
                                 const MaybeFloats& weights, std::int64_t ignore) {
  const ScoresShape s = scores_shape(function, "x", "(N, C, ...)", x);
  std::vector<Index> shape(x.shape(), x.shape() + x.ndim());
  shape.erase(shape.begin() + 1);
  require_shape(function, "y", y, shape);
  const In weight = class_weights(function, s, weights);
  const std::int64_t* labels = y;
  std::vector<double> counts(static_cast<std::size_t>(s.C));
  Index counted = 0;
  for (Index i = 0; i < y.size(); ++i) {
    if (labels[i] == ignore) continue;
    require(labels[i] >= 0 && labels[i] < s.C, function, ": y must lie in [0, ", s.C, "), got ", labels[i]);
    ++counted;
    if (weights) ++counts[static_cast<std::size_t>(labels[i])];
  }
  double divisor = double(counted);
  if (weights)
    by_type(x.single(), [&](auto zero) {
      const decltype(zero)* each = weight;
      divisor = std::inner_product(counts.begin(), counts.end(), each, 0.0);
    });
  return softmax_loss(function, x, s, labels, In(), weight, ignore, divisor);
}

// For targets of x's shape: (loss, dx), averaged over all samples and pixels.
py::tuple softmax_loss_of_values(Text function, const Floats& x, const Floats& y, const MaybeFloats& weights,
                                 std::int64_t) {
  require_shape(function, "y", y, x);
  const ScoresShape s = scores_shape(function, "x", "(N, C, ...)", x);
  return softmax_loss(function, x, s, nullptr, y, class_weights(function, s, weights), -1,
                      double(s.N * s.inner));
}

PointwiseLoss loss_named(Text name) {
  if (name == "mse_loss") return PointwiseLoss::mse;
  if (name == "l1_loss") return PointwiseLoss::l1;
  if (name == "huber_loss") return PointwiseLoss::huber;
  require(name == "bce_loss", "pointwise_loss: unknown loss ", name);
  return PointwiseLoss::bce;
}

// (loss, dx), means over all values; `option` is Huber's delta or the weight of positive targets, for which
// each value may have a weight of its own.
py::tuple pointwise_loss(Text function, const Floats& x, const Floats& y, double option,
                         const MaybeFloats& weights) {
  const PointwiseLoss kind = loss_named(function);
  require_shape(function, "y", y, x);
  if (weights) require_shape(function, "weights", *weights, x);
  const FloatsResult dx(function, x, x);
  const Index n = x.size();
  double loss = 0;
  unlocked(x, [&](const auto& k) { loss = k.pointwise_loss(kind, x, y, weights, option, dx, n); });
  return py::make_tuple(loss, dx);
}

// (loss, dx) of x and y as so many maps.
py::tuple dice_loss(Text function, const Floats& x, const Floats& y, Index maps) {
  require_shape(function, "y", y, x);
  require(maps > 0 && x.size() > 0 && x.size() % maps == 0, function, ": x is ", x, ", maps ", maps);
  const FloatsResult dx(function, x, x);
  const Index size = x.size() / maps;
  double loss = 0;
  unlocked(x, [&](const auto& k) { loss = k.dice_loss(x, y, dx, maps, size); });
  return py::make_tuple(loss, dx);
}

}  // namespace

void bind_losses(py::module_& m) {
  def(m, "softmax_loss(function, x, y, weights, ignore)", &softmax_loss_of_labels);
  def(m, "softmax_loss(function, x, y, weights, ignore)", &softmax_loss_of_values);
  def(m, "pointwise_loss(function, x, y, option, weights)", &pointwise_loss);
  def(m, "dice_loss(function, x, y, maps)", &dice_loss);
}

}  // namespace cnnlib
