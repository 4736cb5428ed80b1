// Softmax with cross-entropy of x (N, C) and labels y (N,): losses[n] = log(sum_c exp(x[n, c])) - x[n, y[n]],
// dx = (softmax(x) - one-hot(y)) / N.
#pragma once

#include <cmath>

#include "kernels/simd/sums.hpp"
#include "threads/parallel.hpp"

namespace cnnlib::CNNLIB_ISA {

// e = exp(x - max), whose sum is returned, for any values: NaN stays NaN, and minus infinity gives 0.
template <class T>
double exponentials_of_any(const T* x, Index n, T& most, T* e) {
  most = x[0];
  for (Index c = 1; c < n; ++c) most = x[c] > most || x[c] != x[c] ? x[c] : most;
  double total = 0;
  for (Index c = 0; c < n; ++c) total += double(e[c] = std::exp(x[c] - most));
  return total;
}

// The same for finite values, in vectors. False, and nothing done, where a value is not finite.
template <class T>
bool exponentials(const T* x, Index n, T& most, T* e, double& total) {
  using S = Simd<T>;
  const Index whole = n / S::size * S::size, rest = n - whole;
  auto highest = S::fill(x[0]), check = S::zero();
  for (Index c = 0; c < whole; c += S::size) {
    const auto v = S::load(x + c);
    highest = S::max(highest, v);
    check = S::fma(v, S::zero(), check);  // NaN from NaN and infinities
  }
  if (rest > 0) {
    const auto v = S::load_lanes(x + whole, 0, rest, x[0]);
    highest = S::max(highest, v);
    check = S::fma(v, S::zero(), check);
  }
  if (S::sum(check) != T(0)) return false;
  most = S::max_of_lanes(highest);
  const auto shift = S::fill(most);
  total = 0;
  for (Index begin = 0; begin < n; begin += short_run) {
    const Index end = std::min(n, begin + short_run);
    auto sum = S::zero();
    Index c = begin;
    for (; c + S::size <= end; c += S::size) {
      const auto v = S::exp(S::sub(S::load(x + c), shift));
      S::store(e + c, v);
      sum = S::add(sum, v);
    }
    if (c < end) {
      const auto v = S::exp(S::sub(S::load_lanes(x + c, 0, end - c, most), shift));
      S::store_lanes(e + c, v, 0, end - c);
      sum = S::add(sum, S::load_lanes(e + c, 0, end - c));
    }
    total += double(S::sum(sum));
  }
  return true;
}

// losses[n] = log(sum_c exp(x[n, c])) - x[n, y[n]]; dx = (softmax - one-hot) / N.
template <class T>
void softmax_loss(const T* x, const std::int64_t* y, T* dx, double* losses, Index N, Index C) {
  using S = Simd<T>;
  constexpr Index slice = 2048;  // values worth a task
  parallel_ranges(N, std::max<Index>(1, slice / C), 8.0 * double(C), [&](Index begin, Index end) {
    for (Index n = begin; n < end; ++n) {
      const T* row = x + n * C;
      T* to = dx + n * C;
      T most;
      double total;
      if (!exponentials(row, C, most, to, total)) total = exponentials_of_any(row, C, most, to);
      losses[n] = std::log(total) - (double(row[y[n]]) - double(most));
      const T scale = T(1 / (total * double(N)));
      const auto by = S::fill(scale);
      Index c = 0;
      for (; c + S::size <= C; c += S::size) S::store(to + c, S::mul(S::load(to + c), by));
      for (; c < C; ++c) to[c] *= scale;
      to[y[n]] -= T(1.0 / double(N));
    }
  });
}

}  // namespace cnnlib::CNNLIB_ISA
