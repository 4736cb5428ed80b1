// Products of a large matrix with a small one: memory sets the time, so that the large one is read or written
// once, in its order, and nothing is packed.
#pragma once

#include "kernels/gemm/operands.hpp"

namespace cnnlib::CNNLIB_ISA {

// c from the chunks' results, parts (chunks, M, N), added up in order.
template <class T>
void add_chunks(const MatrixProduct<T>& p, const T* parts) {
  using S = Simd<T>;
  const Index size = p.M * p.N;
  parallel_ranges(p.M, 1, double(p.sum.chunks) * double(p.N) / 8, [&](Index m, Index) {
    write_vectors(p.c + m * p.N, p.N, false, [&](Index n, Index count) {
      auto sum = p.begun(load_first(parts + m * p.N + n, count), n, count);
      for (Index chunk = 1; chunk < p.sum.chunks; ++chunk)
        sum = S::add(sum, load_first(parts + chunk * size + m * p.N + n, count));
      return p.finished(sum);
    });
  });
}

// to (M, N), in columns [first, last) (+)= `rows` rows of a chunk from k on.
template <class T, int M, int rows>
void add_rows_of_b(const MatrixProduct<T>& p, Index chunk, Index k, Index first, Index last, T* to) {
  using S = Simd<T>;
  Packet<T> av[M][rows];
  const T *a = p.a_chunk(chunk) + k * p.a.col, *b = p.b_chunk(chunk) + k * p.b.row;
#pragma GCC unroll 4
  for (int m = 0; m < M; ++m)
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i) av[m][i] = S::fill(a[m * p.a.row + i * p.a.col]);
  each_vector<T>(first, last, [&](Index n, Index count) __attribute__((always_inline)) {
    Packet<T> sum[M];
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) sum[m] = k == 0 ? S::zero() : load_first<T>(to + m * p.N + n, count);
#pragma GCC unroll 16
    for (int i = 0; i < rows; ++i) {
      const auto bv = load_first(b + i * p.b.row + n, count);
#pragma GCC unroll 4
      for (int m = 0; m < M; ++m) sum[m] = S::fma(av[m][i], bv, sum[m]);
    }
#pragma GCC unroll 4
    for (int m = 0; m < M; ++m) store_first(to + m * p.N + n, count, sum[m]);
  });
}

// to (M, N), in columns [first, last) <- one chunk of the product: `block` rows of b at a time, so that the
// sums are loaded and stored less often.
template <class T, int M, int block>
void multiply_rows_of_b(const MatrixProduct<T>& p, Index chunk, Index first, Index last, T* to) {
  const Index terms = p.sum.count(chunk);
  Index k = 0;
  for (; k + block <= terms; k += block) add_rows_of_b<T, M, block>(p, chunk, k, first, last, to);
  for (; k < terms; ++k) add_rows_of_b<T, M, 1>(p, chunk, k, first, last, to);
}

// b lies along its rows: the threads take chunks of its rows, and strips of its columns.
template <class T, int M>
std::size_t skinny_product_by_rows(const MatrixProduct<T>& p) {
  constexpr Index size = Simd<T>::size;
  constexpr Index strip_bytes = 16 << 10;  // of a strip's sums, in the first-level cache
  constexpr Index most_columns = strip_bytes / (M * Index(sizeof(T)));
  const int threads = threads_for(double(p.K) * double(p.N) / 4);
  const Index tasks = threads > 1 ? ceil_div(2 * threads, p.sum.chunks) : 1;
  const Index strips = std::min(std::max(ceil_div(p.N, most_columns), tasks), ceil_div(p.N, size));
  const Index columns = round_up(ceil_div(p.N, strips), size);
  Layout layout;
  const Reserved<T> part_memory(layout, checked_product(p.sum.chunks, M * p.N));
  if (p.c == nullptr) return layout.bytes();
  const LayoutMemory memory(layout);
  T* parts = part_memory.data();
  // Several short rows are one run of memory; long ones are as many as a processor prefetches well, and so
  // are those whose columns share a set of the first-level cache, which holds no more of them.
  constexpr Index short_row_bytes = 8 << 10, alias_bytes = 4 << 10;  // a way of that cache
  constexpr int few = 4, many = M == 1 ? 16 : few;
  const Index row_bytes = p.b.row * Index(sizeof(T));
  const bool run = row_bytes <= short_row_bytes && row_bytes % alias_bytes != 0;
  const auto multiply = run ? &multiply_rows_of_b<T, M, many> : &multiply_rows_of_b<T, M, few>;
  parallel_grid({p.sum.chunks, strips}, threads, [&](Index chunk, Index strip, int) {
    multiply(p, chunk, strip * columns, std::min((strip + 1) * columns, p.N), parts + chunk * M * p.N);
  });
  add_chunks(p, parts);
  return layout.bytes();
}

