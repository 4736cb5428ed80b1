// Squares of vectors turned in registers, and what is made of them: matrices turned, panels packed, lanes
// added up.
#pragma once

#include "kernels/simd/packet.hpp"

namespace cnnlib::CNNLIB_ISA {

// row[j][i] <- row[i][j] for a square.
template <class Packet, int n>
inline void transpose_packets(Packet (&row)[n]) {
  Eigen::internal::PacketBlock<Packet, n> block;
  std::copy_n(row, n, block.packet);
  Eigen::internal::ptranspose(block);
  std::copy_n(block.packet, n, row);
}
#if defined(__AVX512F__)
// row[k], row[step + k], ... <- the first quarters of the four, the second ones, ...
template <int step, class Packet, class Even, class Odd>
inline void transpose_quarters(Packet* row, const Even& even, const Odd& odd) {
#pragma GCC unroll 4
  for (int k = 0; k < step; ++k) {
    const Packet a = row[k], b = row[step + k], c = row[2 * step + k], d = row[3 * step + k];
    const Packet even_ab = even(a, b), odd_ab = odd(a, b), even_cd = even(c, d), odd_cd = odd(c, d);
    row[k] = even(even_ab, even_cd);
    row[step + k] = even(odd_ab, odd_cd);
    row[2 * step + k] = odd(even_ab, even_cd);
    row[3 * step + k] = odd(odd_ab, odd_cd);
  }
}
// Squares within the quarters of vectors, then the quarters: two thirds of the shuffles that Eigen takes.
inline void transpose_packets(__m512 (&row)[16]) {
  const auto pairs = [](__m512 v) { return _mm512_castps_pd(v); };
#pragma GCC unroll 4
  for (int g = 0; g < 16; g += 4) {
    const __m512d low_01 = pairs(_mm512_unpacklo_ps(row[g], row[g + 1])),
                  high_01 = pairs(_mm512_unpackhi_ps(row[g], row[g + 1])),
                  low_23 = pairs(_mm512_unpacklo_ps(row[g + 2], row[g + 3])),
                  high_23 = pairs(_mm512_unpackhi_ps(row[g + 2], row[g + 3]));
    row[g] = _mm512_castpd_ps(_mm512_unpacklo_pd(low_01, low_23));
    row[g + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low_01, low_23));
    row[g + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(high_01, high_23));
    row[g + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(high_01, high_23));
  }
  transpose_quarters<4>(
      row, [](__m512 a, __m512 b) { return _mm512_shuffle_f32x4(a, b, 0x88); },
      [](__m512 a, __m512 b) { return _mm512_shuffle_f32x4(a, b, 0xDD); });
}
inline void transpose_packets(__m512d (&row)[8]) {
#pragma GCC unroll 4
  for (int g = 0; g < 8; g += 2) {
    const __m512d low = _mm512_unpacklo_pd(row[g], row[g + 1]);
    row[g + 1] = _mm512_unpackhi_pd(row[g], row[g + 1]);
    row[g] = low;
  }
  transpose_quarters<2>(
      row, [](__m512d a, __m512d b) { return _mm512_shuffle_f64x2(a, b, 0x88); },
      [](__m512d a, __m512d b) { return _mm512_shuffle_f64x2(a, b, 0xDD); });
}
#endif

// place(j)[i] = load(i)[j] for a square of Simd<T>::size.
template <class T, class Load, class Place>
inline void transpose_vectors(const Load& load, const Place& place) {
  constexpr int n = Simd<T>::size;
  typename Simd<T>::Packet row[n];
#pragma GCC unroll 16
  for (int i = 0; i < n; ++i) row[i] = load(i);
  transpose_packets(row);
#pragma GCC unroll 16
  for (int i = 0; i < n; ++i) Simd<T>::store(place(i), row[i]);
}

