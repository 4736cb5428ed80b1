// Where the taps of a convolution read: staging planes in which every tap is one constant offset.
#pragma once

#include <cstring>

#include "kernels/gemm/micro_kernel.hpp"
#include "kernels/scratch_layout.hpp"

namespace cnnlib::CNNLIB_ISA {

// One axis of the taps: tap a of output position i reads input position i * stride + at[a], and its
// weight lies weight[a] elements into the filter.
struct TapAxis {
  Index count, stride;
  const Index* at;
  const Index* weight;
};

// The input positions of one axis split into phases, each of one remainder modulo the stride. Tap a reads
// phase number phase_of[a], shift[a] positions after the output's own; only phases that a tap reads exist.
struct AxisPhases {
  static constexpr Index any_distance = Index{1} << 48;
  Index lowest, reach, count;
  Index* phase_of;
  Index* shift;
  Index* first;  // of each phase the first position, counted from the lowest,
  Index* last;   // and that of its last tap

  // Taps share a phase up to a distance of `most` positions; what lies between phases is not staged. `memory`
  // of memory_size(taps.count) stays the same from call to call.
  void split(const TapAxis& taps, Index most, Index* memory) {
    if (joined && most >= span) return;
    phase_of = memory;
    shift = memory + taps.count;
    first = memory + 2 * taps.count;
    last = memory + 3 * taps.count;
    lowest = taps.count > 0 ? *std::min_element(taps.at, taps.at + taps.count) : 0;
    const auto rest = [&](Index n) { return taps.stride == 1 ? 0 : n % taps.stride; };  // divisions are slow
    reach = count = span = 0;
    for (Index a = 0; a < taps.count; ++a) {
      const Index at = taps.at[a] - lowest, from = at > most ? at : rest(at);
      const auto apart = [&](Index phase) {
        return rest(at - first[phase]) != 0 || at < first[phase] - most || at > last[phase] + most;
      };
      Index phase = count - 1;
      while (phase >= 0 && apart(phase)) --phase;
      if (phase < 0) {
        phase = count++;
        first[phase] = from;
        last[phase] = at;
      }
      first[phase] = std::min(first[phase], from);
      last[phase] = std::max(last[phase], at);
      phase_of[a] = phase;
      span = std::max(span, at);
    }
    for (Index a = 0; a < taps.count; ++a) {
      const Index distance = taps.at[a] - lowest - first[phase_of[a]];
      shift[a] = taps.stride == 1 ? distance : distance / taps.stride;
      reach = std::max(reach, shift[a]);
    }
    joined = most >= span;
  }
  static Index memory_size(Index taps) { return 4 * taps; }

 private:
  Index span = 0;       // of all taps
  bool joined = false;  // no phase has been split: nor is it for any `most` from the span on
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
// [channel][row phase][column phase][rows + reach][pitch], zero outside the image. Behind the rows of a phase
// there is room for what the last vector of a row has too much.
struct Staging {
  TapAxis row_taps, col_taps;
  Index* memory;  // of memory_size(), which lives as long, as do the taps
  AxisPhases y{}, x{};
  Index stride_h = row_taps.stride, stride_w = col_taps.stride;
  Index rows = 0, cols = 0;  // of the largest block
  Index height = 0, width = 0, pitch = 0, phase_size = 0, channel_size = 0;

  static Index memory_size(Index row_taps, Index col_taps) {
    return AxisPhases::memory_size(row_taps) + AxisPhases::memory_size(col_taps);
  }

  // Rows begin at multiples of `align` values; `room` values follow those of a phase. `joint`: taps share
  // phases however far apart they are.
  void set_block(Index block_rows, Index block_cols, Index align = 1, Index room = 0, bool joint = false) {
    rows = block_rows;
    cols = block_cols;
    y.split(row_taps, joint ? AxisPhases::any_distance : rows * stride_h, memory);
    x.split(col_taps, joint ? AxisPhases::any_distance : cols * stride_w,
            memory + AxisPhases::memory_size(row_taps.count));
    height = rows + y.reach;
    width = cols + x.reach;
    pitch = (width + align - 1) / align * align;
    phase_size = height * pitch + room;
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
      const Index column = ow * stride_w + x.lowest + x.first[q];
      const Inside inside(column, stride_w, W, width);
      for (Index p = 0; p < y.count; ++p)
        for (Index r = 0; r < height; ++r) {
          const Index line = (oh + r) * stride_h + y.lowest + y.first[p];
          row((p * x.count + q) * phase_size + r * pitch, line >= 0 && line < H ? line : -1, column, inside);
        }
    }
  }
};

// to[i] = 0, i < n, in whole vectors: masked stores cost a dozen cycles and more with AVX2.
template <class T>
[[gnu::always_inline]] inline void clear_vectors(T* to, Index n) {
  for (Index i = 0; i < n; i += Simd<T>::size) Simd<T>::store(to + i, Simd<T>::zero());
}

// The values p[0], p[2], ... and p[1], p[3], ... of p[0, n), n <= 2 * S::size, and zeros or, before `end`,
// what follows: masked loads hold up the processor where the values are in none of its caches.
template <class T>
[[gnu::always_inline]] inline void load_pairs_before(const T* p, Index n, const T* end,
                                                     typename Simd<T>::Packet& even,
                                                     typename Simd<T>::Packet& odd) {
  using S = Simd<T>;
  if (p + 2 * S::size <= end) return S::load_pairs(p, even, odd);
  S::split_pairs(S::load_lanes(p, 0, std::min<Index>(n, S::size)),
                 n > S::size ? S::load_lanes(p + S::size, 0, n - S::size) : S::zero(), even, odd);
}

// Splits rows of a plane into columns of even and of odd distance from column `start`:
// even[j] = row[start + 2 * j] and odd[j] = row[start + 2 * j + 1], j < n, zero outside [0, W). Whole vectors
// are written.
class RowSplitter {
 public:
  RowSplitter(Index start, Index W, Index count)
      : n(count),
        from(std::max<Index>(start, 0)),
        length(std::max<Index>(std::min(start + 2 * n, W) - from, 0)),
        swapped((from - start) % 2 != 0) {
    const Index distance = from - start;  // of the first column inside
    even = {std::min(n, (distance + 1) / 2), (length + (swapped ? 0 : 1)) / 2};
    odd = {std::min(n, distance / 2), (length + (swapped ? 1 : 0)) / 2};
  }

