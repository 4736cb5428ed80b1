// Activations as functions of a vector: value(x), and gradient(dout, x) = dout * value'(x), or
// gradient(dout, y) of y = value(x) where `from_value` says so, which saves an exponential. NaN stays NaN; an
// infinity has the limit's value and gradient. Exponentials are taken of negative numbers alone, so that none
// overflows, and differences that would cancel are avoided.
#pragma once

#include <limits>

#include "kernels/simd/normal.hpp"

namespace cnnlib::CNNLIB_ISA {

// e / (1 + e): sigmoid(x) for e = e^x and x <= 0.
template <class T>
Packet<T> logistic_of_negative(Packet<T> e) {
  return Simd<T>::div(e, Simd<T>::add(Simd<T>::fill(T(1)), e));
}

// 1 / (1 + e^-x) = sigmoid(x) with its parts: e = e^-|x|, inverse = 1 / (1 + e).
template <class T>
struct Logistic {
  using S = Simd<T>;
  typename S::Mask negative;
  Packet<T> e, inverse;

  [[gnu::always_inline]] explicit Logistic(Packet<T> x)
      : negative(S::less_equal(x, S::zero())), e(exp_of_negative<T>(S::minus_abs(x))) {
    inverse = S::div(one(), S::add(one(), e));
  }
  static Packet<T> one() { return S::fill(T(1)); }
  Packet<T> value() const { return S::mul(S::select(negative, e, one()), inverse); }
  Packet<T> complement() const { return S::mul(S::select(negative, one(), e), inverse); }  // 1 - value
  Packet<T> slope() const { return S::mul(S::mul(e, inverse), inverse); }
};

template <class T>
Packet<T> clamped(Packet<T> x, T low, T high) {
  using S = Simd<T>;
  return S::min(S::max(x, S::fill(low)), S::fill(high));
}

// x, or the largest finite number of its sign: times 0 it is 0, which an infinity is not.
template <class T>
Packet<T> finite(Packet<T> x) {
  return clamped<T>(x, std::numeric_limits<T>::lowest(), std::numeric_limits<T>::max());
}

// x * f(x) from f(-|x|), where f(x) = 1 - f(-x): max(x, 0) - |x| * f(-|x|). Where f is 0, -|x| may be cut.
template <class T>
Packet<T> times_itself(Packet<T> x, Packet<T> minus_abs, Packet<T> f) {
  return Simd<T>::fma(minus_abs, f, Simd<T>::max(x, Simd<T>::zero()));
}

// x where x > 0 or NaN, else 0.
template <class T>
struct Relu {
  using S = Simd<T>;
  Packet<T> value(Packet<T> x) const { return S::relu(x); }
  Packet<T> gradient(Packet<T> dout, Packet<T> x) const {
    return S::select(S::less_equal(x, S::zero()), S::zero(), dout);
  }
};

// x where x > 0, else alpha * x.
template <class T>
struct LeakyRelu {
  using S = Simd<T>;
  T alpha;
  Packet<T> value(Packet<T> x) const { return gradient(x, x); }
  // Also of NaN. (Of two comparisons none is with a number that flushing to zero changes.)
  Packet<T> gradient(Packet<T> dout, Packet<T> x) const {
    const auto below = S::mul(S::fill(alpha), dout);
    return S::select(S::less_equal(x, S::zero()), below, S::select(S::equal(x, x), dout, below));
  }
};

// min(max(x, 0), 6)
template <class T>
struct Relu6 {
  using S = Simd<T>;
  Packet<T> value(Packet<T> x) const { return S::min(S::relu(x), S::fill(T(6))); }
  Packet<T> gradient(Packet<T> dout, Packet<T> x) const {
    return S::select(S::less_equal(S::fill(T(6)), x), S::zero(), Relu<T>().gradient(dout, x));
  }
};

// Its slope is y * (1 - y).
template <class T>
struct Sigmoid {
  using S = Simd<T>;
  [[gnu::always_inline]] Packet<T> value(Packet<T> x) const {
    const auto one = S::fill(T(1)), e = exp_of_negative<T>(S::minus_abs(x));
    return S::div(S::select(S::less_equal(x, S::zero()), e, one), S::add(one, e));
  }
  Packet<T> gradient(Packet<T> dout, Packet<T> y) const {
    return S::mul(dout, S::mul(y, S::sub(S::fill(T(1)), y)));
  }
};

// tanh(|x|) = -t / (t + 2) with t = e^(-2|x|) - 1; its slope is 1 - y^2 = (1 - y) * (1 + y).
template <class T>
struct Tanh {
  using S = Simd<T>;
  [[gnu::always_inline]] Packet<T> value(Packet<T> x) const {
    const auto minus_abs = S::minus_abs(x);
    const auto t = expm1_of_negative<T>(S::add(minus_abs, minus_abs));
    return S::with_sign_of(x, S::div(t, S::add(t, S::fill(T(2)))));
  }
  Packet<T> gradient(Packet<T> dout, Packet<T> y) const {
    const auto one = S::fill(T(1));
    return S::mul(dout, S::mul(S::sub(one, y), S::add(one, y)));
  }
};

// x * sigmoid(x)
template <class T>
struct Silu {
  using S = Simd<T>;
  [[gnu::always_inline]] Packet<T> value(Packet<T> x) const {
    const auto minus_abs = S::max(S::minus_abs(x), S::fill(std::numeric_limits<T>::lowest()));
    return times_itself<T>(x, minus_abs, logistic_of_negative<T>(exp_of_negative<T>(minus_abs)));
  }
  [[gnu::always_inline]] Packet<T> gradient(Packet<T> dout, Packet<T> x) const {
    const auto part = Logistic<T>(x);
    const auto slope = S::fma(finite<T>(x), part.complement(), S::fill(T(1)));
    return S::mul(dout, S::mul(part.value(), slope));
  }
};

// min(max(x + 3, 0), 6) / 6
template <class T>
struct HardSigmoid {
  using S = Simd<T>;
  static Packet<T> sixth() { return S::fill(T(1) / 6); }
  Packet<T> value(Packet<T> x) const { return S::mul(clamped<T>(S::add(x, S::fill(T(3))), 0, 6), sixth()); }
  Packet<T> gradient(Packet<T> dout, Packet<T> x) const {
    const auto low = S::less_equal(x, S::fill(T(-3))), high = S::less_equal(S::fill(T(3)), x);
    return S::select(high, S::zero(), S::select(low, S::zero(), S::mul(dout, sixth())));
  }
};

// x * min(max(x + 3, 0), 6) / 6
template <class T>
struct HardSwish {
  using S = Simd<T>;
  Packet<T> value(Packet<T> x) const { return S::mul(S::max(x, S::fill(T(-3))), HardSigmoid<T>().value(x)); }
  Packet<T> gradient(Packet<T> dout, Packet<T> x) const {
    const auto low = S::less_equal(x, S::fill(T(-3))), high = S::less_equal(S::fill(T(3)), x);
    const auto slope = S::fma(x, S::fill(T(1) / 3), S::fill(T(0.5)));
    return S::select(high, dout, S::select(low, S::zero(), S::mul(dout, slope)));
  }
};

// x * P(x) with the normal distribution's P; its slope is P(x) + x * bell(x).
template <class T>
struct Gelu {
  using S = Simd<T>;
  static Packet<T> minus_abs(Packet<T> x) {
    return S::max(S::minus_abs(x), S::fill(-NormalTail<T>::zero_beyond));
  }
  static Packet<T> distribution(const Normal<T>& normal, Packet<T> x) {
    return S::select(S::less_equal(x, S::zero()), normal.tail, S::sub(S::fill(T(1)), normal.tail));
  }
  [[gnu::always_inline]] Packet<T> value(Packet<T> x) const {
    const auto below = minus_abs(x);
    return times_itself<T>(x, below, Normal<T>(below).tail);
  }
  [[gnu::always_inline]] Packet<T> gradient(Packet<T> dout, Packet<T> x) const {
    constexpr T bell_at_0 = T(0.398942280401432677939946);  // 1 / sqrt(2 pi)
    const auto below = minus_abs(x);
    const Normal<T> normal(below);
    const auto bell = S::mul(normal.bell, S::fill(bell_at_0));
    return S::mul(dout, S::fma(S::with_sign_of(x, below), bell, distribution(normal, x)));
  }
};

// x * (1 + tanh(u)) / 2 = x * sigmoid(2u) with 2u = x * (first + third * x^2).
template <class T>
struct GeluTanh {
  using S = Simd<T>;
  static constexpr T first = T(1.59576912160573071176);  // 2 sqrt(2 / pi)
  static constexpr T third = T(0.04471500000000000000 * 1.59576912160573071176);
  static constexpr T saturated = sizeof(T) == 4 ? 16 : 32;  // where sigmoid(-2u) is 0

