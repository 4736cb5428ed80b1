// The gradient of max pooling: dx[h, w] = sum of dout over the windows whose winner it is. dout and arg
// (planes, OH, OW), dx (planes, H, W).
#pragma once

#include <limits>

#include "kernels/pool/max_pool_tiles.hpp"
#include "kernels/pool/pool_rows.hpp"

namespace cnnlib::CNNLIB_ISA {

// A row of dx for windows that are 1 apart, gathered from the rows of windows that reach it.
template <class T, int PW>
void max_pool_backward_row(const T* dout, const std::uint8_t* arg, const PoolShape& s, Index h, T* to,
                           const T* plane_end) {
  using S = Simd<T>;
  const ReachingRows rows(s, h);
  // What windows [at, at + lanes) of a row give to their column kw.
  const auto share = [&](int row, Index at, int kw) {
    const T* grad = dout + rows.oh[row] * s.OW;
    const std::uint8_t *winner = arg + rows.oh[row] * s.OW, tap = std::uint8_t(rows.kh[row] * PW + kw);
    if (at >= 0 && at + S::size <= s.OW)
      return S::select(S::equal_bytes(winner + at, tap), S::load(grad + at), S::zero());
    return S::select(S::equal(load_bytes_within<T>(winner, s.OW, at), S::fill(T(tap))),
                     S::load_within(grad, s.OW, at, T(0)), S::zero());
  };
  for (Index w = 0; w < s.W; w += S::size) {
    auto sum = S::zero();
    for (int row = 0; row < rows.count; ++row)
#pragma GCC unroll 3
      for (int kw = 0; kw < PW; ++kw) sum = S::add(sum, share(row, w + s.pad_left - kw, kw));
    store_in_plane(to, s.W, w, plane_end, sum);
  }
}

template <class T, int PW>
[[gnu::noinline]] void max_pool_backward_stride_1(const T* dout, const std::uint8_t* arg, T* dx,
                                                  const PoolShape& s) {
  for (Index plane = 0; plane < s.planes; ++plane)
    for (Index h = 0; h < s.H; ++h) {
      const Index at = plane * s.OH * s.OW;
      max_pool_backward_row<T, PW>(dout + at, arg + at, s, h, dx + (plane * s.H + h) * s.W,
                                   dx + (plane + 1) * s.H * s.W);
    }
}

// Windows for paired_windows. What a vector of them gives goes to a vector of pairs of columns, and a column
// of theirs to the pairs beside.
template <class T, int PW, int Pad>
class PairedWindows {
  using S = Simd<T>;
  using Packet = typename S::Packet;
  static constexpr Index n = S::size;

 public:
  explicit PairedWindows(const PoolShape& shape)
      : s(shape), last((std::max(ceil_div(s.W, 2), s.OW) - 1) / n * n) {}

  // dx of a plane, whose windows begin at dout and arg; `room` is how many windows there are from here on.
  [[gnu::noinline]] void backward(const T* dout, const std::uint8_t* arg, Index room, T* dx,
                                  T* scratch) const {
    const T* const end = dx + s.H * s.W;
    for (Index i = 0; i < 2 * (last + n); i += n) S::store(scratch + i, S::zero());
    const auto carried = [=](Index j) {
      return Pairs{S::load(scratch + 2 * j), S::load(scratch + 2 * j + n)};
    };
    Index line = -s.pad_top;
    for (Index oh = 0; oh < s.OH; ++oh, line += 2, dout += s.OW, arg += s.OW, room -= s.OW) {
      each_vector(dout, arg, room, [&](Index j, const Windows& here, const Windows& beside) {
        const Pairs pairs = given(here, beside, 0), before = carried(j);
        write(dx, line, j, end, {S::add(before.even, pairs.even), S::add(before.odd, pairs.odd)});
      });
      each_vector(dout, arg, room, [&](Index j, const Windows& here, const Windows& beside) {
        write(dx, line + 1, j, end, given(here, beside, PW));
        if (s.PH == 2) return;
        const Pairs pairs = given(here, beside, 2 * PW);
        S::store(scratch + 2 * j, pairs.even);
        S::store(scratch + 2 * j + n, pairs.odd);
      });
    }
    if (line < s.H) {
      for (Index j = 0; j <= last; j += n) write(dx, line, j, end, carried(j));
      if (line + 1 < s.H) std::fill(dx + (line + 1) * s.W, dx + s.H * s.W, T(0));
    }
  }

