// Passes over windows up to 3 rows high that are 1 or 2 apart along a row (pools, depthwise convolution), as
// walks down an image with a vector of columns: each line is read once, and what overlapping windows share
// stays in registers.
//
// At each step the next values behind an array that is read or written are prefetched (prefetch_next), in the
// order of memory. There a processor foresees them and runs ahead; of the walk itself, whose steps are rows
// apart, it foresees little (bench/NOTES.md).
//
// Vectors of columns are taken from right to left: lanes of the last one that lie beyond the row are stored
// over the beginning of the row below, which is written later. Lambdas that are called twice are marked
// always_inline: otherwise what they capture would live in memory.
#pragma once

#include "kernels/simd/loops.hpp"

namespace cnnlib::CNNLIB_ISA {

// Writes columns [at, at + lanes) of a row of W values. Lanes beyond the row go to the row below as far as
// the array reaches, which ends at `end`.
template <class T>
void store_in_rows(T* row, Index W, Index at, const T* end, Packet<T> v) {
  using S = Simd<T>;
  if (row + at + S::size <= end)
    S::store(row + at, v);
  else if (at < W)
    S::store_lanes(row + at, v, 0, std::min<Index>(S::size, W - at));
}

// A vector of the columns of a row from `first` on, of which some may lie outside [0, size).
template <class T>
struct ColumnVector {
  using S = Simd<T>;
  Index first = 0, skipped = 0, count = 0;  // lanes [skipped, skipped + count) are columns

  ColumnVector() = default;
  ColumnVector(Index first_column, Index size)
      : first(first_column),
        skipped(std::clamp<Index>(-first, 0, S::size)),
        count(std::clamp<Index>(size - first, skipped, S::size) - skipped) {}
  // Lanes outside the row are zeros, or what `outside` says.
  template <class... Outside>
  Packet<T> load(const T* row, Outside... outside) const {
    return count == S::size ? S::load(row + first) : S::load_lanes(row + first, skipped, count, outside...);
  }
  // Whole numbers of a row of bytes in the array [begin, end); outside the row any of them.
  Packet<T> load_bytes(const std::uint8_t* row, const std::uint8_t* begin, const std::uint8_t* end) const {
    const std::uint8_t* at = row + first;
    return at >= begin && at + S::size <= end ? S::load_bytes(at) : S::load_bytes(at, skipped, count);
  }
};

// The taps along a row of a vector of windows, of which the first begins at column `first` of `size`.
template <class T, int PW, int Stride>
class WindowTaps {
  using S = Simd<T>;

 public:
  WindowTaps() = default;
  WindowTaps(Index first, Index size) : after(first + 2 * S::size), has_after(after >= 0 && after < size) {
    for (int i = 0; i < vectors; ++i) vector[i] = {first + (Stride == 1 ? i : i * S::size), size};
  }
  // Taps outside the row are zeros, or what `outside` says.
  template <class... Outside>
  [[gnu::always_inline]] void load(const T* row, Packet<T>* tap, Outside... outside) const {
    if constexpr (Stride == 1) {
#pragma GCC unroll 3
      for (int kw = 0; kw < PW; ++kw) tap[kw] = vector[kw].load(row, outside...);
    } else {
      S::split_pairs(vector[0].load(row, outside...), vector[1].load(row, outside...), tap[0], tap[1]);
      if constexpr (PW == 3) tap[2] = S::shift_down(tap[0], S::fill(has_after ? row[after] : T(outside...)));
    }
  }

 private:
  static constexpr int vectors = Stride == 1 ? PW : 2;
  ColumnVector<T> vector[vectors];
  Index after;  // the column behind those of the vectors
  bool has_after;
};

// window(oh, lines of the window) for all rows of windows of a plane, where line_of(h) is made of line h of
// the image and `nothing` stands for lines outside of it. Lines that the next row of windows shares are made
// once.
template <class Line, class LineOf, class Window>
[[gnu::always_inline]] inline void slide_windows_down(const PoolShape& s, const Line& nothing,
                                                      const LineOf& line_of, const Window& window) {
  const auto line_at = [&](Index top, Index k) __attribute__((always_inline)) {
    return k < s.PH && top + k >= 0 && top + k < s.H ? line_of(top + k) : nothing;
  };
  const bool by_one = s.PH > 1 && s.stride_h == 1, by_two = s.PH == 3 && s.stride_h == 2;
  Line second = nothing, third = nothing;  // of the row of windows before
  Index top = -s.pad_top;
  for (Index oh = 0; oh < s.OH; ++oh, top += s.stride_h) {
    const bool again = oh > 0;
    const Line first = again && by_one ? second : again && by_two ? third : line_at(top, 0);
    second = again && by_one && s.PH == 3 ? third : line_at(top, 1);
    third = s.PH == 3 ? line_at(top, 2) : nothing;
    window(oh, first, second, third);
  }
}

// The windows that reach a vector of columns of dx from `column` on (Stride == 1), or two that hold pairs of
// columns.
template <class T, int PW, int Stride>
class ReachingWindows {
  using S = Simd<T>;

