#include <algorithm>

#include "arrays.hpp"

namespace cnnlib {
namespace {

template <class T>
py::tuple softmax_loss(const char* function, const Array<T>& x, const ScoresShape& s,
                       SoftmaxTargets<T> targets, double divisor) {
  targets.scale = divisor > 0 ? 1 / divisor : 0;  // nothing to average
  const Result<T> dx(function, x);
  const Result<double> parts(function, {s.N * ceil_div(s.inner, SoftmaxTargets<T>::least_pixels)});
  double loss = 0;
  unlocked(
      [&] { loss = kernels<T>().softmax_loss(x.data(), targets, dx.data, parts.data, s.N, s.C, s.inner); });
  return py::make_tuple(loss, dx.array);
}

template <class T>
const T* class_weights(const char* function, const ScoresShape& s, const MaybeArray<T>& weights) {
  if (weights) require_shape(function, "weights", *weights, {s.C});
  return data_or_null(weights);
}

// For labels in [0, C), or `ignore`: (loss, dx), averaged over what is not ignored.
template <class T>
py::tuple softmax_loss_of_labels(const char* function, const Array<T>& x, const Array<std::int64_t>& y,
                                 const MaybeArray<T>& weights, std::int64_t ignore) {
  const ScoresShape s = scores_shape(function, "x", "(N, C, ...)", x);
  std::vector<Index> shape(x.shape(), x.shape() + x.ndim());
  shape.erase(shape.begin() + 1);
  require_shape(function, "y", y, shape);
  const T* weight = class_weights(function, s, weights);
  const std::int64_t* labels = y.data();
  std::vector<Index> counts(static_cast<std::size_t>(s.C));
  Index counted = 0;
  for (Index i = 0; i < y.size(); ++i) {
    if (labels[i] == ignore) continue;
    require(labels[i] >= 0 && labels[i] < s.C, function, ": y must lie in [0, ", s.C, "), got ", labels[i]);
    ++counted;
    if (weight != nullptr) ++counts[static_cast<std::size_t>(labels[i])];
  }
  double divisor = 0;
  if (weight != nullptr)
    for (Index c = 0; c < s.C; ++c)
      divisor += double(counts[static_cast<std::size_t>(c)]) * double(weight[c]);
  else
    divisor = double(counted);
  return softmax_loss<T>(function, x, s, {labels, nullptr, weight, ignore, 0}, divisor);
}

// For targets of x's shape: (loss, dx), averaged over all samples and pixels.
template <class T>
py::tuple softmax_loss_of_values(const char* function, const Array<T>& x, const Array<T>& y,
                                 const MaybeArray<T>& weights, std::int64_t) {
  require_shape(function, "y", y, x);
  const ScoresShape s = scores_shape(function, "x", "(N, C, ...)", x);
  return softmax_loss<T>(function, x, s, {nullptr, y.data(), class_weights(function, s, weights), -1, 0},
                         double(s.N * s.inner));
}

PointwiseLoss loss_named(const std::string& name) {
  if (name == "mse_loss") return PointwiseLoss::mse;
  if (name == "l1_loss") return PointwiseLoss::l1;
  if (name == "huber_loss") return PointwiseLoss::huber;
  require(name == "bce_loss", "pointwise_loss: unknown loss ", name);
  return PointwiseLoss::bce;
}

// (loss, dx), means over all values; `option` is Huber's delta or the weight of positive targets, for which
// each value may have a weight of its own.
template <class T>
py::tuple pointwise_loss(const char* function, const Array<T>& x, const Array<T>& y, double option,
                         const MaybeArray<T>& weights) {
  const PointwiseLoss kind = loss_named(function);
  require_shape(function, "y", y, x);
  if (weights) require_shape(function, "weights", *weights, x);
  const Result<T> dx(function, x);
  const T* each = data_or_null(weights);
  const Index n = x.size();
  double loss = 0;
  unlocked([&] { loss = kernels<T>().pointwise_loss(kind, x.data(), y.data(), each, option, dx.data, n); });
  return py::make_tuple(loss, dx.array);
}

// (loss, dx) of x and y as so many maps.
template <class T>
py::tuple dice_loss(const char* function, const Array<T>& x, const Array<T>& y, Index maps) {
  require_shape(function, "y", y, x);
  require(maps > 0 && x.size() > 0 && x.size() % maps == 0, function, ": x is ", x, ", maps ", maps);
  const Result<T> dx(function, x);
  const Result<double> parts(function, {maps});
  const Index size = x.size() / maps;
  double loss = 0;
  unlocked([&] { loss = kernels<T>().dice_loss(x.data(), y.data(), dx.data, parts.data, maps, size); });
  return py::make_tuple(loss, dx.array);
}

}  // namespace

template <class T>
void bind_losses(py::module_& m) {
  const auto function = py::arg("function"), x = fixed("x"), y = fixed("y");
  const auto weights = fixed("weights").none(true) = py::none();
  const auto ignore = py::arg("ignore") = -1;
  m.def("softmax_loss", &softmax_loss_of_labels<T>, function, x, y, weights, ignore);
  m.def("softmax_loss", &softmax_loss_of_values<T>, function, x, y, weights, ignore);
  m.def("pointwise_loss", &pointwise_loss<T>, function, x, y, py::arg("option") = 1.0, weights);
  m.def("dice_loss", &dice_loss<T>, function, x, y, py::arg("maps"));
}

template void bind_losses<float>(py::module_&);
template void bind_losses<double>(py::module_&);

}  // namespace cnnlib
