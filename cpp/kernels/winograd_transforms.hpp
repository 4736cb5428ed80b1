// The transforms of Winograd's minimal filtering F(M x M, K x K) with M + K = 7: KxK convolutions at stride 1
// with 36 multiplications for M * M outputs, 3x3 for 16 (instead of 144) and 5x5 for 4 (instead of 100).
// Lavin, Gray: "Fast Algorithms for Convolutional Neural Networks", 2015.
//
//   out tile (MxM) = A' [ (G g G') . (B' d B) ] A    summed over channels inside the brackets,
//
// where d is a 6x6 input tile and g a filter. The matrices come from interpolation at 0, +-a, +-b and
// infinity. a = 5/8 and b = 5/4 are exact in binary and lose several times less precision than the
// usual 1 and 2.
#pragma once

#include "simd.hpp"

namespace cnnlib::CNNLIB_ISA {

constexpr Index tile_in = 6, tile_points = tile_in * tile_in;
template <int K>
constexpr Index tile_out = tile_in - K + 1;

// The one-dimensional transforms, on vectors of independent values.
template <class T, int K>
struct Winograd {
  static_assert(K == 3 || K == 5);
  using S = Simd<T>;
  using Packet = typename S::Packet;
  static constexpr double a = 0.625, b = 1.25;
  static constexpr double aa = a * a, bb = b * b;

  static Packet fma(double k, Packet x, Packet y) { return S::fma(S::fill(T(k)), x, y); }
  static Packet mul(double k, Packet x) { return S::mul(S::fill(T(k)), x); }

  // B' d: six inputs to six points.
  template <class In, class Out>
  static void input(const In& d, const Out& out) {
    const Packet d0 = d(0), d1 = d(1), d2 = d(2), d3 = d(3), d4 = d(4), d5 = d(5);
    const Packet even_a = fma(-bb, d2, d4), odd_a = fma(-bb, d1, d3);
    const Packet even_b = fma(-aa, d2, d4), odd_b = fma(-aa, d1, d3);
    out(0, fma(aa * bb, d0, fma(-(aa + bb), d2, d4)));
    out(1, fma(a, odd_a, even_a));
    out(2, fma(-a, odd_a, even_a));
    out(3, fma(b, odd_b, even_b));
    out(4, fma(-b, odd_b, even_b));
    out(5, fma(aa * bb, d1, fma(-(aa + bb), d3, d5)));
  }

  // A' m: six points to M outputs.
  template <class In, class Out>
  static void output(const In& m, const Out& out) {
    const Packet m1 = m(1), m2 = m(2), m3 = m(3), m4 = m(4);
    const Packet sum_a = S::add(m1, m2), sum_b = S::add(m3, m4);
    const Packet diff_a = S::sub(m1, m2), diff_b = S::sub(m3, m4);
    out(0, S::add(m(0), S::add(sum_a, sum_b)));
    if constexpr (K == 5) {
      out(1, fma(a, diff_a, fma(b, diff_b, m(5))));
    } else {
      out(1, fma(a, diff_a, mul(b, diff_b)));
      out(2, fma(aa, sum_a, mul(bb, sum_b)));
      out(3, fma(a * aa, diff_a, fma(b * bb, diff_b, m(5))));
    }
  }

  // A y, the adjoint of `output`: M output gradients to six points.
  template <class In, class Out>
  static void gradient(const In& y, const Out& out) {
    const Packet y0 = y(0), y1 = y(1);
    Packet even_a = y0, even_b = y0, odd_a = y1, odd_b = y1, last = y1;
    if constexpr (K == 3) {
      const Packet y2 = y(2), y3 = y(3);
      even_a = fma(aa, y2, y0), odd_a = fma(aa, y3, y1);
      even_b = fma(bb, y2, y0), odd_b = fma(bb, y3, y1);
      last = y3;
    }
    out(0, y0);
    out(1, fma(a, odd_a, even_a));
    out(2, fma(-a, odd_a, even_a));
    out(3, fma(b, odd_b, even_b));
    out(4, fma(-b, odd_b, even_b));
    out(5, last);
  }

  static constexpr double scale_0 = 1 / (aa * bb), scale_a = 1 / (2 * aa * (aa - bb)),
                          scale_b = 1 / (2 * bb * (bb - aa));

  // Sums of two products name the one that rounds: left to the compiler, two copies of a loop may differ.

  // G g: K taps to six points.
  template <class In, class Out>
  static void filter(const In& g, const Out& out) {
    const Packet g0 = g(0), g1 = g(1), g2 = g(2);
    Packet even_a = fma(scale_a * aa, g2, mul(scale_a, g0)), odd_a = mul(scale_a * a, g1);
    Packet even_b = fma(scale_b * bb, g2, mul(scale_b, g0)), odd_b = mul(scale_b * b, g1);
    Packet last = g2;
    if constexpr (K == 5) {
      const Packet g3 = g(3), g4 = g(4);
      even_a = fma(scale_a * aa * aa, g4, even_a), odd_a = fma(scale_a * aa * a, g3, odd_a);
      even_b = fma(scale_b * bb * bb, g4, even_b), odd_b = fma(scale_b * bb * b, g3, odd_b);
      last = g4;
    }
    out(0, mul(scale_0, g0));
    out(1, S::add(even_a, odd_a));
    out(2, S::sub(even_a, odd_a));
    out(3, S::add(even_b, odd_b));
    out(4, S::sub(even_b, odd_b));
    out(5, last);
  }

  // G' s, the adjoint of `filter`: six points to K taps.
  template <class In, class Out>
  static void filter_gradient(const In& s, const Out& out) {
    const Packet s1 = s(1), s2 = s(2), s3 = s(3), s4 = s(4);
    const Packet sum_a = S::add(s1, s2), sum_b = S::add(s3, s4);
    const Packet diff_a = S::sub(s1, s2), diff_b = S::sub(s3, s4);
    out(0, fma(scale_0, s(0), fma(scale_a, sum_a, mul(scale_b, sum_b))));
    out(1, fma(scale_a * a, diff_a, mul(scale_b * b, diff_b)));
    if constexpr (K == 3) {
      out(2, fma(scale_a * aa, sum_a, fma(scale_b * bb, sum_b, s(5))));
    } else {
      out(2, fma(scale_a * aa, sum_a, mul(scale_b * bb, sum_b)));
      out(3, fma(scale_a * aa * a, diff_a, mul(scale_b * bb * b, diff_b)));
      out(4, fma(scale_a * aa * aa, sum_a, fma(scale_b * bb * bb, sum_b, s(5))));
    }
  }
};

// A two-dimensional transform from its one-dimensional step: columns, then rows.
template <class T, int In, int Out, class Step, class Load, class Store>
inline void transform_2d(const Step& step, const Load& load, const Store& store) {
  typename Simd<T>::Packet half[Out][In];
#pragma GCC unroll 6
  for (int j = 0; j < In; ++j)
    step([&](int i) { return load(i, j); }, [&](int i, typename Simd<T>::Packet v) { half[i][j] = v; });
#pragma GCC unroll 6
  for (int i = 0; i < Out; ++i)
    step([&](int j) { return half[i][j]; }, [&](int j, typename Simd<T>::Packet v) { store(i, j, v); });
}

}  // namespace cnnlib::CNNLIB_ISA