 public:
  // Vectors of windows: for each tap those which have it at the columns; where windows are 2 apart, those
  // with a tap in both columns of a pair, and those beside.
  static constexpr int vectors = Stride == 1 ? PW : 2;
  struct Columns {
    Packet<T> at[Stride];  // even and odd columns apart
  };

  ReachingWindows(const PoolShape& s, Index column) : odd_pad(s.pad_left % 2 != 0) {
    if constexpr (Stride == 1) {
      for (int kw = 0; kw < PW; ++kw) vector[kw] = {column + s.pad_left - kw, s.OW};
    } else {
      const Index both = column / 2 + s.pad_left / 2;
      vector[0] = {both, s.OW};
      vector[1] = {both + (odd_pad ? 1 : -1), s.OW};
    }
  }

  static Columns all(Packet<T> value) {
    Columns columns;
    for (auto& v : columns.at) v = value;
    return columns;
  }
  // Sums over the windows of each column: first(vector, tap), then next(sum, vector, tap).
  template <class First, class Next>
  [[gnu::always_inline]] Columns gather(const First& first_share, const Next& next) const {
    if constexpr (Stride == 1) {
      Packet<T> sum = first_share(0, 0);
#pragma GCC unroll 2
      for (int kw = 1; kw < PW; ++kw) sum = next(sum, kw, kw);
      return {{sum}};
    } else {
      const Packet<T> one = first_share(0, 1);
      const Packet<T> two = PW == 3   ? next(first_share(0, odd_pad ? 2 : 0), 1, odd_pad ? 0 : 2)
                            : odd_pad ? first_share(1, 0)
                                      : first_share(0, 0);
      return odd_pad ? Columns{{one, two}} : Columns{{two, one}};
    }
  }

  ColumnVector<T> vector[vectors];  // of windows

 private:
  bool odd_pad;
};

template <int Stride, class T>
[[gnu::always_inline]] inline void store_columns(T* row, Index W, Index at, const T* end,
                                                 const Packet<T>* columns) {
  using S = Simd<T>;
  if constexpr (Stride == 1) {
    store_in_rows(row, W, at, end, columns[0]);
  } else {
    Packet<T> low, high;
    S::join_pairs(columns[0], columns[1], low, high);
    store_in_rows(row, W, at, end, low);
    if (at + S::size < W) store_in_rows(row, W, at + S::size, end, high);
  }
}

// Rows of dx of a plane from column `column` on: `start`, and share_of(windows_of(oh), kh) of each row of
// windows oh that has the row of dx as its row kh, through `finish`. `end` is the end of the array.
template <class T, int PW, int Stride, class WindowsOf, class ShareOf, class Finish>
[[gnu::always_inline]] inline void gather_windows_down(const PoolShape& s, Index column, Packet<T> start,
                                                       T* dx, const T* end, const WindowsOf& windows_of,
                                                       const ShareOf& share_of, const Finish& finish) {
  using S = Simd<T>;
  using Windows = ReachingWindows<T, PW, Stride>;
  const auto add = [](auto& sum, const auto& share) __attribute__((always_inline)) {
    for (int i = 0; i < Stride; ++i) sum.at[i] = S::add(sum.at[i], share.at[i]);
  };
  auto first = Windows::all(start), second = first, third = first;  // rows h, h + 1 and h + 2 so far
  Index h = -s.pad_top;
  for (Index oh = 0; h < s.H; ++oh) {
    if (oh < s.OH) {
      const auto windows = windows_of(oh);
      add(first, share_of(windows, 0));
      if (s.PH > 1) add(second, share_of(windows, 1));
      if (s.PH > 2) add(third, share_of(windows, 2));
    }
    for (Index i = 0; i < s.stride_h && h < s.H; ++i, ++h) {
      if (h >= 0) {
        for (int k = 0; k < Stride; ++k) first.at[k] = finish(first.at[k]);
        store_columns<Stride>(dx + h * s.W, s.W, column, end, first.at);
      }
      first = second;
      second = third;
      third = Windows::all(start);
    }
  }
}

// Where the last vector of a row of `size` values begins, if vectors take `step` of them.
inline Index last_vector(Index size, Index step) { return (size - 1) / step * step; }

}  // namespace cnnlib::CNNLIB_ISA
