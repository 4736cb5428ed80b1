// The transforms of Winograd's minimal filtering: at stride 1, F(M, K) gets M outputs of K taps from M + K -
// 1 multiplications instead of M * K; F(MH x MW, KH x KW) is one of them in each dimension. Lavin, Gray:
// "Fast Algorithms for Convolutional Neural Networks", 2015.
//
// At stride 2 every second tap meets even inputs only, and the others odd ones: two convolutions at stride 1.
// Of three taps F(M, 2) takes M + 1 multiplications and the other tap M: 2 * M + 1 instead of 3 * M.
//
//   out tile = A' [ (G g G') . (B' d B) ] A    summed over channels inside the brackets,
//
// where d is an input tile and g a filter. The matrices come from interpolation at 0, +-a, +-b, ... and,
// where their number is even, infinity.
#pragma once

#include <algorithm>
#include <array>

#include "kernels/simd/packet.hpp"

namespace cnnlib::CNNLIB_ISA {

// a, b, ... of a number of points: short in binary, and up to several times more precise than 1, 2, ...
template <int points>
constexpr auto interpolation_points() {
  if constexpr (points == 5)
    return std::array<double, 2>{0.75, 2};
  else if constexpr (points == 6)
    return std::array<double, 2>{0.625, 1.25};
  else if constexpr (points == 7)
    return std::array<double, 3>{0.5625, 1.125, 2.375};
  else if constexpr (points == 8)
    return std::array<double, 3>{0.5, 1, 2};
  else if constexpr (points == 10)
    return std::array<double, 4>{0.40625, 0.8125, 1.25, 2.5};
}

// The constants of F(M, K).
template <int K, int M>
struct Interpolation {
  static constexpr int points = K + M - 1, pairs = (points - 1) / 2, most_values = K > M ? K : M;
  static constexpr bool infinity = points % 2 == 0;
  static constexpr auto a = interpolation_points<points>();

  // The product of (x^2 - a_j^2) over all j but `without`: the coefficients of x^0, x^2, ...
  using Polynomial = std::array<double, pairs + 1>;
  static constexpr Polynomial product(int without) {
    Polynomial c{1};
    for (int j = 0, degree = 0; j < pairs; ++j) {
      if (j == without) continue;
      ++degree;
      for (int i = degree; i >= 0; --i) c[i] = (i > 0 ? c[i - 1] : 0) - a[j] * a[j] * c[i];
    }
    return c;
  }
  static constexpr double at(const Polynomial& c, double xx) {
    double value = 0;
    for (int i = pairs; i >= 0; --i) value = value * xx + c[i];
    return value;
  }

  struct Tables {
    Polynomial all = product(-1);
    Polynomial but[pairs] = {};                // all pairs but one
    double powers[pairs][most_values] = {};    // of each a
    double weighted[pairs][most_values] = {};  // the same times the weight of the values at +-a
    double weight_0 = 1 / product(-1)[0];      // of the value at 0
    constexpr Tables() {
      for (int k = 0; k < pairs; ++k) {
        but[k] = product(k);
        const double weight = 1 / (2 * a[k] * a[k] * at(but[k], a[k] * a[k]));
        double power = 1;
        for (int j = 0; j < most_values; ++j, power *= a[k]) {
          powers[k][j] = power;
          weighted[k][j] = weight * power;
        }
      }
    }
  };
  static constexpr Tables tables = {};
};

// The one-dimensional transforms of F(M, K), on vectors of independent values. A pair of points +-a shares
// its sums over even and over odd powers. Every step is a named operation: left to the compiler, two copies
// of a loop may round differently.
template <class T, int K, int M>
class Winograd {
  using S = Simd<T>;
  using Packet = typename S::Packet;
  using Constants = Interpolation<K, M>;
  static constexpr int points = Constants::points, pairs = Constants::pairs;
  static constexpr bool infinity = Constants::infinity;
  static constexpr const auto& a = Constants::a;
  static constexpr const auto& tables = Constants::tables;

  // sum + the sum over i < count of constant(i) * value(i)
  template <int count, class Constant, class Value>
  [[gnu::always_inline]] static Packet add_products(Packet sum, const Constant& constant,
                                                    const Value& value) {
#pragma GCC unroll 8
    for (int i = count - 1; i >= 0; --i)
      sum = constant(i) == 1 ? S::add(value(i), sum) : S::fma(S::fill(T(constant(i))), value(i), sum);
    return sum;
  }
  template <int count, class Constant, class Value>
  [[gnu::always_inline]] static Packet products(const Constant& constant, const Value& value) {
    constexpr int last = count - 1;
    const Packet first = constant(last) == 1 ? value(last) : S::mul(S::fill(T(constant(last))), value(last));
    return add_products<last>(first, constant, value);
  }

