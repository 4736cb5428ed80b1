// Products with few columns whose operands need hardly any packing.
#pragma once

#include "kernels/gemm/dot_product.hpp"
#include "kernels/gemm/operands.hpp"

namespace cnnlib::CNNLIB_ISA {

// Dot products of a's rows, in place, with b's columns, which are transposed for it: (K, N) to (N, K).
template <class T>
bool suits_dot_products(const MatrixProduct<T>& p) {
  constexpr Index most_columns = 16, fewest_vectors = 8;  // so that adding up lanes costs little
  return p.a.col == 1 && p.b.col == 1 && p.N <= most_columns && p.K >= fewest_vectors * Simd<T>::size;
}

template <class T>
void product_by_dot_products(const MatrixProduct<T>& p) {
  using S = Simd<T>;
  const Index vectors = p.K / S::size, rest = p.K % S::size;
  const int threads = p.threads();
  Layout layout;
  const auto b_piece = layout.array<T>(checked_product(p.N, p.K));
  const auto at_piece = layout.array<VectorAt>(vectors + 1);
  const Scratch scratch(layout.bytes());
  VectorAt* at = at_piece.in(scratch.data());
  for (Index i = 0; i <= vectors; ++i) at[i] = {i * S::size, i * S::size};
  T* columns = b_piece.in(scratch.data());
  parallel_ranges(p.K, p.depth, double(p.N) / 4, [&](Index begin, Index end) {
    transpose(p.b.data + begin * p.b.row, p.b.row, end - begin, p.N, columns + begin, p.K);
  });
  const Index row_blocks = ceil_div(p.M, dot_block), column_blocks = ceil_div(p.N, dot_block);
  parallel_for(row_blocks * column_blocks, threads, [&](Index task, int) {
    const Index m0 = task / column_blocks * dot_block, n0 = task % column_blocks * dot_block;
    const T *left[dot_block], *right[dot_block];
    for (Index i = 0; i < dot_block; ++i) {
      left[i] = p.a.data + std::min(m0 + i, p.M - 1) * p.a.row;
      right[i] = columns + std::min(n0 + i, p.N - 1) * p.K;
    }
    T sums[dot_block * dot_block * S::size];
    add_dot_products<T, dot_block>(left, right, at, vectors, rest > 0 ? 1 : 0, rest, true, sums);
    for (Index m = m0; m < std::min(m0 + dot_block, p.M); ++m)
      for (Index n = n0; n < std::min(n0 + dot_block, p.N); ++n) {
        const T v = S::sum(S::load(sums + ((m - m0) * dot_block + n - n0) * S::size)) +
                    (p.bias != nullptr ? p.bias[n] : T(0));
        p.c[m * p.N + n] = p.activation(v);
      }
  });
}

// c' = b' * a' where a lies along its columns and b along its rows: the micro-kernel reads both in place, and
// its tiles are transposed into c.
template <class T>
bool suits_transposed_product(const MatrixProduct<T>& p) {
  return p.a.row == 1 && p.b.col == 1 && p.N <= max_rows && p.M >= tile_lanes<T> && p.bias == nullptr &&
         !p.activation.relu;
}

template <class T>
void transposed_product(const MatrixProduct<T>& p) {
  constexpr Index lanes = tile_lanes<T>;
  const int threads = p.threads();
  Layout layout;
  const auto tile_piece = layout.per_thread<T>(threads, tile_size<T>);
  const auto offset_piece = layout.array<Index>(p.K);
  const Scratch scratch(layout.bytes());
  Index* offset = offset_piece.in(scratch.data());
  for (Index k = 0; k < p.K; ++k) offset[k] = k * p.a.col;
  const auto kernel = tile_kernel<T>(p.N);
  parallel_for(ceil_div(p.M, lanes), threads, [&](Index task, int slot) {
    const Index m = std::min(task * lanes, p.M - lanes);  // the last overlaps the one before
    T* tile = tile_piece.of(scratch.data(), slot);
    const T* source[tile_vectors];
    for (int u = 0; u < tile_vectors; ++u) source[u] = p.a.data + m + u * Simd<T>::size;
    auto target = Target<T>::rows(tile, tile_vectors);
    for (Index chunk = 0; chunk < p.chunks(); ++chunk, target.add = true)
      kernel(p.terms(chunk), p.b_chunk(chunk), p.b.row, offset + chunk * p.depth, source, target);
    const Index own = task * lanes - m;  // two threads must not write to the same place, not even the same
    transpose(tile + own, lanes, p.N, lanes - own, p.c + (m + own) * p.N, p.N);
  });
}

}  // namespace cnnlib::CNNLIB_ISA
