// Sums that lose no precision: short runs in T, long ones in double.
#pragma once

#include "kernels/simd/packet.hpp"

namespace cnnlib::CNNLIB_ISA {

// Values added up in T before double takes over: few enough for rounding errors to stay small, and so many
// that the conversions cost nothing.
constexpr Index short_run = 2048;

// The parts that a sum over `size` values is cut into, added up in their order: the size alone decides, so
// that a thread may take all of them, or one.
struct SumParts {
  static constexpr Index least_values = 16384, most_parts = 64;
  Index size;
  Index part = std::max(least_values, round_up(ceil_div(size, most_parts), short_run));
  Index count = ceil_div(size, part);

  Index first(Index i) const { return i * part; }
  Index values(Index i) const { return std::min(part, size - i * part); }
};

// p[0] + ... + p[n - 1]: four sums in vectors hide the latency of an addition.
template <class T>
double sum(const T* p, Index n) {
  using S = Simd<T>;
  double total = 0;
  for (Index begin = 0; begin < n; begin += short_run) {
    const Index end = std::min(n, begin + short_run);
    Index i = begin;
    auto a = S::zero(), b = S::zero(), c = S::zero(), d = S::zero();
    for (; i + 4 * S::size <= end; i += 4 * S::size) {
      a = S::add(a, S::load(p + i));
      b = S::add(b, S::load(p + i + S::size));
      c = S::add(c, S::load(p + i + 2 * S::size));
      d = S::add(d, S::load(p + i + 3 * S::size));
    }
    for (; i + S::size <= end; i += S::size) a = S::add(a, S::load(p + i));
    T rest = 0;
    for (; i < end; ++i) rest += p[i];
    total += double(S::sum(S::add(S::add(a, b), S::add(c, d)))) + double(rest);
  }
  return total;
}

// p[0] + ... + p[n - 1], added in this order.
inline double sum_in_order(const double* p, Index n) {
  double total = 0;
  for (Index i = 0; i < n; ++i) total += p[i];
  return total;
}

// sum[i] += part[i], i < size
template <class T>
void add_to(T* sum, const T* part, Index size) {
  for (Index i = 0; i < size; ++i) sum[i] += part[i];
}

}  // namespace cnnlib::CNNLIB_ISA