 private:
  struct Windows {
    Packet dout, winner;
  };
  struct Pairs {
    Packet even, odd;
  };

  // vector(window, windows from there on, the vector beside that reaches their pairs) along a row.
  template <class Vector>
  void each_vector(const T* dout, const std::uint8_t* arg, Index room, const Vector& vector) const {
    const auto windows = [=](Index j) {
      const Index count = std::clamp<Index>(s.OW - j, 0, n);
      return Windows{count == n ? S::load(dout + j) : S::load_lanes(dout + j, 0, count),
                     j + n <= room ? S::load_bytes(arg + j) : S::load_bytes(arg + j, 0, count)};
    };
    const Windows none{S::zero(), S::zero()};
    Windows before = none, here = windows(0);
    for (Index j = 0; j <= last; j += n) {
      const Windows after = j < last ? windows(j + n) : none;
      vector(j, here, Pad == 0 ? before : after);
      before = here;
      here = after;
    }
  }

  // What goes to the columns of a row whose first tap is `first`.
  static Pairs given(const Windows& here, const Windows& beside, int first) {
    const auto tap = [&](const Windows& w, int kw) {
      return S::select(S::equal(w.winner, S::fill(T(first + kw))), w.dout, S::zero());
    };
    if constexpr (Pad == 1) {
      const auto odd = S::shift_down(tap(here, 0), tap(beside, 0));
      return {tap(here, 1), PW == 3 ? S::add(tap(here, 2), odd) : odd};
    } else {
      const auto even = tap(here, 0);
      return {PW == 3 ? S::add(even, S::shift_up(tap(beside, 2), tap(here, 2))) : even, tap(here, 1)};
    }
  }

  void write(T* dx, Index line, Index j, const T* end, const Pairs& pairs) const {
    if (line < 0 || line >= s.H || 2 * j >= s.W) return;
    Packet low, high;
    S::join_pairs(pairs.even, pairs.odd, low, high);
    T* row = dx + line * s.W;
    store_in_plane(row, s.W, 2 * j, end, low);
    if (2 * j + n < s.W) store_in_plane(row, s.W, 2 * j + n, end, high);
  }

  PoolShape s;
  Index last;  // the first window of the last vector
};

template <class T, int PW, int Pad>
void max_pool_backward_paired(const T* dout, const std::uint8_t* arg, T* dx, const PoolShape& s, T* scratch) {
  const PairedWindows<T, PW, Pad> windows(s);
  for (Index plane = 0; plane < s.planes; ++plane) {
    const Index at = plane * s.OH * s.OW;
    windows.backward(dout + at, arg + at, s.planes * s.OH * s.OW - at, dx + plane * s.H * s.W, scratch);
  }
}

// Where tap k of a window lies, from the window's corner: a table, unless windows are large.
template <class Arg>
class WindowTaps {
  static constexpr bool tabled = sizeof(Arg) == 1;

 public:
  explicit WindowTaps(const PoolShape& s)
      : count(s.PH * s.PW), PW_(s.PW), dilation_h_(s.dilation_h), dilation_w_(s.dilation_w), W_(s.W) {
    if constexpr (tabled)
      for (Index k = 0; k < count; ++k) table_[k] = {compute_line(k), compute_column(k), compute_offset(k)};
  }
  Index line(Index k) const { return tabled ? table_[k].line : compute_line(k); }
  Index column(Index k) const { return tabled ? table_[k].column : compute_column(k); }
  // In a plane with rows of W values.
  Index offset(Index k) const { return tabled ? table_[k].offset : compute_offset(k); }

  const Index count;

 private:
  struct Tap {
    Index line, column, offset;
  };
  Index compute_line(Index k) const { return k / PW_ * dilation_h_; }
  Index compute_column(Index k) const { return k % PW_ * dilation_w_; }
  Index compute_offset(Index k) const { return compute_line(k) * W_ + compute_column(k); }

