// Where the taps of a convolution read: staging planes in which every tap is one constant offset.
#pragma once

#include <cstring>

#include "arena.hpp"
#include "gemm.hpp"

namespace cnnlib::CNNLIB_ISA {

// One axis of the taps: tap a of output position i reads input position i * stride + at[a], and its
// weight lies weight[a] elements into the filter.
struct TapAxis {
  Index count, stride;
  const Index* at;
  const Index* weight;
};

// The input positions of one axis split by their remainder modulo the stride. Tap a reads phase
// number phase_of[a], shift[a] positions after the output's own; only phases that a tap reads exist.
struct AxisPhases {
  Index lowest = 0, reach = 0, count = 0;
  Index* phase_of;
  Index* shift;
  Index* remainder;  // of each phase

  void assign(Index* memory, Index taps) {  // of 3 * taps
    phase_of = memory;
    shift = memory + taps;
    remainder = memory + 2 * taps;
  }

  void plan(const TapAxis& taps) {
    if (taps.count == 0) return;
    lowest = taps.at[0];
    for (Index a = 1; a < taps.count; ++a) lowest = std::min(lowest, taps.at[a]);
    for (Index a = 0; a < taps.count; ++a) {
      const Index distance = taps.at[a] - lowest, rest = distance % taps.stride;
      Index phase = 0;
      while (phase < count && remainder[phase] != rest) ++phase;
      if (phase == count) remainder[count++] = rest;
      phase_of[a] = phase;
      shift[a] = distance / taps.stride;
      reach = std::max(reach, shift[a]);
    }
  }
};

// The columns [first, last) of a staged row that lie inside an image of width W, when column j reads
// input position start + j * stride.
struct Inside {
  Index first, last;
  Inside(Index start, Index stride, Index W, Index width)
      : first(start >= 0 ? 0 : std::min(width, (-start + stride - 1) / stride)),
        last(start >= W ? first : std::max(first, std::min(width, (W - 1 - start) / stride + 1))) {}
};

// The part of an image that a block of `rows` x `cols` output positions reads, for some channels:
// [channel][row phase][column phase][rows + reach][pitch], zero outside the image.
struct Staging {
  AxisPhases y, x;
  Index stride_h, stride_w;
  Index rows, cols;  // of the largest block
  Index height, width, pitch, phase_size, channel_size;

  void plan(const TapAxis& row_taps, const TapAxis& col_taps) {
    stride_h = row_taps.stride;
    stride_w = col_taps.stride;
    y.plan(row_taps);
    x.plan(col_taps);
  }

  // Rows begin at multiples of `align` values.
  void set_block(Index block_rows, Index block_cols, Index align = 1) {
    rows = block_rows;
    cols = block_cols;
    height = rows + y.reach;
    width = cols + x.reach;
    pitch = (width + align - 1) / align * align;
    phase_size = height * pitch;
    channel_size = y.count * x.count * phase_size;
  }

  Index tap_offset(Index a, Index b) const {
    return (y.phase_of[a] * x.count + x.phase_of[b]) * phase_size + y.shift[a] * pitch + x.shift[b];
  }

  // Calls row(destination offset, input row or -1, first input column, columns inside the image) for each
  // staged row of a block of an image (H, W).
  template <class Row>
  void each_row(Index oh, Index ow, Index H, Index W, const Row& row) const {
    for (Index q = 0; q < x.count; ++q) {
      const Index column = ow * stride_w + x.lowest + x.remainder[q];
      const Inside inside(column, stride_w, W, width);
      for (Index p = 0; p < y.count; ++p)
        for (Index r = 0; r < height; ++r) {
          const Index line = (oh + r) * stride_h + y.lowest + y.remainder[p];
          row((p * x.count + q) * phase_size + r * pitch, line >= 0 && line < H ? line : -1, column, inside);
        }
    }
  }
};

// Splits rows of a plane into columns of even and of odd distance from column `start`:
// even[j] = row[start + 2 * j] and odd[j] = row[start + 2 * j + 1], j < n, zero outside [0, W).
template <class T>
class RowSplitter {
  using S = Simd<T>;

 public:
  RowSplitter(Index start_column, Index width, Index count)
      : start(start_column),
        W(width),
        n(count),
        first(start < 0 ? std::min(n, (1 - start) / 2) : 0),
        last(std::clamp((W - start) / 2, first, n)) {}

  void operator()(const T* row, T* even, T* odd) const {
    if (last - first < S::size) return narrow(row, even, odd);
    for (Index j = 0; j < first; ++j) edge(row, even, odd, j);
    Index j = first;
    for (; j + S::size <= last; j += S::size) inside(row, even, odd, j);
    if (j < last) inside(row, even, odd, last - S::size), j = last;
    for (; j < n; ++j) edge(row, even, odd, j);
  }