  // The values at +-a_k.
  template <class Out>
  [[gnu::always_inline]] static void both(int k, Packet even, Packet odd, const Out& out) {
    out(2 * k + 1, S::fma(S::fill(T(a[k])), odd, even));
    out(2 * k + 2, S::fma(S::fill(T(-a[k])), odd, even));
  }

  // The values at all points of a polynomial with the coefficients y, weighted or not.
  template <int count, bool weighted, class In, class Out>
  [[gnu::always_inline]] static void evaluate(const In& y, const Out& out) {
    Packet values[count];
#pragma GCC unroll 8
    for (int i = 0; i < count; ++i) values[i] = y(i);
    out(0, weighted ? S::mul(S::fill(T(tables.weight_0)), values[0]) : values[0]);
#pragma GCC unroll 4
    for (int k = 0; k < pairs; ++k) {
      const auto& powers = weighted ? tables.weighted[k] : tables.powers[k];
      const auto constant = [&](int i) { return powers[2 * i]; };
      both(k, products<(count + 1) / 2>(constant, [&](int i) { return values[2 * i]; }),
           products<count / 2>(constant, [&](int i) { return values[2 * i + 1]; }), out);
    }
    if constexpr (infinity) out(points - 1, values[count - 1]);
  }

  // The adjoint of `evaluate`.
  template <int count, bool weighted, class In, class Out>
  [[gnu::always_inline]] static void accumulate(const In& m, const Out& out) {
    Packet sums[pairs], differences[pairs];
#pragma GCC unroll 4
    for (int k = 0; k < pairs; ++k) {
      const Packet plus = m(2 * k + 1), minus = m(2 * k + 2);
      sums[k] = S::add(plus, minus);
      differences[k] = S::sub(plus, minus);
    }
#pragma GCC unroll 8
    for (int j = 0; j < count; ++j) {
      const auto constant = [&](int k) { return weighted ? tables.weighted[k][j] : tables.powers[k][j]; };
      const auto value = [&](int k) { return j % 2 == 0 ? sums[k] : differences[k]; };
      if (j == 0)
        out(j, add_products<pairs>(weighted ? S::mul(S::fill(T(tables.weight_0)), m(0)) : m(0), constant,
                                   value));
      else if (infinity && j == count - 1)
        out(j, add_products<pairs>(m(points - 1), constant, value));
      else
        out(j, products<pairs>(constant, value));
    }
  }

 public:
  // B' d: inputs to points.
  template <class In, class Out>
  [[gnu::always_inline]] static void input(const In& d, const Out& out) {
    Packet values[points];
#pragma GCC unroll 10
    for (int i = 0; i < points; ++i) values[i] = d(i);
    const auto even = [&](int i) { return values[2 * i]; };
    const auto odd = [&](int i) { return values[2 * i + 1]; };
    const auto inner = [&](int i) { return values[2 * i + 2]; };
    const auto all = [&](int i) { return tables.all[i]; };
    out(0, products<pairs + 1>(all, even));
#pragma GCC unroll 4
    for (int k = 0; k < pairs; ++k) {
      const auto but = [&](int i) { return tables.but[k][i]; };
      both(k, products<pairs>(but, inner), products<pairs>(but, odd), out);
    }
    if constexpr (infinity) out(points - 1, products<pairs + 1>(all, odd));
  }

  // A' m: points to outputs.
  template <class In, class Out>
  [[gnu::always_inline]] static void output(const In& m, const Out& out) {
    accumulate<M, false>(m, out);
  }

  // A y, the adjoint of `output`: gradients of outputs to points.
  template <class In, class Out>
  [[gnu::always_inline]] static void gradient(const In& y, const Out& out) {
    evaluate<M, false>(y, out);
  }

  // G g: taps to points.
  template <class In, class Out>
  [[gnu::always_inline]] static void filter(const In& g, const Out& out) {
    evaluate<K, true>(g, out);
  }

