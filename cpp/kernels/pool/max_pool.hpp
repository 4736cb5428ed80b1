// Max pooling: out[oh, ow] = max of the window, and arg its tap kh * PW + kw. NaN is greater than every
// number, and of equals the first stays. x (planes, H, W), out and arg (planes, OH, OW).
#pragma once

#include <limits>

#include "kernels/pool/max_pool_tiles.hpp"
#include "kernels/pool/pool_rows.hpp"

namespace cnnlib::CNNLIB_ISA {

// Row oh of outputs for windows whose width and stride are known; places outside the image count as minus
// infinity. False if some maximum is minus infinity, which may have been found there.
template <class T, int PW, int Stride>
bool max_pool_row(const T* image, const PoolShape& s, Index oh, T* out, const T* plane_end,
                  std::uint8_t* arg) {
  using S = Simd<T>;
  constexpr T lowest = -std::numeric_limits<T>::infinity();
  const Index top = oh * s.stride_h - s.pad_top, begin = std::max<Index>(top, 0),
              end = std::min(top + s.PH, s.H);
  const auto least = S::fill(lowest);
  bool sure = true;
  for (Index ow = 0; ow < s.OW; ow += S::size) {
    typename S::Packet most = least, place = S::zero();
    auto first = S::fill(T((begin - top) * PW));
    for (Index h = begin; h < end; ++h) {
      typename S::Packet tap[PW];
      load_taps_within<T, PW, Stride>(image + h * s.W, s.W, ow * Stride - s.pad_left, lowest, tap);
      auto best = tap[0], column = first;  // of this row
#pragma GCC unroll 2
      for (int kw = 1; kw < PW; ++kw) {
        const auto wins = S::greater_or_nan(tap[kw], best);
        best = S::select(wins, tap[kw], best);
        column = S::select(wins, S::add(first, S::fill(T(kw))), column);
      }
      first = S::add(first, S::fill(T(PW)));
      const auto wins = S::greater_or_nan(best, most);
      most = S::select(wins, best, most);
      place = S::select(wins, column, place);
    }
    store_in_plane(out, s.OW, ow, plane_end, most);
    S::store_bytes(arg + ow, place, std::min<Index>(S::size, s.OW - ow));
    const auto unsure = S::equal(most, least);
    if (ow + S::size <= s.OW)
      sure = sure && !S::any(unsure);
    else
      for (Index i = ow; i < s.OW; ++i) sure = sure && out[i] > lowest;
  }
  return sure;
}

// Row oh of outputs for any window, a pass for each tap.
template <class T, class Arg>
void max_pool_taps(const T* image, const PoolShape& s, Index oh, T* best, Arg* winner) {
  constexpr Arg none = std::numeric_limits<Arg>::max();
  std::fill_n(best, s.OW, -std::numeric_limits<T>::infinity());
  std::fill_n(winner, s.OW, none);
  for (Index kh = 0; kh < s.PH; ++kh) {
    const Index line = oh * s.stride_h + kh * s.dilation_h - s.pad_top;
    if (line < 0 || line >= s.H) continue;
    for (Index kw = 0; kw < s.PW; ++kw) {
      const Index offset = kw * s.dilation_w - s.pad_left;
      const OutputRange range(offset, s.stride_w, s.W, s.OW);
      const Arg tap = static_cast<Arg>(kh * s.PW + kw);
      const T* row = image + line * s.W + offset;
      for (Index ow = range.first; ow < range.last; ++ow) {
        const T v = row[ow * s.stride_w], old = best[ow];
        const bool wins = (winner[ow] == none) | greater_or_nan(v, old);
        best[ow] = wins ? v : old;
        winner[ow] = wins ? tap : winner[ow];
      }
    }
  }
}

template <class T, int PW, int Stride>
[[gnu::noinline]] void max_pool_small_windows(const T* x, T* out, std::uint8_t* arg, const PoolShape& s) {
  for (Index plane = 0; plane < s.planes; ++plane) {
    const T* image = x + plane * s.H * s.W;
    const T* end = out + (plane + 1) * s.OH * s.OW;
    for (Index oh = 0; oh < s.OH; ++oh) {
      const Index at = (plane * s.OH + oh) * s.OW;
      if (!max_pool_row<T, PW, Stride>(image, s, oh, out + at, end, arg + at))
        max_pool_taps(image, s, oh, out + at, arg + at);
    }
  }
}

// Windows for paired_windows. A vector of them takes from a vector of pairs of columns, and a column from the
// pairs beside:
//
//   pairs of columns (even odd)   [0 1] [2 3] [4 5] ..
//   window 1, 3 wide, Pad == 0           2 3   4          even, odd, and the next pair's even
//   window 1, 3 wide, Pad == 1       1   2 3              the odd of the pair before, even, odd
template <class T, int PW, int Pad>
class PairedMaxima {
  using S = Simd<T>;
  using Packet = typename S::Packet;
  static constexpr Index n = S::size;
  static constexpr T least = -std::numeric_limits<T>::infinity();
  // Of rows that are so long the processor's own prefetcher does not follow two or three at a time.
  static constexpr Index long_row_bytes = 400;