// sum[m] = one chunk of row m times `columns` columns of b from n on, squares of which are transposed in
// registers.
template <class T, int M>
[[gnu::always_inline]] inline void multiply_columns_of_b(const MatrixProduct<T>& p, Index chunk, Index n,
                                                         Index columns, Packet<T> (&sum)[M]) {
  using S = Simd<T>;
  constexpr Index size = S::size;
  const T *a = p.a_chunk(chunk), *b = p.b.data + p.sum.first(chunk) + n * p.b.col;
  const Index terms = p.sum.count(chunk);
  for (int m = 0; m < M; ++m) sum[m] = S::zero();
  const auto add = [&](Index k, Packet<T> bv) {
    for (int m = 0; m < M; ++m) sum[m] = S::fma(S::fill(a[m * p.a.row + k * p.a.col]), bv, sum[m]);
  };
  Index k = 0;
  for (; k + size <= terms; k += size) {
    Packet<T> square[size];
#pragma GCC unroll 16
    for (Index i = 0; i < size; ++i) square[i] = S::load(b + std::min(i, columns - 1) * p.b.col + k);
    transpose_packets(square);
#pragma GCC unroll 16
    for (Index i = 0; i < size; ++i) add(k + i, square[i]);
  }
  for (; k < terms; ++k) {
    T column[size] = {};
    for (Index i = 0; i < columns; ++i) column[i] = b[i * p.b.col + k];
    add(k, S::load(column));
  }
}

// b lies along its columns: a task is as many of them as a vector has lanes.
template <class T, int M>
std::size_t skinny_product_by_columns(const MatrixProduct<T>& p) {
  using S = Simd<T>;
  if (p.c == nullptr) return 0;
  parallel_ranges(p.N, S::size, double(p.K) / 4, [&](Index n, Index end) {
    const Index columns = end - n;
    Packet<T> total[M], sum[M];
    for (int m = 0; m < M; ++m) total[m] = S::zero();
    for (Index chunk = 0; chunk < p.sum.chunks; ++chunk) {
      multiply_columns_of_b<T, M>(p, chunk, n, columns, sum);
      for (int m = 0; m < M; ++m)
        total[m] = chunk > 0 ? S::add(total[m], sum[m]) : p.begun(sum[m], n, columns);
    }
    for (int m = 0; m < M; ++m) store_first(p.c + m * p.N + n, columns, p.finished(total[m]));
  });
  return 0;
}

// a has few rows and b is large.
constexpr int most_skinny_rows = 4;

template <class T>
bool suits_skinny_product(const MatrixProduct<T>& p) {
  constexpr Index fewest_vectors = 4;
  return p.M <= most_skinny_rows && std::min(p.N, p.K) >= fewest_vectors * Simd<T>::size;
}

template <class T>
std::size_t skinny_product(const MatrixProduct<T>& p) {
  static constexpr auto by_rows = kernels_by_rows<most_skinny_rows>(
                            [](auto M) { return &skinny_product_by_rows<T, M()>; }),
                        by_columns = kernels_by_rows<most_skinny_rows>(
                            [](auto M) { return &skinny_product_by_columns<T, M()>; });
  return (p.b.col == 1 ? by_rows : by_columns)[p.M - 1](p);
}

}  // namespace cnnlib::CNNLIB_ISA
