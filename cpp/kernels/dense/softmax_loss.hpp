// Softmax over the axis of C of x (N, C, inner) with cross-entropy, a row or a pixel at a time. With targets
// t[c] = weights[c] * [c == label], or weights[c] * y[c] of given y, and p = softmax(x):
//
//     loss = scale * sum of -t[c] * log p[c]
//          = scale * (mass * log(sum_c exp(x[c] - most)) - sum_c t[c] * (x[c] - most)),  mass = sum_c t[c]
//     dx[c] = scale * (mass * p[c] - t[c])
//
// Where all t are 0, as of a label to ignore, both are 0 whatever x is; a t of 0 takes nothing from an x of
// minus infinity. The mass may be 0 beside others that are not: factors of either sign.
#pragma once

#include <cmath>

#include "kernels/dense/softmax.hpp"
#include "kernels/scratch_layout.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
T weight_of(const SoftmaxTargets<T>& to, Index c) {
  return to.weights == nullptr ? T(1) : to.weights[c];
}

// The vector of t at y, whose lanes belong to the classes from c on.
template <class T>
[[gnu::always_inline]] inline Packet<T> row_of_targets(const SoftmaxTargets<T>& to, const T* y, Index c,
                                                       Index count) {
  const auto v = load_first(y + c, count);
  return to.weights == nullptr ? v : Simd<T>::mul(v, load_first(to.weights + c, count));
}

// A vector of t[c] * (x[c] - most).
template <class T>
[[gnu::always_inline]] inline Packet<T> target_product(Packet<T> target, Packet<T> x, Packet<T> most) {
  using S = Simd<T>;
  return S::select(S::equal(target, S::zero()), S::zero(), S::mul(target, S::sub(x, most)));
}

// A row of C values; returns its loss.
template <class T>
double softmax_loss_of_row(const T* x, const SoftmaxTargets<T>& to, Index n, T* dx, Index C) {
  using S = Simd<T>;
  using Row = SoftmaxRow<T>;
  const bool labelled = to.labels != nullptr;
  const T* y = labelled ? nullptr : to.values + n * C;
  const Index label = labelled ? Index(to.labels[n]) : 0;
  double mass = labelled && label != to.ignore ? double(weight_of(to, label)) : 0;
  const auto sum_of_targets = [&](const auto& part) {
    return Row::template sum<1>(C,
                                [&](Index c, Index count) { return part(row_of_targets(to, y, c, count)); });
  };
  if (!labelled) mass = sum_of_targets([](auto v) { return v; });
  if (mass == 0 && (labelled || sum_of_targets(S::abs) == 0)) {
    std::fill_n(dx, C, T(0));
    return 0;
  }
  const T most = Row::highest(x, C);
  const double total = Row::exponentials(x, most, dx, C);
  double product;
  if (labelled)
    product = mass * (double(x[label]) - double(most));
  else
    product = Row::template sum<1>(C, [&](Index c, Index count) {
      return target_product<T>(row_of_targets(to, y, c, count), load_first(x + c, count, most),
                               S::fill(most));
    });
  const auto factor = S::fill(T(to.scale * mass / total)), scale = S::fill(T(-to.scale));
  each_vector<T>(0, C, [&](Index c, Index count) {
    auto v = S::mul(load_first<T>(dx + c, count), factor);
    if (!labelled) v = S::fma(row_of_targets(to, y, c, count), scale, v);
    store_first(dx + c, count, v);
  });
  if (labelled) dx[label] -= T(to.scale * mass);
  return to.scale * (mass * std::log(total) - product);
}

// Up to SoftmaxPixels::width pixels of an image; x and dx are at the first one, the p-th of all.
template <class T>
struct SoftmaxLossPixels : SoftmaxPixels<T> {
  using typename SoftmaxPixels<T>::S;
  using SoftmaxPixels<T>::count;
  using SoftmaxPixels<T>::inner;
  static constexpr Index columns = softmax_columns;

