// Products of a large matrix with a small one: the large one is read or written once, in the order of memory,
// which is all that takes time.
#pragma once

#include "kernels/gemm/operands.hpp"

namespace cnnlib::CNNLIB_ISA {

constexpr int few_rows = 4;

// c from the chunks' results, parts (chunks, M, N), added up in order.
template <class T>
void add_chunks(const MatrixProduct<T>& p, const T* parts) {
  using S = Simd<T>;
  const Index size = p.M * p.N;
  parallel_ranges(p.M, 1, double(p.chunks()) * double(p.N) / 8, [&](Index m, Index) {
    write_vectors(p.c + m * p.N, p.N, false, [&](Index n, Index count) {
      auto sum = p.begun(load_counted(parts + m * p.N + n, count), n, count);
      for (Index chunk = 1; chunk < p.chunks(); ++chunk)
        sum = S::add(sum, load_counted(parts + chunk * size + m * p.N + n, count));
      return p.finished(sum);
    });
  });
}

// to (M, N), in columns [first, last) <- one chunk of the product, several of b's rows at a time.
template <class T, int M>
void add_rows_of_b(const MatrixProduct<T>& p, Index chunk, Index first, Index last, T* to) {
  using S = Simd<T>;
  constexpr Index together = M <= 2 ? 8 : 4;
  const T* a = p.a.data + chunk * p.depth * p.a.col;
  const T* b = p.b.data + chunk * p.depth * p.b.row;
  const auto add = [&](Index k, Index rows) {
    for (Index n = first; n < last; n += S::size) {
      const Index count = std::min<Index>(S::size, last - n);
      typename S::Packet sum[M];
      for (int m = 0; m < M; ++m) sum[m] = k == 0 ? S::zero() : load_counted(to + m * p.N + n, count);
#pragma GCC unroll 8
      for (Index i = 0; i < rows; ++i) {
        const auto bv = load_counted(b + (k + i) * p.b.row + n, count);
        for (int m = 0; m < M; ++m) sum[m] = S::fma(S::fill(a[m * p.a.row + (k + i) * p.a.col]), bv, sum[m]);
      }
      for (int m = 0; m < M; ++m) store_counted(to + m * p.N + n, count, sum[m]);
    }
  };
  const Index terms = p.terms(chunk);
  Index k = 0;
  for (; k + together <= terms; k += together) add(k, together);
  for (; k < terms; ++k) add(k, 1);
}

// b's columns lie side by side: the threads take chunks of its rows, and strips of its columns.
template <class T, int M>
void product_with_rows(const MatrixProduct<T>& p) {
  constexpr Index size = Simd<T>::size, most_columns = (16 << 10) / (M * sizeof(T));
  const int threads = threads_for(double(p.K) * double(p.N) / 4);
  const Index wanted = threads > 1 ? (2 * threads + p.chunks() - 1) / p.chunks() : 1;
  const Index strips =
      std::min(std::max((p.N + most_columns - 1) / most_columns, wanted), (p.N + size - 1) / size);
  const Index columns = (p.N + strips * size - 1) / (strips * size) * size;
  Layout layout;
  const auto part_piece = layout.array<T>(checked_product(p.chunks(), M * p.N));
  const Scratch scratch(layout.bytes());
  T* parts = part_piece.in(scratch.data());
  parallel_for(p.chunks() * strips, threads, [&](Index task, int) {
    const Index chunk = task / strips, first = task % strips * columns;
    add_rows_of_b<T, M>(p, chunk, first, std::min(first + columns, p.N), parts + chunk * M * p.N);
  });
  add_chunks(p, parts);
}

// b's columns lie one after the other: as many as a vector has lanes are turned in registers.
template <class T, int M>
void product_with_columns(const MatrixProduct<T>& p) {
  using S = Simd<T>;
  using Packet = typename S::Packet;
  constexpr Index size = S::size;
  parallel_ranges(p.N, size, double(p.K) / 4, [&](Index n, Index end) {
    const Index columns = end - n;
    Packet total[M];
    for (int m = 0; m < M; ++m) total[m] = S::zero();
    for (Index chunk = 0; chunk < p.chunks(); ++chunk) {
      const T* a = p.a.data + chunk * p.depth * p.a.col;
      const T* b = p.b.data + chunk * p.depth + n * p.b.col;
      const Index terms = p.terms(chunk);
      Packet sum[M];
      for (int m = 0; m < M; ++m) sum[m] = S::zero();
      const auto add = [&](Index k, Packet bv) {
        for (int m = 0; m < M; ++m) sum[m] = S::fma(S::fill(a[m * p.a.row + k * p.a.col]), bv, sum[m]);
      };
      Index k = 0;
      for (; k + size <= terms; k += size) {
        Packet block[size];
#pragma GCC unroll 16
        for (Index i = 0; i < size; ++i) block[i] = S::load(b + std::min(i, columns - 1) * p.b.col + k);
        transpose_packets(block);
#pragma GCC unroll 16
        for (Index i = 0; i < size; ++i) add(k + i, block[i]);
      }
      for (; k < terms; ++k) {
        T column[size] = {};
        for (Index i = 0; i < columns; ++i) column[i] = b[i * p.b.col + k];
        add(k, S::load(column));
      }
      for (int m = 0; m < M; ++m)
        total[m] = chunk > 0 ? S::add(total[m], sum[m]) : p.begun(sum[m], n, columns);
    }
    for (int m = 0; m < M; ++m) store_counted(p.c + m * p.N + n, columns, p.finished(total[m]));
  });
}

// Whether a is small and b large.
template <class T>
bool streams_rows(const MatrixProduct<T>& p) {
  return p.M <= few_rows && p.N >= 4 * Simd<T>::size && p.K >= 4 * Simd<T>::size;
}

template <class T, int M>
void product_of_rows(const MatrixProduct<T>& p) {
  p.b.col == 1 ? product_with_rows<T, M>(p) : product_with_columns<T, M>(p);
}

template <class T>
void product_of_few_rows(const MatrixProduct<T>& p) {
  static_assert(few_rows == 4);
  switch (p.M) {
    case 1:
      return product_of_rows<T, 1>(p);
    case 2:
      return product_of_rows<T, 2>(p);
    case 3:
      return product_of_rows<T, 3>(p);
    default:
      return product_of_rows<T, 4>(p);
  }
}

// Rows [m, m + R) of c.
template <class T, int R>
void rows_of_few_terms(const MatrixProduct<T>& p, Index m) {
  using S = Simd<T>;
  const T* a = p.a.data + m * p.a.row;
  for (Index n = 0; n < p.N; n += S::size) {
    const Index count = std::min<Index>(S::size, p.N - n);
    typename S::Packet sum[R];
    for (int r = 0; r < R; ++r) sum[r] = S::zero();
    for (Index k = 0; k < p.K; ++k) {
      const auto bv = load_counted(p.b.data + k * p.b.row + n, count);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) sum[r] = S::fma(S::fill(a[r * p.a.row + k * p.a.col]), bv, sum[r]);
    }
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
      store_counted(p.c + (m + r) * p.N + n, count, p.finished(p.begun(sum[r], n, count)));
  }
}

// Whether the result is far larger than what it is made of.
template <class T>
bool streams_result(const MatrixProduct<T>& p) {
  constexpr Index few_terms = 4, large = 1 << 18;
  return p.b.col == 1 && p.K <= few_terms && p.N >= 4 * Simd<T>::size && p.M * p.N >= large;
}

template <class T>
void product_of_few_terms(const MatrixProduct<T>& p) {
  constexpr Index together = 8;
  parallel_ranges(p.M, together, double(p.N) * double(p.K + 4) / 8, [&](Index begin, Index end) {
    if (end - begin == together) return rows_of_few_terms<T, together>(p, begin);
    for (Index m = begin; m < end; ++m) rows_of_few_terms<T, 1>(p, m);
  });
}

}  // namespace cnnlib::CNNLIB_ISA
