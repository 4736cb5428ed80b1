// One pass over memory for each optimizer's update: weights and state are written in place. dw counts `scale`
// times.
#pragma once

#include <cmath>

#include "kernels/elementwise/activations.hpp"
#include "kernels/scratch_layout.hpp"
#include "kernels/simd/sums.hpp"

namespace cnnlib::CNNLIB_ISA {

// step(i, lanes) for all vectors of [0, n), in parallel.
template <class T, class Step>
void update(Index n, double work_per_item, const Step& step) {
  parallel_ranges(n, elementwise_grain, work_per_item,
                  [=](Index begin, Index end) { each_vector<T>(begin, end, step); });
}

// w -= rate * dw
template <class T>
void sgd_step(T* w, const T* dw, double scale_, double rate_, Index n) {
  using S = Simd<T>;
  const auto scale = S::fill(T(scale_)), rate = S::fill(T(rate_));
  update<T>(n, 1, [=](Index i, Index count) {
    const auto g = S::mul(load_first(dw + i, count), scale);
    store_first(w + i, count, S::sub(load_first(w + i, count), S::mul(rate, g)));
  });
}

// velocity = momentum * velocity - rate * dw; w += velocity, or with Nesterov's look-ahead
// w += velocity + momentum * (velocity - old velocity).
template <class T>
void momentum_step(T* w, const T* dw, double scale_, T* velocity, double rate_, double momentum_,
                   bool nesterov, Index n) {
  using S = Simd<T>;
  const auto scale = S::fill(T(scale_)), rate = S::fill(T(rate_)), momentum = S::fill(T(momentum_));
  update<T>(n, 2, [=](Index i, Index count) {
    const auto g = S::mul(load_first(dw + i, count), scale);
    const auto old = load_first(velocity + i, count);
    const auto v = S::sub(S::mul(momentum, old), S::mul(rate, g));
    const auto step = nesterov ? S::fma(momentum, S::sub(v, old), v) : v;
    store_first(w + i, count, S::add(load_first(w + i, count), step));
    store_first(velocity + i, count, v);
  });
}

// a = decay * a + (1 - decay) * dw^2; w -= rate * dw / (sqrt(a) + epsilon)
template <class T>
void rmsprop_step(T* w, const T* dw, double scale_, T* a, double rate_, double decay_, double epsilon_,
                  Index n) {
  using S = Simd<T>;
  const auto scale = S::fill(T(scale_)), rate = S::fill(T(rate_)), epsilon = S::fill(T(epsilon_));
  const auto decay = S::fill(T(decay_)), fresh = S::fill(T(1 - decay_));
  update<T>(n, 4, [=](Index i, Index count) {
    const auto g = S::mul(load_first(dw + i, count), scale);
    const auto second = S::fma(S::mul(fresh, g), g, S::mul(decay, load_first(a + i, count)));
    const auto step = S::div(S::mul(rate, g), S::add(S::sqrt(second), epsilon));
    store_first(a + i, count, second);
    store_first(w + i, count, S::sub(load_first(w + i, count), step));
  });
}

// First and second moments v and a, corrected for their start at zero after t steps:
// w -= rate * weight_decay * w + rate * v / (1 - beta1^t) / (sqrt(a / (1 - beta2^t)) + epsilon)
template <class T>
void adam_step(T* w, const T* dw, double scale_, T* v, T* a, double rate_, double beta1_, double beta2_,
               double epsilon_, double weight_decay, Index t, Index n) {
  using S = Simd<T>;
  const auto scale = S::fill(T(scale_)), keep = S::fill(T(1 - rate_ * weight_decay));
  const auto beta1 = S::fill(T(beta1_)), fresh1 = S::fill(T(1 - beta1_));
  const auto beta2 = S::fill(T(beta2_)), fresh2 = S::fill(T(1 - beta2_));
  const auto epsilon = S::fill(T(epsilon_));
  const auto rate = S::fill(T(rate_ / (1 - std::pow(beta1_, double(t)))));
  const auto correction = S::fill(T(1 / (1 - std::pow(beta2_, double(t)))));
  update<T>(n, 4, [=](Index i, Index count) {
    const auto g = S::mul(load_first(dw + i, count), scale);
    const auto first = S::fma(fresh1, g, S::mul(beta1, load_first(v + i, count)));
    const auto second = S::fma(S::mul(fresh2, g), g, S::mul(beta2, load_first(a + i, count)));
    const auto step = S::div(S::mul(rate, first), S::add(S::sqrt(S::mul(second, correction)), epsilon));
    store_first(v + i, count, first);
    store_first(a + i, count, second);
    store_first(w + i, count, S::sub(S::mul(keep, load_first(w + i, count)), step));
  });
}

// The sum of the squares of x, in double; the sums of its ranges are added in their order.
template <class T>
double sum_of_squares(const T* x, Index n) {
  constexpr Index lanes = 32;
  const Index ranges = ceil_div(n, elementwise_grain);
  const ScratchArray<double> memory(ranges);
  double* sums = memory.data();
  parallel_ranges(n, elementwise_grain, 1, [&](Index begin, Index end) {
    double part[lanes] = {};
    Index i = begin;
    for (; i + lanes <= end; i += lanes)
      for (Index k = 0; k < lanes; ++k) part[k] += double(x[i + k]) * double(x[i + k]);
    for (Index k = 0; i + k < end; ++k) part[k] += double(x[i + k]) * double(x[i + k]);
    sums[begin / elementwise_grain] = sum_in_order(part, lanes);
  });
  return sum_in_order(sums, ranges);
}

}  // namespace cnnlib::CNNLIB_ISA
