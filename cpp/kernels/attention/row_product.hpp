// Products of the blocks of attention, whose operands lie in memory as they are: nothing is packed but the
// queries of a block, which are the lanes.
//
//   along rows:      c (rows, lanes) (+)= a (rows, K) * b (K, lanes)
//   along columns:   the same with a (K, rows), by the micro-kernel
#pragma once

#include "kernels/gemm/micro_kernel.hpp"

namespace cnnlib::CNNLIB_ISA {

// c[m * c_step + l] (+)= sum over k of a[m * a_step + k] * b[k * b_step + l], for m < R and l < V * size. The
// sum starts at zero, as in multiply_tile.
template <class T, int R, int V>
void multiply_rows(Index K, const T* a, Index a_step, const T* b, Index b_step, T* c, Index c_step,
                   bool add) {
  using S = Simd<T>;
  // A pointer serves some rows, at distances of 0 to 3 steps: a pointer for each row, or a distance, would
  // not find room in the registers.
  constexpr int of_pointer = 4, pointers = (R + of_pointer - 1) / of_pointer;
  BroadcastTile<T, R, V> tile;
  const T* row[pointers];
#pragma GCC unroll 4
  for (int p = 0; p < pointers; ++p) row[p] = a + p * of_pointer * a_step;
  for (Index k = K; k > 0; --k, b += b_step) {
    Packet<T> bv[V];
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) bv[v] = S::load(b + v * S::size);
#pragma GCC unroll 16
    for (int m = 0; m < R; ++m) {
      const auto value = S::fill(row[m / of_pointer][m % of_pointer * a_step]);
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) tile.sum[m][v] = S::fma(value, bv[v], tile.sum[m][v]);
    }
#pragma GCC unroll 4
    for (int p = 0; p < pointers; ++p) ++row[p];
  }
  tile.store(c, c_step, add);
}

template <class T>
using RowKernel = void (*)(Index K, const T* a, Index a_step, const T* b, Index b_step, T* c, Index c_step,
                           bool add);

// Heights of tiles: those that even panels of more than a few rows have, and for what is left over `few`
// and 1. All of them would take twice as much code.
constexpr int least_height = MR - MR / 3, few = 4;

// The kernel for a tile of V vectors.
template <class T, int V>
RowKernel<T> row_kernel(Index height) {
  static constexpr auto table = kernels_by_rows<MR - least_height + 1>(
      [](auto place) { return &multiply_rows<T, least_height - 1 + place(), V>; });
  if (height >= least_height) return table[height - least_height];
  return height == few ? &multiply_rows<T, few, V> : &multiply_rows<T, 1, V>;
}

// The height of the panel at `first` of so many rows: that of even panels or, where these would be lower than
// the usual heights, the largest there is.
inline Index row_panel(const Panels& even, Index rows, Index first) {
  if (even.height >= least_height)
    return first < even.longer * (even.height + 1) ? even.rows(0) : even.height;
  const Index left = rows - first;
  return left >= MR ? MR : left >= least_height ? left : left >= few ? few : 1;
}

// body(first lane, vectors) for the tiles of so many lanes; the last vector may hold fewer.
template <class T, class Body>
void each_tile(Index lanes, const Body& body) {
  for (Index lane = 0; lane < lanes; lane += NR<T>) body(lane, lanes - lane > Simd<T>::size ? 2 : 1);
}

// c (rows, lanes) (+)= a (rows, K) * b (K, lanes). Whole vectors of b's and c's rows are read and written.
template <class T>
void multiply_along_rows(Index rows, Index K, Index lanes, const T* a, Index a_step, const T* b, Index b_step,
                         T* c, Index c_step, bool add) {
  const Panels even(rows);
  for (Index first = 0, height; first < rows; first += height) {
    height = row_panel(even, rows, first);
    each_tile<T>(lanes, [&](Index lane, int vectors) {
      const auto kernel = vectors == 1 ? row_kernel<T, 1>(height) : row_kernel<T, tile_vectors>(height);
      kernel(K, a + first * a_step, a_step, b + lane, b_step, c + first * c_step + lane, c_step, add);
    });
  }
}

// Computes the same for a (K, rows), where row k of b begins at offset[k].
template <class T>
void multiply_along_columns(Index rows, Index K, Index lanes, const T* a, Index a_step, const T* b,
                            const Index* offset, T* c, Index c_step, bool add) {
  const Panels panels(rows);
  for (Index panel = 0; panel < panels.count; ++panel) {
    const Index first = panels.first(panel), height = panels.rows(panel);
    each_tile<T>(lanes, [&](Index lane, int vectors) {
      const T* source[tile_vectors] = {b + lane, b + lane + Simd<T>::size};
      auto target = Target<T>::rows(c + first * c_step + lane, vectors);
      target.step = c_step;
      target.add = add;
      const auto kernel = vectors == 1 ? tile_kernel<T, 1, Prefetch::none>(height)
                                       : tile_kernel<T, tile_vectors, Prefetch::none>(height);
      kernel(K, a + first, a_step, offset, source, target);
    });
  }
}

}  // namespace cnnlib::CNNLIB_ISA