  // G' s, the adjoint of `filter`: points to taps.
  template <class In, class Out>
  [[gnu::always_inline]] static void filter_gradient(const In& s, const Out& out) {
    accumulate<K, true>(s, out);
  }
};

// F(M, 1), which needs no transform: all its points have one filter.
template <class T, int M>
class Winograd<T, 1, M> {
  template <class In, class Out>
  [[gnu::always_inline]] static void copy(const In& value, const Out& out) {
#pragma GCC unroll 8
    for (int i = 0; i < M; ++i) out(i, value(i));
  }

 public:
  template <class In, class Out>
  [[gnu::always_inline]] static void input(const In& d, const Out& out) {
    copy(d, out);
  }
  template <class In, class Out>
  [[gnu::always_inline]] static void output(const In& m, const Out& out) {
    copy(m, out);
  }
  template <class In, class Out>
  [[gnu::always_inline]] static void gradient(const In& y, const Out& out) {
    copy(y, out);
  }
  template <class In, class Out>
  [[gnu::always_inline]] static void filter(const In& g, const Out& out) {
    out(0, g(0));
  }
  template <class In, class Out>
  [[gnu::always_inline]] static void filter_gradient(const In& s, const Out& out) {
    out(0, s(0));
  }
};

// F(M, K) at stride 2: the points of F(M, taps that meet even inputs), then those of F(M, the others).
template <class T, int K, int M>
class StridedWinograd {
 protected:
  using Even = Winograd<T, (K + 1) / 2, M>;
  using Odd = Winograd<T, K / 2, M>;
  using Packet = typename Simd<T>::Packet;

  // Reads or writes the points of the odd taps.
  template <class Values>
  [[gnu::always_inline]] static auto odd_points(const Values& values) {
    return [&](int i, auto... v) { return values(M + (K + 1) / 2 - 1 + i, v...); };
  }

 public:
  template <class In, class Out>
  [[gnu::always_inline]] static void input(const In& d, const Out& out) {
    Even::input([&](int i) { return d(2 * i); }, out);
    Odd::input([&](int i) { return d(2 * i + 1); }, odd_points(out));
  }
  template <class In, class Out>
  [[gnu::always_inline]] static void output(const In& m, const Out& out) {
    Packet sums[M];
    Odd::output(odd_points(m), [&](int i, Packet v) { sums[i] = v; });
    Even::output(m, [&](int i, Packet v) { out(i, Simd<T>::add(v, sums[i])); });
  }
  template <class In, class Out>
  [[gnu::always_inline]] static void gradient(const In& y, const Out& out) {
    Even::gradient(y, out);
    Odd::gradient(y, odd_points(out));
  }
  template <class In, class Out>
  [[gnu::always_inline]] static void filter(const In& g, const Out& out) {
    Even::filter([&](int i) { return g(2 * i); }, out);
    Odd::filter([&](int i) { return g(2 * i + 1); }, odd_points(out));
  }
  template <class In, class Out>
  [[gnu::always_inline]] static void filter_gradient(const In& s, const Out& out) {
    Even::filter_gradient(s, [&](int i, Packet v) { out(2 * i, v); });
    Odd::filter_gradient(odd_points(s), [&](int i, Packet v) { out(2 * i + 1, v); });
  }
};

// Of two neighbours in the dx of a K x K kernel at stride 2 one is made by the even taps and one by the odd
// ones. A tile begins with taps `first_tap`, `first_tap` + 2, ..: those of the first row at the usual
// padding, (K - 1) / 2.
constexpr int first_tap(Index K) { return K > 3 ? 0 : 1; }

// The correlation that is dx at stride 2.
template <class T, int K, int M>
class StridedInputWinograd : public StridedWinograd<T, K, M> {
  using Base = StridedWinograd<T, K, M>;
  using typename Base::Even;
  using typename Base::Odd;
  using typename Base::Packet;

 public:
  template <class In, class Out>
  [[gnu::always_inline]] static void input(const In& d, const Out& out) {
    Even::input(d, out);
    Odd::input([&](int i) { return d(i + 1 - first_tap(K)); }, Base::odd_points(out));
  }
  template <class In, class Out>
  [[gnu::always_inline]] static void output(const In& m, const Out& out) {
    Even::output(m, [&](int i, Packet v) { out(2 * i + first_tap(K), v); });
    Odd::output(Base::odd_points(m), [&](int i, Packet v) { out(2 * i + 1 - first_tap(K), v); });
  }
};

}  // namespace cnnlib::CNNLIB_ISA
