// A tile of sums in registers whose rows are broadcast values: the micro-kernel's step, for kernels that find
// both operands themselves.
#pragma once

#include "kernels/gemm/broadcast_values.hpp"
#include "kernels/simd/memory.hpp"

namespace cnnlib::CNNLIB_ISA {

// sum[m][v], m < R, v < V vectors.
template <class T, int R, int V>
struct BroadcastTile {
  using S = Simd<T>;
  typename S::Packet sum[R][V];

  [[gnu::always_inline]] BroadcastTile() {
#pragma GCC unroll 16
    for (int m = 0; m < R; ++m)
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sum[m][v] = S::zero();
  }

  // sum[m][v] += x[m] * w[v]
  [[gnu::always_inline]] void add_product(const T* x, const T* w) {
    const BroadcastValues<T, R> values{x};
    add([&](int m) { return values[m]; }, w);
  }

  // The same for each of Simd<T>::size vectors side by side: sum[m][v] += x[m][c] * w[c][v] for c in order,
  // and before(c) before each.
  template <class Before>
  [[gnu::always_inline]] void add_products(const T* x, const T* w, const Before& before) {
    if constexpr (InstructionSet::lane_products) {
      for (int c = 0; c < S::size; c += 2, w += 2 * V * S::size) {
        before(c);
        before(c + 1);
        add_two(x + c, w);
      }
    } else {
      for (int c = 0; c < S::size; ++c, w += V * S::size) {
        before(c);
        add([&](int m) { return S::fill(x[m * S::size + c]); }, w);
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

  // sum[m][v] += value(m) * w[v]
  template <class Value>
  [[gnu::always_inline]] void add(const Value& value, const T* w) {
    typename S::Packet wv[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) wv[v] = S::load(w + v * S::size);
#pragma GCC unroll 16
    for (int m = 0; m < R; ++m) {
      const auto xm = value(m);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sum[m][v] = S::fma(xm, wv[v], sum[m][v]);
    }
  }

  // Two products at once, so that one load brings both values of a row. More of them, and their w, would not
  // fit beside the sums.
  [[gnu::always_inline]] void add_two(const T* x, const T* w) {
    typename S::Packet wv[2][V];
#pragma GCC unroll 2
    for (int c = 0; c < 2; ++c)
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) wv[c][v] = S::load(w + (c * V + v) * S::size);
#pragma GCC unroll 16
    for (int m = 0; m < R; ++m) {
      if (m % 2 == 0) no_loads_before();
      const Pair pair = in_register(Pair{x[m * S::size], x[m * S::size + 1]});
#pragma GCC unroll 2
      for (int c = 0; c < 2; ++c)
#pragma GCC unroll 4
        for (int v = 0; v < V; ++v) sum[m][v] = S::fma(S::fill(pair[c]), wv[c][v], sum[m][v]);
    }
  }
};

}  // namespace cnnlib::CNNLIB_ISA
