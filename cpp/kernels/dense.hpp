// Matrix products for the affine layer, on the same micro-kernel as convolution.
#pragma once

#include "../parallel.hpp"
#include "arena.hpp"
#include "gemm.hpp"
#include "sums.hpp"

namespace cnnlib::CNNLIB_ISA {

// An operand: element (i, j) at data[i * row + j * col]; one of the steps is 1.
template <class T>
struct MatrixView {
  const T* data;
  Index row, col;
};

// c (M, N) = a (M, K) * b (K, N) + bias (N,), then ReLU if asked. The sum over K runs in chunks of a
// fixed length, so neither the threads nor the other rows change an element's bits.
template <class T>
void matrix_product(const MatrixView<T>& a, const MatrixView<T>& b, const T* bias, bool relu, T* c, Index M,
                    Index N, Index K) {
  if (M == 0 || N == 0) return;
  using S = Simd<T>;
  constexpr Index lanes = tile_lanes<T>, depth = 256;
  const int threads = threads_for(2.0 / 16 * M * N * K);
  Index row_block = 12 * max_rows, col_block = 8 * lanes;
  const auto tasks = [&] { return ((M + row_block - 1) / row_block) * ((N + col_block - 1) / col_block); };
  while (threads > 1 && tasks() < 2 * threads && (col_block > lanes || row_block > max_rows))
    (N > col_block / 2 && col_block > lanes) || row_block <= max_rows ? col_block /= 2 : row_block /= 2;
  row_block = std::min(row_block, M);
  const Index row_blocks = (M + row_block - 1) / row_block;

  Layout layout;
  const auto a_piece = layout.per_thread<T>(threads, row_block * depth);
  const auto b_piece = layout.per_thread<T>(threads, col_block * depth);
  const auto tile_piece = layout.per_thread<T>(threads, max_rows * lanes);
  const auto offset_piece = layout.array<Index>(2 * depth);
  const Scratch scratch(layout.bytes());
  Index* offset = offset_piece.in(scratch.data());
  Index* row_offset = offset + depth;
  for (Index k = 0; k < depth; ++k) {
    offset[k] = k * lanes;
    row_offset[k] = k * b.row;
  }

  parallel_for(tasks(), threads, [&](Index task, int slot) {
    const Index m0 = task % row_blocks * row_block, n0 = task / row_blocks * col_block;
    const Index rows = std::min(row_block, M - m0), cols = std::min(col_block, N - n0);
    const Panels panels(rows);
    // A few rows do not repay a copy of b, whose own rows serve as well.
    const bool in_place = b.col == 1 && rows <= 2 * max_rows;
    T* packed_a = a_piece.of(scratch.data(), slot);
    T* packed_b = b_piece.of(scratch.data(), slot);
    T* tile = tile_piece.of(scratch.data(), slot);
    for (Index k0 = 0; k0 < K || k0 == 0; k0 += depth) {
      const Index terms = std::min(depth, K - k0);
      for (Index panel = 0; panel < panels.count; ++panel) {
        const T* from = a.data + (m0 + panels.first(panel)) * a.row + k0 * a.col;
        T* to = packed_a + panels.first(panel) * terms;
        const Index height = panels.rows(panel);
        if (a.col == 1)
          pack_panel<T>([&](Index m) { return from + m * a.row; }, height, terms, to);
        else
          for (Index k = 0; k < terms; ++k)
            for (Index m = 0; m < height; ++m) to[k * height + m] = from[m * a.row + k * a.col];
      }
      for (Index j = 0; j < cols; j += lanes) {
        const T* from = b.data + k0 * b.row + (n0 + j) * b.col;
        T* to = packed_b + j * terms;
        const Index width = std::min(lanes, cols - j);
        if (in_place && width == lanes) continue;
        if (width < lanes) std::fill_n(to, lanes * terms, T(0));
        if (b.col == 1)
          for (Index k = 0; k < terms; ++k) std::copy_n(from + k * b.row, width, to + k * lanes);
        else
          transpose(from, b.col, width, terms, to, lanes);
      }
      for (Index panel = 0; panel < panels.count; ++panel) {
        const Index height = panels.rows(panel), m = panels.first(panel);
        const auto kernel = tile_kernel<T>(height);
        for (Index j = 0; j < cols; j += lanes) {
          const T* source[tile_vectors];
          const Index width = std::min(lanes, cols - j);
          const bool direct = in_place && width == lanes;
          const T* from = direct ? b.data + k0 * b.row + n0 + j : packed_b + j * terms;
          for (int u = 0; u < tile_vectors; ++u) source[u] = from + u * S::size;
          const bool whole = width == lanes, last_relu = relu && k0 + depth >= K;
          T* out = c + (m0 + m) * N + n0 + j;
          const auto start = [&](Index i, Index l) {
            return k0 > 0 ? out[i * N + l] : bias != nullptr ? bias[n0 + j + l] : T(0);
          };
          auto target = Target<T>::rows(whole ? out : tile, tile_vectors);
          if (whole) {
            target.step = N;
            target.add = k0 > 0 || bias != nullptr;
            target.relu = last_relu;
            if (k0 == 0 && bias != nullptr)
              for (Index i = 0; i < height; ++i) std::copy_n(bias + n0 + j, lanes, out + i * N);
          }
          kernel(terms, packed_a + m * terms, height, direct ? row_offset : offset, source, target);
          if (whole) continue;
          for (Index i = 0; i < height; ++i)
            for (Index l = 0; l < width; ++l) {
              const T v = tile[i * lanes + l] + start(i, l);
              out[i * N + l] = last_relu && v < T(0) ? T(0) : v;
            }
        }
      }
    }
  });
}

// out (N, M) = x (N, D) * w (D, M) + b.
template <class T>
void affine_forward(const T* x, const T* w, const T* b, T* out, const DenseShape& s, bool relu) {
  matrix_product<T>({x, s.D, 1}, {w, s.M, 1}, b, relu, out, s.N, s.M, s.D);
}

// dx (N, D) = dout (N, M) * w', dw (D, M) = x' * dout, db (M,) = column sums of dout; null = not wanted.
template <class T>
void affine_backward(const T* dout, const T* x, const T* w, T* dx, T* dw, T* db, const DenseShape& s) {
  if (dx != nullptr) matrix_product<T>({dout, s.M, 1}, {w, 1, s.M}, nullptr, false, dx, s.N, s.D, s.M);
  if (dw != nullptr) matrix_product<T>({x, 1, s.D}, {dout, s.M, 1}, nullptr, false, dw, s.D, s.M, s.N);
  if (db == nullptr) return;
  constexpr Index block = 64;
  parallel_ranges(s.M, block, double(s.N), [&](Index begin, Index end) {
    double sums[block] = {};
    for (Index n = 0; n < s.N; ++n)
      for (Index j = begin; j < end; ++j) sums[j - begin] += double(dout[n * s.M + j]);
    for (Index j = begin; j < end; ++j) db[j] = T(sums[j - begin]);
  });
}

}  // namespace cnnlib::CNNLIB_ISA