  Index PW_, dilation_h_, dilation_w_, W_;
  Tap table_[tabled ? std::numeric_limits<Arg>::max() : 1];
};

// dx[winner of each window] += dout, window by window. A winner that lies outside the image adds to nothing.
template <class T, class Arg>
[[gnu::noinline]] void max_pool_scatter(const T* dout, const Arg* arg, T* dx, const PoolShape& s,
                                        const WindowTaps<Arg>& taps) {
  const auto inside = [](Index at, Index size) { return at >= 0 && at < size; };
  const Index window = taps.count, right = taps.column(window - 1) - s.pad_left;
  // Windows [first, last) of a row lie inside the image.
  const Index first = OutputRange(-s.pad_left, s.stride_w, s.W, s.OW).first,
              last = std::max(first, OutputRange(right, s.stride_w, s.W, s.OW).last);
  for (Index plane = 0; plane < s.planes; ++plane) {
    T* image = dx + plane * s.H * s.W;
    std::fill_n(image, s.H * s.W, T(0));
    for (Index oh = 0; oh < s.OH; ++oh) {
      const Index top = oh * s.stride_h - s.pad_top, at = (plane * s.OH + oh) * s.OW;
      const auto checked = [&](Index begin, Index end) {
        for (Index ow = begin; ow < end; ++ow) {
          const auto winner = static_cast<Index>(arg[at + ow]);
          if (winner >= window) continue;
          const Index h = top + taps.line(winner), w = ow * s.stride_w - s.pad_left + taps.column(winner);
          if (inside(h, s.H) && inside(w, s.W)) image[h * s.W + w] += dout[at + ow];
        }
      };
      if (!inside(top, s.H) || !inside(top + taps.line(window - 1), s.H)) {
        checked(0, s.OW);
        continue;
      }
      checked(0, first);
      T* corner = image + top * s.W + first * s.stride_w - s.pad_left;
      for (Index ow = first; ow < last; ++ow, corner += s.stride_w) {
        const auto winner = static_cast<Index>(arg[at + ow]);
        if (winner < window) corner[taps.offset(winner)] += dout[at + ow];
      }
      checked(last, s.OW);
    }
  }
}

// A band of a pool `whole`, which alone decides how: the order in which a position's gradients are added must
// not depend on the band. `scratch` is that of max_pool_band.
template <class T, class Arg>
void max_pool_backward_band(const T* dout, const Arg* arg, T* dx, const PoolShape& s, const PoolShape& whole,
                            const WindowTaps<Arg>& taps, T* scratch) {
  if constexpr (sizeof(Arg) == 1) {
    if (tiled_windows(whole))
      return with_tiles<T>(s, [&](const auto& tiles) { tiles.backward(dout, arg, dx, s.planes); });
    // Measured against the loop over windows: vectors of few lanes win in long rows only, or not at all.
    constexpr Index n = Simd<T>::size, enough_lanes = 8, long_row_vectors = 8, least_lanes_stride_1 = 16;
    if constexpr (Simd<T>::bytes >= least_paired_bytes)
      if (paired_windows(whole) && (n >= enough_lanes || s.W >= long_row_vectors * n))
        return with_paired_window(s, [&](auto width, auto pad) {
          max_pool_backward_paired<T, width(), pad()>(dout, arg, dx, s, scratch);
        });
    if constexpr (n >= least_lanes_stride_1)
      if (small_windows(whole) && s.stride_w == 1)
        return with_window(
            s, [&](auto width, auto) { max_pool_backward_stride_1<T, width()>(dout, arg, dx, s); });
  }
  max_pool_scatter(dout, arg, dx, s, taps);
}

// dx from dout and the taps that forward left in arg.
template <class T, class Arg>
void max_pool_backward(const T* dout, const Arg* arg, T* dx, const PoolShape& s) {
  const PoolBands bands(s, PoolBands::Of::inputs);
  const WindowTaps<Arg> taps(s);
  Layout layout;
  const auto piece = layout.per_thread<T>(bands.threads(), paired_row_values<T>(s));
  const Scratch scratch(layout.bytes());
  bands.each([&](const PoolBand& band, int slot) {
    max_pool_backward_band(dout + band.out, arg + band.out, dx + band.in, band.shape, s, taps,
                           piece.of(scratch.data(), slot));
  });
}

}  // namespace cnnlib::CNNLIB_ISA
