// The gradient of max pooling: dx[h, w] = sum of dout over the windows whose winner it is. dout and arg
// (planes, OH, OW), dx (planes, H, W).
#pragma once

#include <limits>

#include "kernels/pool/small_windows.hpp"
#include "kernels/pool/tiles.hpp"

namespace cnnlib::CNNLIB_ISA {

// A vector of columns of dx for small windows.
template <class T, int PW, int Stride>
class ColumnOfMaxGradients {
  using S = Simd<T>;
  using Packet = typename S::Packet;
  using Windows = ReachingWindows<T, PW, Stride>;

 public:
  ColumnOfMaxGradients(const PoolShape& shape, Index first_column)
      : s(shape), column(first_column), windows(s, column) {}

  // A plane of dx, whose array ends at `end`; that of arg is [first_arg, end_arg).
  void run(const T* dout, const std::uint8_t* arg, const std::uint8_t* first_arg, const std::uint8_t* end_arg,
           T* dx, const T* end) const {
    struct Row {
      Packet dout[Windows::vectors], winner[Windows::vectors];
    };
    gather_windows_down<T, PW, Stride>(
        s, column, S::zero(), dx, end,
        [&](Index oh) {
          Row row;
          windows.vector[0].prefetch_next(dout + oh * s.OW, 1);
          windows.vector[0].prefetch_next(arg + oh * s.OW, 1);
#pragma GCC unroll 3
          for (int i = 0; i < Windows::vectors; ++i) {
            row.dout[i] = windows.vector[i].load(dout + oh * s.OW, T(0));
            row.winner[i] = windows.vector[i].load_bytes(arg + oh * s.OW, first_arg, end_arg);
          }
          return row;
        },
        [&](const Row& row, int kh) {
          const auto share = [&](int i, int kw) {
            return S::select(S::equal(row.winner[i], S::fill(T(kh * PW + kw))), row.dout[i], S::zero());
          };
          return windows.gather(share, [&](Packet sum, int i, int kw) { return S::add(sum, share(i, kw)); });
        },
        [](Packet sum) { return sum; });
  }

 private:
  PoolShape s;
  Index column;
  Windows windows;
};

template <class T, int PW, int Stride>
[[gnu::noinline]] void max_pool_backward_small_windows(const T* dout, const std::uint8_t* arg, T* dx,
                                                       const PoolShape& s) {
  constexpr Index step = Stride * Simd<T>::size;
  const Index size = s.H * s.W, outputs = s.OH * s.OW;
  for (Index w = last_vector(s.W, step); w >= 0; w -= step) {
    const ColumnOfMaxGradients<T, PW, Stride> column(s, w);
    for (Index plane = 0; plane < s.planes; ++plane)
      column.run(dout + plane * outputs, arg + plane * outputs, arg, arg + s.planes * outputs,
                 dx + plane * size, dx + s.planes * size);
  }
}

template <class T>
void max_pool_backward_tiles(const T* dout, const std::uint8_t* arg, T* dx, const PoolShape& s) {
  using S = Simd<T>;
  const auto taps_of = [=](Index at, Index count, Index room, typename S::Packet* tap) {
    const auto grad = load_first(dout + at, count), place = S::load_bytes(arg + at, 0, room);
#pragma GCC unroll 4
    for (int k = 0; k < 4; ++k) tap[k] = S::select(S::equal(place, S::fill(T(k))), grad, S::zero());
  };
  with_tiles<T>(s, [&](const auto& tiles) { tiles.spread(dx, s.planes, taps_of); });
}

// Where tap k of a window lies, from the window's corner: a table, unless windows are large.
template <class Arg>
class TapOffsets {
  static constexpr bool tabled = sizeof(Arg) == 1;

 public:
  explicit TapOffsets(const PoolShape& s)
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
                                        const TapOffsets<Arg>& taps) {
  const auto inside = [](Index at, Index size) { return at >= 0 && at < size; };
  // Windows [first, last) of a row lie inside the image.
  const Index window = taps.count, room = s.W - 1 - (taps.column(window - 1) - s.pad_left);
  const Index first = std::min(s.OW, ceil_div(s.pad_left, s.stride_w)),
              last = std::clamp(room < 0 ? 0 : room / s.stride_w + 1, first, s.OW);
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
// not depend on the band.
template <class T, class Arg>
void max_pool_backward_band(const T* dout, const Arg* arg, T* dx, const PoolShape& s, const PoolShape& whole,
                            const TapOffsets<Arg>& taps) {
  if constexpr (sizeof(Arg) == 1) {
    if (tiled_windows(whole)) return max_pool_backward_tiles(dout, arg, dx, s);
    // Measured against the loop over windows: nine comparisons for each vector take long vectors to pay.
    constexpr Index enough_lanes = 8, enough_bytes_for_nine = 64;
    if constexpr (Simd<T>::size >= enough_lanes)
      if (small_windows(whole) && (Simd<T>::bytes >= enough_bytes_for_nine || s.PW == 2 || s.stride_w == 2))
        return with_window(s, [&](auto width, auto stride) {
          max_pool_backward_small_windows<T, width(), stride()>(dout, arg, dx, s);
        });
  }
  max_pool_scatter(dout, arg, dx, s, taps);
}

// dx from dout and the taps that forward left in arg.
template <class T, class Arg>
void max_pool_backward(const T* dout, const Arg* arg, T* dx, const PoolShape& s) {
  const PoolBands bands(s, PoolBands::Of::inputs);
  const TapOffsets<Arg> taps(s);
  bands.each([&](const PoolBand& band, int) {
    max_pool_backward_band(dout + band.out, arg + band.out, dx + band.in, band.shape, s, taps);
  });
}

}  // namespace cnnlib::CNNLIB_ISA
