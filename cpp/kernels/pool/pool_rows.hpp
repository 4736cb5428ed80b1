// What the poolings share. A window of PH x PW slides over every plane of x (planes, H, W) to outputs
// (planes, OH, OW); output (oh, ow) covers rows oh * stride_h - pad_top + kh * dilation_h, kh < PH, and
// columns ow * stride_w - pad_left + kw * dilation_w, kw < PW.
//
// Small windows, 2 or 3 wide and 1 or 2 apart, are computed in whole vectors up to the edges of the image.
#pragma once

#include "kernels/scratch_layout.hpp"
#include "kernels/simd/loops.hpp"
#include "threads/parallel.hpp"

namespace cnnlib::CNNLIB_ISA {

// v is greater than best, or v is NaN and best is not.
template <class T>
bool greater_or_nan(T v, T best) {
  return !(v <= best) & (best == best);
}

// The taps of one vector of windows, of which the first begins at `corner`.
template <class T, int PW, int Stride>
void load_taps(const T* corner, typename Simd<T>::Packet* tap) {
  using S = Simd<T>;
  if constexpr (Stride == 1) {
#pragma GCC unroll 3
    for (int kw = 0; kw < PW; ++kw) tap[kw] = S::load(corner + kw);
  } else {
    S::load_pairs(corner, tap[0], tap[1]);
    typename S::Packet unused;
    if constexpr (PW == 3) S::load_pairs(corner + 2, tap[2], unused);
  }
}

// Writes columns [at, at + lanes) of a row of W values, as far as they exist. Other lanes spill over into the
// next row of the plane, which has to be written after this one; the last row ends at plane_end.
template <class T>
void store_in_plane(T* row, Index W, Index at, const T* plane_end, typename Simd<T>::Packet v) {
  using S = Simd<T>;
  if (row + at + S::size <= plane_end)
    S::store(row + at, v);
  else if (at < W)
    S::store_lanes(row + at, v, 0, std::min<Index>(S::size, W - at));
}

// The outputs [first, last) for which position o * stride + offset lies in [0, size).
struct OutputRange {
  Index first, last;
  OutputRange(Index offset, Index stride, Index size, Index outputs)
      : first(offset >= 0 ? 0 : std::min(outputs, ceil_div(-offset, stride))),
        last(offset >= size ? first : std::max(first, std::min(outputs, (size - 1 - offset) / stride + 1))) {}
};

// Slices of the planes for a parallel loop.
struct PlaneSlices {
  static constexpr Index slice_values = 16384;  // of x in a task: many times what starting it costs
  static constexpr double lanes = 4;            // operations at a time, cautiously
  Index planes, grain;
  int threads;

  explicit PlaneSlices(const PoolShape& s)
      : planes(s.planes),
        grain(std::max<Index>(1, slice_values / (s.H * s.W))),
        threads(threads_for(double(s.planes) * (s.H * s.W + s.OH * s.OW * s.PH * s.PW) / lanes)) {}

  template <class Body>  // body(begin, end, slot)
  void each_slice(const Body& body) const {
    parallel_for(ceil_div(planes, grain), threads, [&](Index slice, int slot) {
      body(slice * grain, std::min(planes, (slice + 1) * grain), slot);
    });
  }

  template <class Body>  // body(plane, slot)
  void each_plane(const Body& body) const {
    each_plane([](int) {}, body);
  }

  // begin(slot) once for a slice, then body(plane, slot).
  template <class Begin, class Body>
  void each_plane(const Begin& begin, const Body& body) const {
    each_slice([&](Index first, Index last, int slot) {
      begin(slot);
      for (Index plane = first; plane < last; ++plane) body(plane, slot);
    });
  }
};

// Rows of `columns` values between margins, so that every vector that is needed can be loaded whole.
template <class T>
struct PaddedRows {
  using S = Simd<T>;
  Index columns, pitch;

  // For reads from one vector before column 0 to `last`, exclusive.
  PaddedRows(Index row_columns, Index last)
      : columns(row_columns), pitch(round_up(std::max(columns, last) + S::size, S::size)) {}
  Index size(Index rows) const { return rows * pitch; }
  T* row(T* rows, Index h) const { return rows + h * pitch + S::size; }

  // vector(j, count): columns [j, j + count), the last time fewer than a whole vector.
  template <class Vector>
  void fill(T* to, const Vector& vector) const {
    Index j = 0;
    for (; j + S::size <= columns; j += S::size) S::store(to + j, vector(j, S::size));
    if (j < columns) S::store_lanes(to + j, vector(j, columns - j), 0, columns - j);
  }
};

// The output rows whose windows reach an input row, and with which of their rows.
struct ReachingRows {
  int count = 0;
  Index oh[3], kh[3];

  ReachingRows(const PoolShape& s, Index h) {
    const Index reach = h + s.pad_top, last = reach / s.stride_h;
    for (Index o = last, k = reach - last * s.stride_h; o >= 0 && k < s.PH; --o, k += s.stride_h)
      if (o < s.OH) {
        oh[count] = o;
        kh[count++] = k;
      }
  }
};

// Those of all input rows, written to `to`.
inline const ReachingRows* reaching_rows(const PoolShape& s, ReachingRows* to) {
  for (Index h = 0; h < s.H; ++h) to[h] = ReachingRows(s, h);
  return to;
}

// Whether this file's functions serve these windows.
inline bool small_windows(const PoolShape& s) {
  return s.dilation_h == 1 && s.dilation_w == 1 && s.PH <= 3 && (s.PW == 2 || s.PW == 3) && s.stride_w <= 2;
}

// Vectors for which splitting rows into pairs of columns is worth its shuffles.
constexpr int least_paired_bytes = 32;

// Those of them that are 2 apart both ways, 2 or 3 high, and begin at the image's edge or a column before it.
inline bool paired_windows(const PoolShape& s) {
  return small_windows(s) && s.stride_h == 2 && s.stride_w == 2 && s.PH >= 2 && s.pad_left <= 1;
}

// body(plane, scratch): so many values, of the thread that runs it.
template <class T, class Body>
void each_plane_with_scratch(const PoolShape& s, Index values, const Body& body) {
  const PlaneSlices slices(s);
  Layout layout;
  const auto piece = layout.per_thread<T>(slices.threads, values);
  const Scratch scratch(layout.bytes());
  slices.each_plane([&](Index plane, int slot) { body(plane, piece.of(scratch.data(), slot)); });
}

// Calls body with PW and the horizontal stride as compile-time constants.
template <class Body>
void with_window(const PoolShape& s, const Body& body) {
  using std::integral_constant;
  using Two = integral_constant<int, 2>;
  using Three = integral_constant<int, 3>;
  using One = integral_constant<int, 1>;
  if (s.PW == 2)
    s.stride_w == 1 ? body(Two{}, One{}) : body(Two{}, Two{});
  else
    s.stride_w == 1 ? body(Three{}, One{}) : body(Three{}, Two{});
}

// Calls body with PW and the horizontal padding of paired_windows as compile-time constants.
template <class Body>
void with_paired_window(const PoolShape& s, const Body& body) {
  using Zero = std::integral_constant<int, 0>;
  using One = std::integral_constant<int, 1>;
  with_window(s, [&](auto width, auto) { s.pad_left == 0 ? body(width, Zero{}) : body(width, One{}); });
}

}  // namespace cnnlib::CNNLIB_ISA
