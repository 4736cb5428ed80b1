// What the norms share: y = (x - mean) / sqrt(var + eps) * gamma + beta.
//
// Statistics are double. Deviations and their squares are summed around a rough mean, that of the first
// values; where it turns out to lie far from the mean, once more around that, which is as exact as the
// textbook's two passes. Means are split into a T and the rest, so that x - mean stays exact where x is
// large.
#pragma once

#include <cmath>

#include "../parallel.hpp"
#include "arena.hpp"
#include "sums.hpp"

namespace cnnlib::CNNLIB_ISA {

// The vector at p, of which `count` lanes count and the others are `other`.
template <class T>
typename Simd<T>::Packet load_counted(const T* p, Index count, T other) {
  return count == Simd<T>::size ? Simd<T>::load(p) : Simd<T>::load_some(p, 0, count, other);
}

struct TwoSums {
  double a = 0, b = 0;
};

// Two sums over `planes` runs of `size` values that lie `stride` apart: body(position, lanes, a, b) adds a
// vector's share to the packets a and b.
template <class T, class Body>
TwoSums two_sums(Index planes, Index size, Index stride, const Body& body) {
  using S = Simd<T>;
  TwoSums total;
  typename S::Packet a[2] = {S::zero(), S::zero()}, b[2] = {S::zero(), S::zero()};
  Index count = 0;
  for (Index plane = 0; plane < planes; ++plane)
    for (Index begin = 0; begin < size; begin += short_run) {
      Index i = plane * stride + begin;
      const Index last = plane * stride + std::min(size, begin + short_run);
      count += last - i;
      for (; i + 2 * S::size <= last; i += 2 * S::size) {
        body(i, S::size, a[0], b[0]);
        body(i + S::size, S::size, a[1], b[1]);
      }
      for (; i < last; i += S::size) body(i, std::min<Index>(S::size, last - i), a[0], b[0]);
      if (count < short_run && (plane + 1 < planes || begin + short_run < size)) continue;
      total.a += double(S::sum(S::add(a[0], a[1])));
      total.b += double(S::sum(S::add(b[0], b[1])));
      a[0] = a[1] = b[0] = b[1] = S::zero();
      count = 0;
    }
  return total;
}

struct Moments {
  double mean, var;
};

// mean and biased variance from the sums of d = x - rough and d * d over n values; `far` if the rough mean
// was no good.
inline Moments moments(double rough, const TwoSums& sums, double n, bool& far) {
  const double shift = sums.a / n, var = sums.b / n - shift * shift;
  far = shift * shift > var;
  return {rough + shift, var < 0 ? 0 : var};  // NaN stays NaN
}

// Over `planes` runs of `size` values that lie `stride` apart.
template <class T>
Moments moments_of(const T* x, Index planes, Index size, Index stride) {
  using S = Simd<T>;
  const double n = double(planes) * double(size);
  const auto around = [&](T rough, bool& far) {
    const auto middle = S::fill(rough);
    const auto sums = two_sums<T>(planes, size, stride, [&](Index at, Index count, auto& a, auto& b) {
      const auto d = S::sub(load_counted(x + at, count, rough), middle);
      a = S::add(a, d);
      b = S::fma(d, d, b);
    });
    return moments(double(rough), sums, n, far);
  };
  const Index first = std::min<Index>(size, 64);
  bool far;
  Moments m = around(T(sum(x, first) / double(first)), far);
  if (far) m = around(T(m.mean), far);
  return m;
}

// y = (x - high) * scale + shift, with the low part of the mean folded into shift.
template <class T>
struct Affine {
  T high, scale, shift;
  Affine(double mean, double scale_, double shift_)
      : high(T(mean)), scale(T(scale_)), shift(T(shift_ - (mean - double(T(mean))) * scale_)) {}
  template <bool Relu>
  void apply(const T* x, T* y, Index n) const {
    using S = Simd<T>;
    const auto h = S::fill(high), by = S::fill(scale), plus = S::fill(shift);
    const auto value = [&](auto v) {
      v = S::fma(S::sub(v, h), by, plus);
      return Relu ? S::relu(v) : v;
    };
    Index i = 0;
    for (; i + S::size <= n; i += S::size) S::store(y + i, value(S::load(x + i)));
    if (i < n) S::store_lanes(y + i, value(S::load_lanes(x + i, 0, n - i)), 0, n - i);
  }
};

// dx = dout * by_dout + (x - high) * by_x + constant.
template <class T>
struct NormGradient {
  T high, by_dout, by_x, constant;

  // sum_dout and sum_dot (of dout * xhat) are already divided by the number of values, or zero where
  // the statistics did not depend on x.
  NormGradient(double mean, double inv_std, double gamma, double mean_dout, double mean_dot)
      : high(T(mean)), by_dout(T(gamma * inv_std)), by_x(T(-gamma * inv_std * inv_std * mean_dot)) {
    const double low = mean - double(high);
    constant = T(-gamma * inv_std * mean_dout + gamma * inv_std * inv_std * mean_dot * low);
  }

  T operator()(T dout, T x) const { return dout * by_dout + ((x - high) * by_x + constant); }

  void apply(const T* dout, const T* x, T* dx, Index n) const {
    using S = Simd<T>;
    const auto h = S::fill(high), bd = S::fill(by_dout), bx = S::fill(by_x), c = S::fill(constant);
    const auto value = [&](auto g, auto v) { return S::fma(g, bd, S::fma(S::sub(v, h), bx, c)); };
    Index i = 0;
    for (; i + S::size <= n; i += S::size) S::store(dx + i, value(S::load(dout + i), S::load(x + i)));
    if (i == n) return;
    const auto rest = value(S::load_lanes(dout + i, 0, n - i), S::load_lanes(x + i, 0, n - i));
    S::store_lanes(dx + i, rest, 0, n - i);
  }
};

// sum dout and sum dout * (x - mean), from the sums around the T nearest to the mean.
template <class T>
TwoSums gradient_sums(const T* dout, const T* x, double mean, Index planes, Index size, Index stride) {
  using S = Simd<T>;
  const T high = T(mean);
  const auto middle = S::fill(high);
  auto sums = two_sums<T>(planes, size, stride, [&](Index at, Index count, auto& a, auto& b) {
    const auto g = load_counted(dout + at, count, T(0));
    a = S::add(a, g);
    b = S::fma(g, S::sub(load_counted(x + at, count, high), middle), b);
  });
  sums.b -= sums.a * (mean - double(high));
  return sums;
}

}  // namespace cnnlib::CNNLIB_ISA