// to[i] = the sum of the lanes of vector i, i < n; `to` may be where the vectors begin.
template <class T>
void sum_each(const T* vectors, Index n, T* to) {
  using S = Simd<T>;
  constexpr Index size = S::size;
  for (Index i = 0; i < n; i += size) {
    const Index count = std::min(size, n - i);
    typename S::Packet row[size];
#pragma GCC unroll 16
    for (Index k = 0; k < size; ++k) row[k] = S::load(vectors + (i + std::min(k, count - 1)) * size);
    transpose_packets(row);
#pragma GCC unroll 4
    for (Index step = 1; step < size; step *= 2)
#pragma GCC unroll 8
      for (Index k = 0; k < size; k += 2 * step) row[k] = S::add(row[k], row[k + step]);
    S::store_lanes(to + i, row[0], 0, count);
  }
}

// dst[j * dst_stride + i] = row(i)[j] for a square of Simd<T>::size.
template <class T, class Row>
inline void transpose_square(const Row& row, T* dst, Index dst_stride) {
  transpose_vectors<T>([&](int i) { return Simd<T>::load(row(i)); },
                       [&](int i) { return dst + i * dst_stride; });
}

// dst[j * dst_stride + i] = src[i * src_stride + j], i < rows, j < cols.
template <class T>
void transpose(const T* src, Index src_stride, Index rows, Index cols, T* dst, Index dst_stride) {
  constexpr Index n = Simd<T>::size;
  const Index square_rows = rows / n * n, tail = cols % n;
  const bool overlap = cols >= n && tail > n / 8;  // a last square over the one before beats single steps
  const Index square_cols = overlap ? cols : cols - tail;
  for (Index i = 0; i < square_rows; i += n)
    for (Index at = 0; at < square_cols; at += n) {
      const Index j = std::min(at, cols - n);
      transpose_square<T>([&](Index r) { return src + (i + r) * src_stride + j; }, dst + j * dst_stride + i,
                          dst_stride);
    }
  for (Index i = 0; i < square_rows; ++i)
    for (Index j = square_cols; j < cols; ++j) dst[j * dst_stride + i] = src[i * src_stride + j];
  for (Index i = square_rows; i < rows; ++i)
    for (Index j = 0; j < cols; ++j) dst[j * dst_stride + i] = src[i * src_stride + j];
}

// The same where the caller lets whole vectors be read and written: src may be read up to `end`, and n
// columns after the last may be filled with anything. Lanes from `rows` to the next full vector repeat
// the last row or are zero.
template <class T>
void transpose_freely(const T* src, Index src_stride, Index rows, Index cols, const T* end, T* dst,
                      Index dst_stride) {
  constexpr Index n = Simd<T>::size;
  const Index padded = (rows + n - 1) / n * n;
  if (src + (rows - 1) * src_stride + (cols + n - 1) / n * n > end) {
    transpose(src, src_stride, rows, cols, dst, dst_stride);
    if (rows < padded)
      for (Index j = 0; j < cols; ++j) std::fill_n(dst + j * dst_stride + rows, padded - rows, T(0));
    return;
  }
  for (Index j = 0; j < cols; j += n)
    for (Index i = 0; i < rows; i += n)
      transpose_square<T>([&](Index r) { return src + std::min(i + r, rows - 1) * src_stride + j; },
                          dst + j * dst_stride + i, dst_stride);
}

// dst[j * rows + i] = row(i)[j], i < rows, j < cols: a panel for the matrix kernel. Whole squares are
// stored over the following columns, which are then written anew; `room` says how many columns follow
// that the caller writes later (and may be read ahead), and what does not fit there goes one by one.
template <class T, class Row>
void pack_panel(const Row& row, Index rows, Index cols, T* dst, Index room = 0) {
  constexpr Index n = Simd<T>::size;
  const Index padded = (rows + n - 1) / n * n, spare = (padded - rows + rows - 1) / rows;
  Index j = 0;
  for (; j < cols && j + n + spare <= cols + room; j += n)
    for (Index i = padded - n; i >= 0; i -= n)
      transpose_square<T>([&](Index r) { return row(i + r < rows ? i + r : rows - 1) + j; },
                          dst + j * rows + i, rows);
  for (; j < cols; ++j)
    for (Index i = 0; i < rows; ++i) dst[j * rows + i] = row(i)[j];
}

}  // namespace cnnlib::CNNLIB_ISA