  // Nothing from `end` on is read.
  template <class T>
  [[gnu::always_inline]] void operator()(const T* row, const T* end, T* evens, T* odds) const {
    using S = Simd<T>;
    clear_vectors(evens, even.first);
    clear_vectors(odds, odd.first);
    T* first = swapped ? odds + odd.first : evens + even.first;
    T* second = swapped ? evens + even.first : odds + odd.first;
    row += from;
    for (Index i = 0; 2 * i < length; i += S::size) {
      typename S::Packet a, b;
      load_pairs_before(row + 2 * i, length - 2 * i, end, a, b);
      S::store(first + i, a);
      S::store(second + i, b);
    }
    even.clear_rest(evens, n);
    odd.clear_rest(odds, n);
  }

 private:
  // The columns with a value from inside the row.
  struct Filled {
    Index first, count;
    template <class T>
    [[gnu::always_inline]] void clear_rest(T* to, Index n) const {
      clear_vectors(to + first + count, n - first - count);
    }
  };
  Index n, from, length;
  bool swapped;  // the first column inside is one of the odd ones
  Filled even, odd;
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
  if (step == 2 && j < n) {
    typename S::Packet even, odd;
    load_pairs_before(from + 2 * j, 2 * (n - j) - 1, end, even, odd);
    return S::store_lanes(to + j, even, 0, n - j);
  }
  for (; j < n; ++j) to[j] = from[j * step];
}

// Copies one channel plane (H, W), whose rows lie `stride` apart, into its staging planes, for the block
// that starts at (oh, ow). Rows of a phase are written in their order: a row ends in a whole vector.
template <class T>
void stage_plane(const T* plane, Index H, Index W, Index stride, const Staging& s, Index oh, Index ow,
                 T* staged) {
  using S = Simd<T>;
  const T* end = plane + (H - 1) * stride + W;
  if (s.stride_w == 2 && s.x.count == 2 && s.x.first[0] + s.x.first[1] == 1) {
    const RowSplitter split(2 * ow + s.x.lowest, W, s.width);
    T* even = staged + (s.x.first[0] == 0 ? 0 : s.phase_size);
    T* odd = staged + (s.x.first[0] == 0 ? s.phase_size : 0);
    for (Index r = 0; r < s.height; ++r)
      for (Index p = 0; p < s.y.count; ++p) {
        const Index line = (oh + r) * s.stride_h + s.y.lowest + s.y.first[p];
        const Index to = p * 2 * s.phase_size + r * s.pitch;
        if (line >= 0 && line < H) {
          split(plane + line * stride, end, even + to, odd + to);
        } else {
          clear_vectors(even + to, s.width);
          clear_vectors(odd + to, s.width);
        }
      }
    return;
  }
  s.each_row(oh, ow, H, W, [&](Index to, Index line, Index start, const Inside& inside) {
    T* dst = staged + to;
    if (line < 0) return clear_vectors(dst, s.width);
    const T* src = plane + line * stride + start;
    clear_vectors(dst, inside.first);
    if (s.stride_w == 1) {
      Index j = inside.first;
      for (; j < inside.last && src + j + S::size <= end; j += S::size) S::store(dst + j, S::load(src + j));
      if (j < inside.last) S::store(dst + j, S::load_lanes(src + j, 0, inside.last - j));
    } else {
      copy_strided(src + inside.first * s.stride_w, inside.last - inside.first, s.stride_w, end,
                   dst + inside.first);
    }
    clear_vectors(dst + inside.last, s.width - inside.last);
  });
}

}  // namespace cnnlib::CNNLIB_ISA
