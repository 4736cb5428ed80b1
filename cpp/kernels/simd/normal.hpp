// The lower tail of the normal distribution, P(-a) for a >= 0. What is left of it when e^(-a^2 / 2) is taken
// out falls slowly and is interpolated, times a + center, in Chebyshev's points of t:
//
//     P(-a) = e^(-a^2 / 2) / (a + center) * p(t),  t = (a - center) / (a + center)
#pragma once

#include "kernels/simd/exponential.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
struct NormalTail;
template <>
struct NormalTail<float> {
  static constexpr float zero_beyond = 15;  // the end of the interpolation, where P(-a) is 0 in float
  static constexpr float center = 4;
  static constexpr float p[] = {0.7552851386f,     -0.60789659415f,   0.38713668307f,   -0.18652330676f,
                                0.060406185514f,   -0.0075254024182f, -0.003520972824f, 0.0015668816878f,
                                0.00018899651942f, -0.0001255583856f};
};
template <>
struct NormalTail<double> {
  static constexpr double zero_beyond = 40;
  static constexpr double center = 5;
  static constexpr double p[] = {
      0.769193049750062958,      -0.6653825028900566937,     0.4953056159699765887,
      -0.3135331566713051714,    0.1650203661703750253,      -0.06911863870629467953,
      0.02079506680009145963,    -0.002993376770649268116,   -0.0007978694007392487871,
      0.0005448990650373230115,  -0.00005937571381647131181, -0.00004976281037790303534,
      0.00001668116036458664543, 3.980871285666972487e-6,    -2.769145782282277865e-6,
      -3.365122043499069501e-7,  4.329837037415609406e-7,    4.209183333886914582e-8,
      -6.584886840079739718e-8,  -9.14450208128917386e-9,    7.667236107202653315e-9,
      1.689105766515378083e-9,   -1.80732120781460434e-10};
};

// e^(-a^2 / 2) times 2^lift for |a| <= zero_beyond, whose powers of two are none of denormal numbers. The
// square is taken as a number and a rest: an error of it counts as it is, not relative to it.
template <class T>
[[gnu::always_inline]] inline Packet<T> lifted_bell(Packet<T> a) {
  using S = Simd<T>;
  using Parts = Reduced<T, Exponential<T>::lift>;
  const auto half = S::fill(T(-0.5));
  if constexpr (InstructionSet::rounds_once) {
    const auto minus_half = S::mul(a, half);
    const auto square = in_register(S::mul(a, minus_half));
    return Parts(square, S::fma(a, minus_half, S::sub(S::zero(), square)), square).lifted();
  } else {
    const auto upper = S::upper_half(a);
    const auto square = S::mul(half, S::mul(upper, upper));
    const auto rest = S::mul(half, S::mul(S::sub(a, upper), S::add(a, upper)));
    return Parts(square, rest, S::add(square, rest)).lifted();
  }
}

// P(x) and e^(-x^2 / 2) for -zero_beyond <= x <= 0, where x = -a.
template <class T>
struct Normal {
  using S = Simd<T>;
  typename S::Packet tail, bell;

  [[gnu::always_inline]] explicit Normal(typename S::Packet x) {
    const auto lifted = lifted_bell<T>(x), unlift = S::fill(Exponential<T>::unlift);
    const auto center = S::fill(NormalTail<T>::center);
    const auto scale = S::div(S::fill(T(1)), S::sub(center, x));
    const auto t = S::mul(S::sub(S::fill(-NormalTail<T>::center), x), scale);
    bell = S::mul(lifted, unlift);
    // Not part of a multiply-add in one copy of a loop alone.
    tail = in_register(S::mul(S::mul(lifted, S::mul(scale, unlift)), polynomial<T>(NormalTail<T>::p, t)));
  }
};

}  // namespace cnnlib::CNNLIB_ISA
