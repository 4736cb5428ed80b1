// The products of Winograd's method: tiles times filters at one point, summed over channels.
#pragma once

#include "kernels/gemm/broadcast_tile.hpp"
#include "kernels/gemm/micro_kernel.hpp"

namespace cnnlib::CNNLIB_ISA {

// tile[m][v] = (add ? tile[m][v] : 0) + sum over blocks q and lanes c of a[(q * R + m) * lanes + c] *
// u[q * lanes + c][v]; the next a is prefetched meanwhile, and of what lies at `later` a line for each c.
template <class T, int R, int V>
void multiply_points(Index blocks, const T* a, const T* u, T* tile, bool add, const T* next, const T* later) {
  constexpr int size = Simd<T>::size;
  BroadcastTile<T, R, V> sums;
  for (Index q = 0; q < blocks; ++q, a += R * size, next += R * size)
    for (int c = 0; c < size; c += sums.columns, u += sums.columns * V * size) {
      if (c < R) prefetch<2>(next + c * size);
      if (sums.columns > 1 && c + 1 < R) prefetch<2>(next + (c + 1) * size);
      for (int k = 0; k < sums.columns; ++k, later += line_values<T>) prefetch<2>(later);
      sums.add_columns(a + c, size, u);
    }
  sums.store(tile, V * Simd<T>::size, add);
}

template <class T, int V>
auto point_kernel(Index rows) {
  static constexpr auto table = kernels_by_rows<MR>([](auto R) { return &multiply_points<T, R(), V>; });
  return table[rows - 1];
}

}  // namespace cnnlib::CNNLIB_ISA
