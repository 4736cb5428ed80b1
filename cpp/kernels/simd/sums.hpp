// Sums that lose no precision: short runs in T, long ones in double.
#pragma once

#include "kernels/simd/packet.hpp"

namespace cnnlib::CNNLIB_ISA {

// Values added up in T before double takes over.
constexpr Index short_run = 2048;

// sum of f(i) over [0, n), where f(i, Packet tag) gives Simd<T>::size values from i on and f(i, T tag) one.
template <class T, class F>
double sum_over(Index n, const F& f) {
  using S = Simd<T>;
  double total = 0;
  for (Index begin = 0; begin < n; begin += short_run) {
    const Index end = std::min(n, begin + short_run);
    Index i = begin;
    auto a = S::zero(), b = S::zero(), c = S::zero(), d = S::zero();
    for (; i + 4 * S::size <= end; i += 4 * S::size) {
      a = S::add(a, f(i, S::zero()));
      b = S::add(b, f(i + S::size, S::zero()));
      c = S::add(c, f(i + 2 * S::size, S::zero()));
      d = S::add(d, f(i + 3 * S::size, S::zero()));
    }
    for (; i + S::size <= end; i += S::size) a = S::add(a, f(i, S::zero()));
    T rest = 0;
    for (; i < end; ++i) rest += f(i, T(0));
    total += double(S::sum(S::add(S::add(a, b), S::add(c, d)))) + double(rest);
  }
  return total;
}

// Packet and scalar loads under one name, for functions handed to sum_over.
template <class T>
typename Simd<T>::Packet at(const T* p, typename Simd<T>::Packet) {
  return Simd<T>::load(p);
}
template <class T>
T at(const T* p, T) {
  return *p;
}

template <class T>
double sum(const T* p, Index n) {
  return sum_over<T>(n, [&](Index i, auto tag) { return at<T>(p + i, tag); });
}

// sum[i] += part[i], i < size
template <class T>
void add_to(T* sum, const T* part, Index size) {
  for (Index i = 0; i < size; ++i) sum[i] += part[i];
}

}  // namespace cnnlib::CNNLIB_ISA