 public:
  explicit PairedMaxima(const PoolShape& shape)
      : s(shape), last((s.OW - 1) / n * n), prefetches(s.W * Index(sizeof(T)) >= long_row_bytes) {
    T lanes[n];
    for (Index i = 0; i < n; ++i) lanes[i] = last + i < s.OW ? least : T(0);
    beyond = S::load(lanes);
  }

  // The outputs of a plane of windows at out and arg.
  [[gnu::noinline]] void forward(const T* x, T* out, std::uint8_t* arg, T* scratch) const {
    if (s.PH == 3)
      for (Index j = 0; j <= last; j += n) keep(scratch, j, maxima(x, -s.pad_top, j));
    for (Index oh = 0; oh < s.OH; ++oh)
      if (!forward_row(x, oh, out, arg, scratch)) max_pool_taps(x, s, oh, out + oh * s.OW, arg + oh * s.OW);
  }

 private:
  struct Maxima {
    Packet most, place;
  };

  // Windows 3 high begin with the maxima of the line in scratch, and leave those of their last line there.
  // False as for max_pool_row.
  bool forward_row(const T* x, Index oh, T* out, std::uint8_t* arg, T* scratch) const {
    const Index line = 2 * oh - s.pad_top, at = oh * s.OW;
    const int first = s.PH == 3 ? 1 : 0;
    bool sure = true;
    for (Index j = 0; j <= last; j += n) {
      Maxima best = s.PH == 3 ? kept(scratch, j) : nothing(), below = nothing();
      for (int kh = first; kh < s.PH; ++kh) {
        const Index next = line + kh + 2;
        if (prefetches && next < s.H) prefetch(x + next * s.W + 2 * j, std::min(2 * n, s.W - 2 * j));
        below = maxima(x, line + kh, j);
        const auto wins = S::greater_or_nan(below.most, best.most);
        best.most = S::select(wins, below.most, best.most);
        best.place = S::select(wins, S::add(below.place, S::fill(T(kh * PW))), best.place);
      }
      if (s.PH == 3) keep(scratch, j, below);
      store_in_plane(out + at, s.OW, j, out + s.OH * s.OW, best.most);
      const bool room = at + j + n <= s.OH * s.OW;
      room ? S::store_bytes(arg + at + j, best.place)
           : S::store_bytes(arg + at + j, best.place, std::min(n, s.OW - j));
      const auto known = j == last ? S::max(best.most, beyond) : best.most;
      sure = sure && !S::any(S::equal(known, S::fill(least)));
    }
    return sure;
  }