  static Packet<T> square(Packet<T> x) { return S::mul(x, x); }
  static Packet<T> twice_u(Packet<T> x) {
    return S::mul(x, S::fma(square(x), S::fill(third), S::fill(first)));
  }
  [[gnu::always_inline]] Packet<T> value(Packet<T> x) const {
    const auto minus_abs = S::max(S::minus_abs(x), S::fill(-saturated));
    return times_itself<T>(x, minus_abs, logistic_of_negative<T>(exp_of_negative<T>(twice_u(minus_abs))));
  }
  [[gnu::always_inline]] Packet<T> gradient(Packet<T> dout, Packet<T> x) const {
    const auto inside = clamped<T>(x, -saturated, saturated);
    const Logistic<T> part(twice_u(inside));
    const auto inner = S::fma(square(inside), S::fill(3 * third), S::fill(first));
    return S::mul(dout, S::fma(S::mul(inside, inner), part.slope(), part.value()));
  }
};

// x where x > 0, else alpha * (e^x - 1).
template <class T>
struct Elu {
  using S = Simd<T>;
  T alpha;
  [[gnu::always_inline]] Packet<T> value(Packet<T> x) const {
    const auto below = S::mul(S::fill(alpha), expm1_of_negative<T>(S::min(x, S::zero())));
    return S::select(S::less_equal(S::zero(), x), x, below);
  }
  [[gnu::always_inline]] Packet<T> gradient(Packet<T> dout, Packet<T> x) const {
    const auto slope = S::mul(S::fill(alpha), exp_of_negative<T>(S::min(x, S::zero())));
    return S::select(S::less_equal(x, S::zero()), S::mul(dout, slope), dout);
  }
};

// As from_result() has it.
template <class Function>
constexpr bool from_value = false;
template <class T>
constexpr bool from_value<Sigmoid<T>> = true;
template <class T>
constexpr bool from_value<Tanh<T>> = true;

}  // namespace cnnlib::CNNLIB_ISA
