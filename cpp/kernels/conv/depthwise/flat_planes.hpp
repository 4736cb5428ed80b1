// Depthwise 3x3 at stride 1 whose outputs are as many as its inputs, over planes as one run of values: a
// vector of outputs may begin and end anywhere in a row, so that none is partly empty (reads_flat_planes,
// has_flat_gradients).
//
//   tap (a, k) of output i is x[i + (a - 1) * W + k - 1], and zero where that is no column or row beside i's
//
// x is read where it lies, the planes before and behind included, whose values are masked. Which lanes are a
// first or a last column is the same again after as many vectors as make whole rows.
#pragma once

#include <cstring>
#include <numeric>

#include "kernels/rectifier.hpp"
#include "shapes.hpp"

namespace cnnlib::CNNLIB_ISA {

// Planes of one size, with the masks of their taps.
template <class T>
class FlatPlanes {
  using S = Simd<T>;
  using Packet = typename S::Packet;
  static constexpr Index lanes = S::size;

 public:
  const Index W, H, size, reach;  // of taps beyond a plane

  FlatPlanes(const ConvShape& s) : W(s.W), H(s.H), size(H * W), reach(W + 1 + lanes) {}

  Index masks_size() const { return (2 * period + 3 * edge_vectors()) * lanes; }
  Index copy_size() const { return size + 2 * reach; }

  // All bits of the lanes that a tap reads:
  //   columns  [vector of a period][of the taps before, behind][lane]
  //   rows     [vector with lanes of the first row, or of the last][of the taps above, beside, below][lane]
  void set_masks(T* masks) {
    columns_ = masks;
    rows_ = masks + 2 * period * lanes;
    for (Index i = 0; i < period * lanes; ++i) {
      T* at = masks + i / lanes * 2 * lanes + i % lanes;
      set_bits(at, i % W > 0);
      set_bits(at + lanes, i % W < W - 1);
    }
    for (Index e = 0; e < edge_vectors(); ++e)
      for (Index l = 0; l < lanes; ++l) {
        const Index i = (e < top_end ? e : bottom + e - top_end) * lanes + l;
        T* at = masks + (2 * period + 3 * e) * lanes + l;
        set_bits(at, i >= W && i < size);
        set_bits(at + lanes, i < size);
        set_bits(at + 2 * lanes, i < size - W);
      }
  }

  // A plane whose taps lie within [begin, end): itself, or a copy with zeros around it.
  const T* within(const T* plane, const T* begin, const T* end, T* copy) const {
    if (plane - begin >= reach && end - plane >= size + reach) return plane;
    std::fill_n(copy, reach, T(0));
    std::copy_n(plane, size, copy + reach);
    std::fill_n(copy + reach + size, reach, T(0));
    return copy + reach;
  }

  // run(i, count, taps) for the vectors of a plane, `count` lanes from i on; taps(a, x) gives the three taps
  // x of the kernel's row a.
  template <class Run>
  [[gnu::always_inline]] void each_vector(const T* plane, const Run& run) const {
    const T *column = columns_, *columns_end = rows_, *row = rows_;
    const auto masked = [](Packet v, const T* bits) __attribute__((always_inline)) {
      return S::of_bits(S::to_bits(v) & S::to_bits(S::load(bits)));
    };
    const auto vector = [&](Index i, auto at_edge, Index count) __attribute__((always_inline)) {
      run(i, count, [&](Index a, Packet(&x)[3]) __attribute__((always_inline)) {
        const T* at = plane + i + (a - 1) * W;
#pragma GCC unroll 3
        for (int k = 0; k < 3; ++k) {
          x[k] = S::load(at + k - 1);
          if (at_edge) x[k] = masked(x[k], row + a * lanes);
        }
        x[0] = masked(x[0], column);
        x[2] = masked(x[2], column + lanes);
      });
      column = column + 2 * lanes == columns_end ? columns_ : column + 2 * lanes;
      if (at_edge) row += 3 * lanes;
    };
    constexpr std::true_type edge;
    const Index whole = size / lanes;
    Index v = 0;
    for (; v < std::min(top_end, whole); ++v) vector(v * lanes, edge, lanes);
    for (; v < std::min(bottom, whole); ++v) vector(v * lanes, std::false_type(), lanes);
    for (; v < whole; ++v) vector(v * lanes, edge, lanes);
    if (v * lanes < size) vector(v * lanes, edge, size - v * lanes);
  }

  // out = the plane's sums of taps times w[t], and `bias`. A sum for each column of the kernel: one alone
  // would wait for nine multiply-adds.
  void correlate(const T* plane, const T* w, T bias, Rectifier<T> activation, T* out) const {
    Packet weight[9];
#pragma GCC unroll 9
    for (int t = 0; t < 9; ++t) weight[t] = S::fill(w[t]);
    const Packet start = S::fill(bias);
    each_vector(plane, [&](Index i, Index count, const auto& taps) __attribute__((always_inline)) {
      Packet sum[3] = {S::zero(), start, S::zero()};
#pragma GCC unroll 3
      for (Index a = 0; a < 3; ++a) {
        Packet x[3];
        taps(a, x);
#pragma GCC unroll 3
        for (int k = 0; k < 3; ++k) sum[k] = S::fma(weight[3 * a + k], x[k], sum[k]);
      }
      const Packet total = activation(S::add(sum[1], S::add(sum[0], sum[2])));
      if (count == lanes)
        S::store(out + i, total);
      else
        S::store_lanes(out + i, total, 0, count);
    });
  }

  // sums[t][lane] += the products of grad with tap t, sums[9][lane] += grad.
  void add_products(const T* plane, const T* grad, T* sums) const {
    Packet sum[10];
#pragma GCC unroll 10
    for (int t = 0; t < 10; ++t) sum[t] = S::load(sums + t * lanes);
    each_vector(plane, [&](Index i, Index count, const auto& taps) __attribute__((always_inline)) {
      const Packet g = count == lanes ? S::load(grad + i) : S::load_lanes(grad + i, 0, count);
#pragma GCC unroll 3
      for (Index a = 0; a < 3; ++a) {
        Packet x[3];
        taps(a, x);
#pragma GCC unroll 3
        for (int k = 0; k < 3; ++k) sum[3 * a + k] = S::fma(g, x[k], sum[3 * a + k]);
      }
      sum[9] = S::add(sum[9], g);
    });
#pragma GCC unroll 10
    for (int t = 0; t < 10; ++t) S::store(sums + t * lanes, sum[t]);
  }

 private:
  static void set_bits(T* to, bool all) { std::memset(to, all ? 0xff : 0, sizeof(T)); }
  Index edge_vectors() const { return top_end + ceil_div(size, lanes) - bottom; }

  Index period = W / std::gcd(W, lanes);  // vectors that make whole rows
  // Vectors [0, top_end) have lanes of the first row, those from `bottom` on of the last.
  Index top_end = ceil_div(W, lanes), bottom = std::max(top_end, (H - 1) * W / lanes);
  const T *columns_ = nullptr, *rows_ = nullptr;
};

}  // namespace cnnlib::CNNLIB_ISA
