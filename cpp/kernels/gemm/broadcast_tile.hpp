// A tile of sums in registers whose rows are broadcast values: the micro-kernel's step, for kernels that find
// both operands themselves.
#pragma once

#include "kernels/simd/packet.hpp"

namespace cnnlib::CNNLIB_ISA {

// Values of a that lie side by side: values[m] is the m-th of R in every lane.
//
// Where a multiply-add takes a lane of a vector as a factor, they are loaded a vector at a time; the last
// vector overlaps with the one before, where R is no multiple of its size, so that nothing behind the values
// is read. Otherwise each is loaded by itself, as an operand in memory at best.
template <class T, int R, bool by_lanes = InstructionSet::lane_products && (R >= Simd<T>::size)>
struct BroadcastValues {
  static constexpr int vectors = 0;
  const T* p;

  [[gnu::always_inline]] Packet<T> operator[](int m) const { return Simd<T>::fill(p[m]); }
};

template <class T, int R>
struct BroadcastValues<T, R, true> {
  using S = Simd<T>;
  static constexpr int size = S::size, vectors = (R + size - 1) / size;
  const T* p;

  [[gnu::always_inline]] Packet<T> operator[](int m) const {
    const int first = std::min(m / size * size, R - size);
    return S::fill(S::load(p + first)[m - first]);
  }
};

// sum[m][v], m < R, v < V vectors.
template <class T, int R, int V>
struct BroadcastTile {
  using S = Simd<T>;
  Packet<T> sum[R][V];

  [[gnu::always_inline]] BroadcastTile() {
#pragma GCC unroll 16
    for (int m = 0; m < R; ++m)
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) sum[m][v] = S::zero();
  }

  // sum[m][v] += x[m] * load(v)
  template <class Load>
  [[gnu::always_inline]] void add_product(const T* x, const Load& load) {
    const BroadcastValues<T, R> values{x};
    Packet<T> wv[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) wv[v] = load(v);
#pragma GCC unroll 16
    for (int m = 0; m < R; ++m) {
      const auto xm = values[m];
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) sum[m][v] = S::fma(xm, wv[v], sum[m][v]);
    }
  }

  // Columns of x that add_columns takes: two, where a product takes a lane of a vector, so that one load
  // brings both values of a row. More of them, and their w, would not fit beside the sums.
  static constexpr int columns = InstructionSet::lane_products ? 2 : 1;

  // sum[m][v] += x[m * step + c] * w[c][v] for columns c in order
  [[gnu::always_inline]] void add_columns(const T* x, Index step, const T* w) {
    Packet<T> wv[columns][V];
#pragma GCC unroll 2
    for (int c = 0; c < columns; ++c)
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) wv[c][v] = S::load(w + (c * V + v) * S::size);
#pragma GCC unroll 16
    for (int m = 0; m < R; ++m) {
      if constexpr (columns == 1) {
        const auto xm = S::fill(x[m * step]);
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) sum[m][v] = S::fma(xm, wv[0][v], sum[m][v]);
      } else {
        if (m % 2 == 0) no_loads_before();
        const Pair pair = in_register(Pair{x[m * step], x[m * step + 1]});
#pragma GCC unroll 2
        for (int c = 0; c < columns; ++c)
#pragma GCC unroll 4
          for (int v = 0; v < V; ++v) sum[m][v] = S::fma(S::fill(pair[c]), wv[c][v], sum[m][v]);
      }
    }
  }

  // Adds the sums to a tile whose rows lie `step` values apart, or starts it with them.
  [[gnu::always_inline]] void store(T* tile, Index step, bool add) {
    if (add) {
#pragma GCC unroll 16
      for (int m = 0; m < R; ++m)
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) sum[m][v] = S::add(sum[m][v], S::load(tile + m * step + v * S::size));
    }
#pragma GCC unroll 16
    for (int m = 0; m < R; ++m)
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) S::store(tile + m * step + v * S::size, sum[m][v]);
  }

 private:
  using Pair [[gnu::vector_size(2 * sizeof(T))]] = T;
};

}  // namespace cnnlib::CNNLIB_ISA
