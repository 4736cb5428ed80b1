// Losses of values x and their targets y. Those that are sums over them: loss(x, y, slope) returns the loss
// of a vector of them, and its derivative by x in `slope`. Lanes beyond the last value hold of_none and 0,
// whose loss is 0.
#pragma once

#include "kernels/elementwise/activation_functions.hpp"
#include "kernels/scratch_layout.hpp"
#include "kernels/simd/loops.hpp"
#include "kernels/simd/sums.hpp"
#include "threads/parallel.hpp"

namespace cnnlib::CNNLIB_ISA {

// (x - y)^2
template <class T>
struct SquaredLoss {
  using S = Simd<T>;
  static constexpr T of_none = 0;
  Packet<T> operator()(Packet<T> x, Packet<T> y, Index, Index, Packet<T>& slope) const {
    const auto d = S::sub(x, y);
    slope = S::add(d, d);
    return S::mul(d, d);
  }
};

// With d = x - y: d^2 / 2 below the limit, a line beyond: (|d| - offset) * steepness.
template <class T>
struct HuberLoss {
  using S = Simd<T>;
  static constexpr T of_none = 0;
  T limit, steepness, offset;
  static HuberLoss up_to(T delta) { return {delta, delta, delta / 2}; }
  static HuberLoss absolute() { return {std::numeric_limits<T>::denorm_min(), 1, 0}; }
  Packet<T> operator()(Packet<T> x, Packet<T> y, Index, Index, Packet<T>& slope) const {
    const auto d = S::sub(x, y), size = S::abs(d), steep = S::fill(steepness);
    const auto beyond = S::less_equal(S::fill(limit), size);
    slope = S::select(beyond, S::with_sign_of(d, steep), d);
    const auto line = S::mul(S::sub(size, S::fill(offset)), steep);
    return S::select(beyond, line, S::mul(S::fill(T(0.5)), S::mul(d, d)));
  }
};

// y * weight * log(1 + e^-x) + (1 - y) * log(1 + e^x), both without overflow: log(1 + e^x) is
// max(x, 0) + log1p(e^-|x|). A weight for each value, or one for all.
template <class T>
struct LogisticLoss {
  using S = Simd<T>;
  static constexpr T of_none = T(-1e30);
  const T* weights;
  T weight;
  // log(1 + e) for 0 <= e <= 1, to the last digits for small e as well: the quotient takes out the rounding
  // of 1 + e (W. Kahan).
  static Packet<T> log1p(Packet<T> e) {
    const auto one = S::fill(T(1)), sum = S::add(one, e), rounded = S::sub(sum, one);
    return S::select(S::equal(rounded, S::zero()), e, S::mul(S::log(sum), S::div(e, rounded)));
  }
  Packet<T> operator()(Packet<T> x, Packet<T> y, Index i, Index count, Packet<T>& slope) const {
    const Logistic<T> logistic(x);
    const auto tail = log1p(logistic.e);
    const auto up = S::mul(y, weights == nullptr ? S::fill(weight) : load_first(weights + i, count));
    const auto down = S::sub(S::fill(T(1)), y);
    slope = S::sub(S::mul(down, logistic.value()), S::mul(up, logistic.complement()));
    const auto above = S::relu(x), below = S::relu(S::sub(S::zero(), x));
    return S::add(S::mul(up, S::add(below, tail)), S::mul(down, S::add(above, tail)));
  }
};

// dx = scale * the slopes; returns scale * the sum of the losses.
template <class T, class Loss>
double sum_of_losses(const T* x, const T* y, T* dx, Index n, double scale, double work, const Loss& loss) {
  using S = Simd<T>;
  const SumParts cut{n};
  double parts[SumParts::most_parts] = {};
  // Parts begin at whole vectors; where dx does not, sums would follow from its address.
  const bool non_temporal = use_non_temporal<T>(n) && is_aligned(dx);
  parallel_for(cut.count, threads_for(work * double(n)), [&](Index part, int) {
    const Index last = cut.first(part) + cut.values(part);
    const auto factor = S::fill(T(scale));
    double total = 0;
    for (Index begin = cut.first(part); begin < last; begin += short_run) {
      auto sum = S::zero();
      write_vectors(dx + begin, std::min(short_run, last - begin), non_temporal,
                    [&](Index from, Index count) {
                      const Index i = begin + from;
                      Packet<T> slope;
                      sum = S::add(sum, loss(load_first(x + i, count, Loss::of_none),
                                             load_first(y + i, count), i, count, slope));
                      return S::mul(slope, factor);
                    });
      total += double(S::sum(sum));
    }
    store_fence();
    parts[part] = total;
  });
  return sum_in_order(parts, cut.count) * scale;
}

// `option` is Huber's delta, or the weight of positive targets.
template <class T>
double pointwise_loss(PointwiseLoss kind, const T* x, const T* y, const T* weights, double option, T* dx,
                      Index n) {
  const double scale = 1 / double(n);
  switch (kind) {
    case PointwiseLoss::mse: return sum_of_losses(x, y, dx, n, scale, 2, SquaredLoss<T>());
    case PointwiseLoss::l1:
    case PointwiseLoss::huber:
      return sum_of_losses(
          x, y, dx, n, scale, 2,
          kind == PointwiseLoss::l1 ? HuberLoss<T>::absolute() : HuberLoss<T>::up_to(T(option)));
    case PointwiseLoss::bce:
      return sum_of_losses(x, y, dx, n, scale, 20, LogisticLoss<T>{weights, T(option)});
  }
  return 0;
}

// Dice loss of maps of logits x and targets y, each of `size` values: with p = sigmoid(x), I = sum p * y and
// D = sum p + sum y + 1,
//
//     loss = mean over the maps of 1 - (2 I + 1) / D,  dx = p (1 - p) * ((2 I + 1) / D - 2 y) / D / maps
template <class T>
double dice_loss_of_map(const T* x, const T* y, T* dx, Index size, double scale) {
  using S = Simd<T>;
  double product = 0, mass = 0;
  for (Index begin = 0; begin < size; begin += short_run) {
    auto products = S::zero(), masses = S::zero();
    write_vectors(dx + begin, std::min(short_run, size - begin), false, [&](Index from, Index count) {
      const auto lowest = std::numeric_limits<T>::lowest();  // its sigmoid is 0
      const auto p = Sigmoid<T>().value(load_first(x + begin + from, count, lowest));
      const auto v = load_first(y + begin + from, count);
      products = S::fma(p, v, products);
      masses = S::add(masses, S::add(p, v));
      return p;
    });
    product += double(S::sum(products));
    mass += double(S::sum(masses));
  }
  const double share = (2 * product + 1) / (mass + 1);
  const auto ratio = S::fill(T(share)), two = S::fill(T(2)), factor = S::fill(T(scale / (mass + 1)));
  write_vectors(dx, size, false, [&](Index i, Index count) {
    const auto p = load_first<T>(dx + i, count), slope = S::mul(p, S::sub(S::fill(T(1)), p));
    const auto y_part = S::sub(ratio, S::mul(two, load_first(y + i, count)));
    return S::mul(S::mul(slope, factor), y_part);
  });
  return scale * (1 - share);
}

template <class T>
double dice_loss(const T* x, const T* y, T* dx, Index maps, Index size) {
  const double scale = 1 / double(maps);
  const ScratchArray<double> memory(maps);
  double* parts = memory.data();  // the losses of the maps
  parallel_ranges(maps, std::max<Index>(1, 2048 / size), 12.0 * double(size), [=](Index begin, Index end) {
    for (Index m = begin; m < end; ++m)
      parts[m] = dice_loss_of_map(x + m * size, y + m * size, dx + m * size, size, scale);
  });
  return sum_in_order(parts, maps);
}

}  // namespace cnnlib::CNNLIB_ISA