  // Each pixel's mass, and the product of its label's with x - most.
  void find_labels(const T* x, const std::int64_t* labels, const SoftmaxTargets<T>& to, const Packet<T>* most,
                   Packet<T>* mass, Packet<T>* product) const {
    constexpr Index width = SoftmaxPixels<T>::width;
    T masses[width] = {}, right[width] = {};
    for (Index i = 0; i < count; ++i)
      if (labels[i] != to.ignore) {
        masses[i] = weight_of(to, labels[i]);
        right[i] = x[labels[i] * inner + i];
      }
    for (Index k = 0; k < columns; ++k) {
      mass[k] = S::load(masses + k * S::size);
      product[k] = S::mul(mass[k], S::sub(S::load(right + k * S::size), most[k]));
    }
  }

  double run(const T* x, const SoftmaxTargets<T>& to, Index at, Index pixel, T* dx) const {
    Packet<T> most[columns], total[columns], mass[columns], product[columns], counting[columns];
    const T* y = to.labels == nullptr ? to.values + at : nullptr;
    const std::int64_t* labels = to.labels == nullptr ? nullptr : to.labels + pixel;
    const auto target = [&](Index from, Index lanes) {
      const auto v = load_first(y + from, lanes);
      return to.weights == nullptr ? v : S::mul(v, S::fill(to.weights[from / inner]));
    };
    this->exponentials(x, dx, most, total);
    if (labels == nullptr) {
      this->sum(mass, [&](Index, Index from, Index lanes) { return target(from, lanes); });
      this->sum(product, [&](Index k, Index from, Index lanes) {
        return target_product<T>(target(from, lanes), load_first(x + from, lanes), most[k]);
      });
    } else {
      find_labels(x, labels, to, most, mass, product);
    }
    std::copy_n(mass, columns, counting);
    const auto is_zero = [](Packet<T> v) { return S::any(S::equal(v, S::zero())); };
    if (labels == nullptr && std::any_of(mass, mass + columns, is_zero))
      this->sum(counting, [&](Index, Index from, Index lanes) { return S::abs(target(from, lanes)); });
    auto sum = S::zero();
    for (Index k = 0, i = 0; i < count; ++k, i += S::size) {
      const auto loss = S::sub(S::mul(mass[k], S::log(total[k])), product[k]);
      sum = S::add(sum, S::select(S::equal(counting[k], S::zero()), S::zero(), loss));
    }
    const auto scale = S::fill(T(to.scale));
    Packet<T> factor[columns];
    for (Index k = 0; k < columns; ++k) factor[k] = S::div(S::mul(mass[k], scale), total[k]);
    this->vectors(0, this->C, [&](Index k, Index from, Index lanes) {
      auto v = S::mul(load_first<T>(dx + from, lanes), factor[k]);
      if (labels == nullptr) v = S::sub(v, S::mul(target(from, lanes), scale));
      store_first(dx + from, lanes, S::select(S::equal(counting[k], S::zero()), S::zero(), v));
    });
    if (labels != nullptr)
      for (Index i = 0; i < count; ++i)
        if (labels[i] != to.ignore) dx[labels[i] * inner + i] -= T(to.scale) * weight_of(to, labels[i]);
    return to.scale * double(S::sum(sum));
  }
};

template <class T>
double softmax_loss(const T* x, const SoftmaxTargets<T>& to, T* dx, Index N, Index C, Index inner) {
  constexpr Index width = SoftmaxPixels<T>::width;
  const Index runs = ceil_div(inner, width);
  const ScratchArray<double> memory(N * runs);
  double* parts = memory.data();  // the losses of the runs
  each_softmax_run(N, C, inner, width, 8, [=, &to](Index at, Index count, Index r) {
    const SoftmaxLossPixels<T> pixels{{C, inner, count}};
    parts[r] = inner == 1 ? softmax_loss_of_row(x + at, to, r, dx + at, C)
                          : pixels.run(x + at, to, at, r / runs * inner + r % runs * width, dx + at);
  });
  return sum_in_order(parts, N * runs);
}

}  // namespace cnnlib::CNNLIB_ISA
