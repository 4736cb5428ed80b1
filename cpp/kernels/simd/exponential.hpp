// The exponential function of negative numbers, and e^x - 1. With x = k log(2) + r for the nearest whole k:
//
//     e^x = 2^k e^r,  e^r = 1 + r + r^2 q(r),  q(r) = (e^r - 1 - r) / r^2
//
// q is interpolated in Chebyshev's points of |r| <= 0.35.
#pragma once

#include "kernels/simd/packet.hpp"

namespace cnnlib::CNNLIB_ISA {

// factors[0] + factors[1] * x + factors[2] * x^2 + ...: pairs of terms, then Horner's rule in x^2, whose
// chain of multiply-adds is half as long.
template <class T, int count>
[[gnu::always_inline]] inline Packet<T> polynomial(const T (&factors)[count], Packet<T> x) {
  using S = Simd<T>;
  const auto pair = [&](int i) { return S::fma(S::fill(factors[i + 1]), x, S::fill(factors[i])); };
  constexpr int top = count % 2 == 0 ? count - 2 : count - 1;
  const auto square = S::mul(x, x);
  auto value = count % 2 == 0 ? pair(count - 2) : S::fill(factors[count - 1]);
#pragma GCC unroll 32
  for (int i = top - 2; i >= 0; i -= 2) value = S::fma(value, square, pair(i));
  return value;
}

template <class T>
struct Exponential;
template <>
struct Exponential<float> {
  static constexpr float inverse_log2 = 1.44269504f;
  static constexpr float log2_upper = 0.693115234375f;  // 12 bits, of which no multiple needed here loses any
  static constexpr float log2_lower = 3.1946184945e-5f;
  static constexpr float q[] = {0.5f, 0.16666573424f, 0.041666550163f, 0.0083637670233f, 0.0013926918056f};
  static constexpr float zero_below = -104;      // where e^x is less than half of the smallest number
  static constexpr float minus_one_below = -20;  // where e^x - 1 is -1
  // A power of two that takes all results out of the denormal range.
  static constexpr int lift = 64;
  static constexpr float unlift = 0x1p-64f;
};
template <>
struct Exponential<double> {
  static constexpr double inverse_log2 = 1.44269504088896340736;
  static constexpr double log2_upper = 0.6931471804855391383171082;  // 33 bits
  static constexpr double log2_lower = 7.4406171100123967161e-11;
  static constexpr double q[] = {0.5000000000000001127,     0.1666666666666666753,   0.04166666666662067995,
                                 0.008333333333329796681,   0.001388888891891890617, 0.0001984126986436493187,
                                 0.00002480151867226835421, 2.755726644235342475e-6, 2.762132426931368616e-7,
                                 2.510133585478852186e-8};
  static constexpr double zero_below = -746;
  static constexpr double minus_one_below = -40;
  static constexpr int lift = 512;
  static constexpr double unlift = 0x1p-512;
};

// x = k log(2) + r, and 2^(k + lift).
template <class T, int lift>
struct Reduced {
  using S = Simd<T>;
  using E = Exponential<T>;
  typename S::Packet r, power;

  [[gnu::always_inline]] explicit Reduced(typename S::Packet x) {
    const auto k = nearest(x);
    r = S::fma(k, S::fill(-E::log2_lower), S::fma(k, S::fill(-E::log2_upper), x));
  }
  // Of x + rest, whose nearest k is that of `about`.
  [[gnu::always_inline]] Reduced(typename S::Packet x, typename S::Packet rest, typename S::Packet about) {
    const auto k = nearest(about);
    r = S::add(S::fma(k, S::fill(-E::log2_upper), x), S::fma(k, S::fill(-E::log2_lower), rest));
  }
  // k, and the power from it.
  [[gnu::always_inline]] typename S::Packet nearest(typename S::Packet x) {
    // A number whose last place is 1, so that it rounds what is added to it; its last bits are then the
    // exponent of 2^(k + lift) as T keeps it.
    constexpr int bits = Format<T>::fraction_bits;
    constexpr T rounder = T(3 * (typename S::Whole(1) << (bits - 1)) + Format<T>::exponent_bias + lift);
    const auto shift = S::fill(rounder), sum = S::fma(x, S::fill(E::inverse_log2), shift);
    power = S::of_bits(S::to_bits(sum) << bits);
    return S::sub(sum, shift);
  }
  // e^r - 1
  [[gnu::always_inline]] typename S::Packet exponential_less_one() const {
    return S::fma(S::mul(r, r), polynomial<T>(E::q, r), r);
  }
  // e^x times 2^lift.
  [[gnu::always_inline]] typename S::Packet lifted() const {
    return S::fma(exponential_less_one(), power, power);
  }
  // Rounded where it becomes a denormal number, and nowhere before.
  [[gnu::always_inline]] typename S::Packet exponential() const {
    return S::mul(lifted(), S::fill(E::unlift));
  }
};

// e^x for x <= 0, minus infinity included.
template <class T>
[[gnu::always_inline]] inline Packet<T> exp_of_negative(Packet<T> x) {
  using S = Simd<T>;
  using E = Exponential<T>;
  return Reduced<T, E::lift>(S::max(x, S::fill(E::zero_below))).exponential();
}

// e^x - 1 for x <= 0, minus infinity included.
template <class T>
[[gnu::always_inline]] inline Packet<T> expm1_of_negative(Packet<T> x) {
  using S = Simd<T>;
  using E = Exponential<T>;
  const Reduced<T, 0> reduced(S::max(x, S::fill(E::minus_one_below)));
  return S::fma(reduced.power, reduced.exponential_less_one(), S::sub(reduced.power, S::fill(T(1))));
}

}  // namespace cnnlib::CNNLIB_ISA