  // Of the windows from j on, the maxima in one line and their columns.
  Maxima maxima(const T* x, Index line, Index j) const {
    if (!inside(line)) return nothing();
    const T* row = x + line * s.W;
    Packet even, odd;
    S::split_pairs(columns(row, 2 * j), columns(row, 2 * j + n), even, odd);
    const Index column = Pad == 0 ? 2 * (j + n) : 2 * j - 1;  // beside those
    const Packet beside = S::fill(column >= 0 && column < s.W ? row[column] : least);
    const Packet tap[3] = {Pad == 0 ? even : S::shift_up(beside, odd), Pad == 0 ? odd : even,
                           Pad == 0 ? S::shift_down(even, beside) : odd};
    Maxima best{tap[0], S::zero()};
#pragma GCC unroll 2
    for (int kw = 1; kw < PW; ++kw) {
      const auto wins = S::greater_or_nan(tap[kw], best.most);
      best = {S::select(wins, tap[kw], best.most), S::select(wins, S::fill(T(kw)), best.place)};
    }
    return best;
  }

  Packet columns(const T* row, Index at) const {
    return at + n <= s.W ? S::load(row + at)
                         : S::load_lanes(row + at, 0, std::clamp<Index>(s.W - at, 0, n), least);
  }

  static Maxima nothing() { return {S::fill(least), S::zero()}; }
  static Maxima kept(const T* scratch, Index j) {
    return {S::load(scratch + 2 * j), S::load(scratch + 2 * j + n)};
  }
  static void keep(T* scratch, Index j, const Maxima& maxima) {
    S::store(scratch + 2 * j, maxima.most);
    S::store(scratch + 2 * j + n, maxima.place);
  }
  bool inside(Index line) const { return line >= 0 && line < s.H; }

  PoolShape s;
  Index last;       // the first window of the last vector
  bool prefetches;  // the rows of the next windows
  Packet beyond;    // above minus infinity in those of its lanes that are no windows
};

template <class T, int PW, int Pad>
void max_pool_forward_paired(const T* x, T* out, std::uint8_t* arg, const PoolShape& s, T* scratch) {
  const PairedMaxima<T, PW, Pad> windows(s);
  for (Index plane = 0; plane < s.planes; ++plane) {
    const Index at = plane * s.OH * s.OW;
    windows.forward(x + plane * s.H * s.W, out + at, arg + at, scratch);
  }
}

// Any pool; `scratch` has room for paired_row_values(s).
template <class T, class Arg>
void max_pool_band(const T* x, T* out, Arg* arg, const PoolShape& s, T* scratch) {
  if constexpr (sizeof(Arg) == 1) {
    if (tiled_windows(s))
      return with_tiles<T>(s, [&](const auto& tiles) { tiles.forward(x, out, arg, s.planes); });
    if constexpr (Simd<T>::bytes >= least_paired_bytes)
      if (paired_windows(s))
        return with_paired_window(s, [&](auto width, auto pad) {
          max_pool_forward_paired<T, width(), pad()>(x, out, arg, s, scratch);
        });
    if (small_windows(s))
      return with_window(
          s, [&](auto width, auto stride) { max_pool_small_windows<T, width(), stride()>(x, out, arg, s); });
  }
  for (Index row = 0; row < s.planes * s.OH; ++row)
    max_pool_taps(x + row / s.OH * s.H * s.W, s, row % s.OH, out + row * s.OW, arg + row * s.OW);
}

// out = max over the window; arg = the winning tap's index kh * PW + kw, or the type's largest number for a
// window that holds padding alone.
template <class T, class Arg>
void max_pool_forward(const T* x, T* out, Arg* arg, const PoolShape& s) {
  const PoolBands bands(s, PoolBands::Of::outputs);
  Layout layout;
  const auto piece = layout.per_thread<T>(bands.threads(), paired_row_values<T>(s));
  const Scratch scratch(layout.bytes());
  bands.each([&](const PoolBand& band, int slot) {
    const PoolShape own = band.shape;  // a copy that no store of a byte can change
    max_pool_band(x + band.in, out + band.out, arg + band.out, own, piece.of(scratch.data(), slot));
  });
}

}  // namespace cnnlib::CNNLIB_ISA
