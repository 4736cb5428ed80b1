// Transposes: squares of vectors in registers, and from them matrices, packed panels, and sums of lanes.
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

// place(j)[i] = load(i)[j] for a square of Simd<T>::size.
template <class T, class Load, class Place>
inline void transpose_vectors(const Load& load, const Place& place) {
  constexpr int n = Simd<T>::size;
  Packet<T> row[n];
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
  const Index padded = round_up(rows, n);
  if (src + (rows - 1) * src_stride + round_up(cols, n) > end) {
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

// Packs a panel for the micro-kernel: dst[j * rows + i] = row(i)[j], i < rows, j < cols, so that the values
// that one step multiplies lie side by side:
//
//   row(0)  a0 a1 a2 ..
//   row(1)  b0 b1 b2 ..    ->    a0 b0 c0 | a1 b1 c1 | a2 b2 c2 | ..
//   row(2)  c0 c1 c2 ..
//
// Whole squares are stored over the following columns, which are then written anew; `room` says how many
// columns follow that the caller writes later (and may be read ahead), and what does not fit there goes one
// by one.
template <class T, class Row>
void pack_panel(const Row& row, Index rows, Index cols, T* dst, Index room = 0) {
  constexpr Index n = Simd<T>::size;
  const Index padded = round_up(rows, n), spare = ceil_div(padded - rows, rows);
  Index j = 0;
  for (; j < cols && j + n + spare <= cols + room; j += n)
    for (Index i = padded - n; i >= 0; i -= n)
      transpose_square<T>([&](Index r) { return row(i + r < rows ? i + r : rows - 1) + j; },
                          dst + j * rows + i, rows);
  for (; j < cols; ++j)
    for (Index i = 0; i < rows; ++i) dst[j * rows + i] = row(i)[j];
}

}  // namespace cnnlib::CNNLIB_ISA
