// One output position beside panels of filters: the panel's rows are the lanes, where a tile would have the
// position in one lane and leave the others empty.
#pragma once

#include "kernels/gemm/micro_kernel.hpp"

namespace cnnlib::CNNLIB_ISA {

// Vectors that hold the rows of a panel, and panels whose sums keep the arithmetic units busy.
template <class T>
constexpr int panel_vectors = (max_rows + Simd<T>::size - 1) / Simd<T>::size;
template <class T>
constexpr int panels_at_once = 8 / panel_vectors<T>;

// sum[panel][row] = sum over k of w[panel][k][row] * x[k * step], in the order of k as multiply_tile has it,
// for `panels` panels of `rows` rows, K * rows values apart. Vectors reach into what follows the last panel.
template <class T>
void multiply_position(Index K, const T* w, Index rows, Index panels, const T* x, Index step, T* sum) {
  using S = Simd<T>;
  constexpr int P = panels_at_once<T>, V = panel_vectors<T>;
  typename S::Packet sums[P][V];
  const T* row[P];
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p) {
    row[p] = w + std::min<Index>(p, panels - 1) * K * rows;
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) sums[p][v] = S::zero();
  }
  for (Index k = 0, at = 0; k < K; ++k, at += rows, x += step) {
    const auto value = S::fill(*x);
#pragma GCC unroll 8
    for (int p = 0; p < P; ++p)
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) sums[p][v] = S::fma(S::load(row[p] + at + v * S::size), value, sums[p][v]);
  }
#pragma GCC unroll 8
  for (int p = 0; p < P; ++p)
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) S::store(sum + (p * V + v) * S::size, sums[p][v]);
}

}  // namespace cnnlib::CNNLIB_ISA
