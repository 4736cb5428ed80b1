// A tile of sums in registers whose rows are broadcast values: the micro-kernel's step, for kernels that find
// both operands themselves.
#pragma once

#include "kernels/simd/packet.hpp"

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

  // sum[m][v] += x[m * step] * w[v]
  [[gnu::always_inline]] void add_product(const T* x, Index step, const T* w) {
    typename S::Packet wv[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) wv[v] = S::load(w + v * S::size);
#pragma GCC unroll 16
    for (int m = 0; m < R; ++m) {
      const auto xm = S::fill(x[m * step]);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sum[m][v] = S::fma(xm, wv[v], sum[m][v]);
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
};

}  // namespace cnnlib::CNNLIB_ISA