 private:
  void inside(const T* row, T* even, T* odd, Index j) const {
    typename S::Packet a, b;
    S::load_pairs(row + start + 2 * j, a, b);
    S::store(even + j, a);
    S::store(odd + j, b);
  }
  void narrow(const T* row, T* even, T* odd) const {
    for (Index j = 0; j < n; j += S::size) {
      const Index at = start + 2 * j;
      const auto part = [&](Index from) {
        const Index begin = std::clamp<Index>(-from, 0, S::size),
                    end = std::clamp<Index>(W - from, begin, S::size);
        return S::load_lanes(row + from, begin, end - begin);
      };
      typename S::Packet a, b;
      S::split_pairs(part(at), part(at + S::size), a, b);
      S::store_lanes(even + j, a, 0, std::min<Index>(S::size, n - j));
      S::store_lanes(odd + j, b, 0, std::min<Index>(S::size, n - j));
    }
  }
  void edge(const T* row, T* even, T* odd, Index j) const {
    const Index i = start + 2 * j;
    even[j] = i >= 0 && i < W ? row[i] : T(0);
    odd[j] = i + 1 >= 0 && i + 1 < W ? row[i + 1] : T(0);
  }

  Index start, W, n;
  Index first, last;  // the columns where both lie inside
};

// to[j] = from[j * step], j < n; nothing from `end` on is read.
template <class T>
void copy_strided(const T* from, Index n, Index step, const T* end, T* to) {
  using S = Simd<T>;
  const auto every_second = [](const T* p) {
    typename S::Packet even, odd;
    S::load_pairs(p, even, odd);
    return even;
  };
  Index j = 0;
  if (step == 2)
    for (; j + S::size <= n && from + 2 * (j + S::size) <= end; j += S::size)
      S::store(to + j, every_second(from + 2 * j));
  if (step == 4)
    for (; j + S::size <= n && from + 4 * (j + S::size) <= end; j += S::size) {
      typename S::Packet even, odd;
      S::split_pairs(every_second(from + 4 * j), every_second(from + 4 * j + 2 * S::size), even, odd);
      S::store(to + j, even);
    }
  for (; j < n; ++j) to[j] = from[j * step];
}

// Copies one channel plane (H, W), whose rows lie `stride` apart, into its staging planes, for the block
// that starts at (oh, ow).
template <class T>
void stage_plane(const T* plane, Index H, Index W, Index stride, const Staging& s, Index oh, Index ow,
                 T* staged) {
  if (s.stride_w == 2 && s.x.count == 2) {
    const RowSplitter<T> split(2 * ow + s.x.lowest, W, s.width);
    T* even = staged + (s.x.remainder[0] == 0 ? 0 : s.phase_size);
    T* odd = staged + (s.x.remainder[0] == 0 ? s.phase_size : 0);
    for (Index p = 0; p < s.y.count; ++p)
      for (Index r = 0; r < s.height; ++r) {
        const Index line = (oh + r) * s.stride_h + s.y.lowest + s.y.remainder[p];
        const Index to = p * 2 * s.phase_size + r * s.pitch;
        if (line >= 0 && line < H) {
          split(plane + line * stride, even + to, odd + to);
        } else {
          std::fill_n(even + to, s.width, T(0));
          std::fill_n(odd + to, s.width, T(0));
        }
      }
    return;
  }
  s.each_row(oh, ow, H, W, [&](Index to, Index line, Index start, const Inside& inside) {
    T* dst = staged + to;
    if (line < 0) {
      std::memset(dst, 0, s.width * sizeof(T));
      return;
    }
    const T* src = plane + line * stride + start;
    if (s.stride_w == 1 && s.width <= Simd<T>::size) {
      const auto v = Simd<T>::load_lanes(src, inside.first, inside.last - inside.first);
      Simd<T>::store_lanes(dst, v, 0, s.width);
      return;
    }
    for (Index j = 0; j < inside.first; ++j) dst[j] = T(0);
    if (s.stride_w == 1)
      std::memcpy(dst + inside.first, src + inside.first, (inside.last - inside.first) * sizeof(T));
    else
      copy_strided(src + inside.first * s.stride_w, inside.last - inside.first, s.stride_w,
                   plane + (H - 1) * stride + W, dst + inside.first);
    for (Index j = inside.last; j < s.width; ++j) dst[j] = T(0);
  });
}

// Copies rows [top, top + height) x columns [left, left + width) of a plane (H, W), zero outside the image.
template <class T>
void copy_region(const T* plane, Index H, Index W, Index top, Index left, Index height, Index width, T* to) {
  const Inside inside(left, 1, W, width);
  for (Index i = 0; i < height; ++i, to += width) {
    const Index line = top + i;
    if (line < 0 || line >= H || inside.first >= inside.last) {
      std::fill_n(to, width, T(0));
      continue;
    }
    std::fill_n(to, inside.first, T(0));
    std::copy_n(plane + line * W + left + inside.first, inside.last - inside.first, to + inside.first);
    std::fill_n(to + inside.last, width - inside.last, T(0));
  }
}

}  // namespace cnnlib::CNNLIB_ISA
