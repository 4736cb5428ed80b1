// Max pooling: out[oh, ow] = max of the window, and arg its tap kh * PW + kw. NaN is greater than every
// number, and of equals the first stays. x (planes, H, W), out and arg (planes, OH, OW).
#pragma once

#include <limits>

#include "kernels/pool/small_windows.hpp"
#include "kernels/pool/tiles.hpp"

namespace cnnlib::CNNLIB_ISA {

// v is greater than best, or v is NaN and best is not.
template <class T>
bool greater_or_nan(T v, T best) {
  return !(v <= best) & (best == best);
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

template <class T, class Arg>
void max_pool_any_windows(const T* x, T* out, Arg* arg, const PoolShape& s) {
  for (Index row = 0; row < s.planes * s.OH; ++row)
    max_pool_taps(x + row / s.OH * s.H * s.W, s, row % s.OH, out + row * s.OW, arg + row * s.OW);
}

// A vector of columns of small windows. Places outside the image count as minus infinity.
template <class T, int PW, int Stride>
class ColumnOfMaxima {
  using S = Simd<T>;
  using Packet = typename S::Packet;
  static constexpr T lowest = -std::numeric_limits<T>::infinity();

 public:
  ColumnOfMaxima(const PoolShape& shape, Index first_window)
      : s(shape), j(first_window), taps(j * Stride - s.pad_left, s.W), no_window(S::fill(lowest)) {
    if (j + S::size <= s.OW) return;
    T lanes[S::size];
    for (Index l = 0; l < S::size; ++l) lanes[l] = j + l < s.OW ? lowest : T(0);
    no_window = S::load(lanes);
  }

  // The outputs of a plane at out and arg, whose arrays end `room` values further on. False if a maximum is
  // minus infinity, which may have been found outside the image.
  bool run(const T* image, T* out, std::uint8_t* arg, Index room) const {
    const Maximum nothing{S::fill(lowest), S::zero()};
    bool sure = true;
    slide_windows_down(
        s, nothing, [&](Index h) __attribute__((always_inline)) { return maximum_of_line(image + h * s.W); },
        [&](Index oh, Maximum best, const Maximum& second, const Maximum& third)
            __attribute__((always_inline)) {
              const Index at = oh * s.OW;
              best = larger(best, second, PW);
              if (s.PH == 3) best = larger(best, third, 2 * PW);
              store_in_rows(out + at, s.OW, j, out + room, best.value);
              if (at + j + S::size <= room)
                S::store_bytes(arg + at + j, best.tap);
              else
                S::store_bytes(arg + at + j, best.tap, std::min<Index>(S::size, s.OW - j));
              sure = sure && !S::any(S::equal(S::max(best.value, no_window), nothing.value));
            });
    return sure;
  }

 private:
  struct Maximum {
    Packet value, tap;
  };

  [[gnu::always_inline]] Maximum maximum_of_line(const T* row) const {
    Packet tap[PW];
    taps.prefetch_next(row);
    taps.load(row, lowest, tap);
    Maximum best{tap[0], S::zero()};
#pragma GCC unroll 2
    for (int kw = 1; kw < PW; ++kw) {
      const auto wins = S::greater_or_nan(tap[kw], best.value);
      best = {S::select(wins, tap[kw], best.value), S::select(wins, S::fill(T(kw)), best.tap)};
    }
    return best;
  }

  [[gnu::always_inline]] static Maximum larger(const Maximum& best, const Maximum& line, int first_tap) {
    const auto wins = S::greater_or_nan(line.value, best.value);
    return {S::select(wins, line.value, best.value),
            S::select(wins, S::add(line.tap, S::fill(T(first_tap))), best.tap)};
  }

  PoolShape s;
  Index j;
  WindowTaps<T, PW, Stride> taps;
  Packet no_window;  // above minus infinity in lanes behind the last window
};

template <class T, int PW, int Stride>
[[gnu::noinline]] void max_pool_small_windows(const T* x, T* out, std::uint8_t* arg, const PoolShape& s) {
  const Index size = s.H * s.W, outputs = s.OH * s.OW;
  bool sure = true;
  for (Index j = last_vector(s.OW, Simd<T>::size); j >= 0; j -= Simd<T>::size) {
    const ColumnOfMaxima<T, PW, Stride> column(s, j);
    for (Index plane = 0; plane < s.planes; ++plane)
      sure &= column.run(x + plane * size, out + plane * outputs, arg + plane * outputs,
                         (s.planes - plane) * outputs);
  }
  if (!sure) max_pool_any_windows(x, out, arg, s);
}

// The maxima of tiles and their taps.
template <class T>
void max_pool_tiles(const T* x, T* out, std::uint8_t* arg, const PoolShape& s) {
  using S = Simd<T>;
  using Packet = typename S::Packet;
  const auto use = [=](const Packet* tap, Index at, Index count) {
    Packet most = tap[0], place = S::zero();
#pragma GCC unroll 3
    for (int k = 1; k < 4; ++k) {
      const auto wins = S::greater_or_nan(tap[k], most);
      most = S::select(wins, tap[k], most);
      place = S::select(wins, S::fill(T(k)), place);
    }
    store_first(out + at, count, most);
    S::store_bytes(arg + at, place, count);
  };
  with_tiles<T>(s, [&](const auto& tiles) { tiles.gather(x, s.planes, use); });
}

template <class T, class Arg>
void max_pool_band(const T* x, T* out, Arg* arg, const PoolShape& s) {
  if constexpr (sizeof(Arg) == 1) {
    if (tiled_windows(s)) return max_pool_tiles(x, out, arg, s);
    if (small_windows(s))
      return with_window(
          s, [&](auto width, auto stride) { max_pool_small_windows<T, width(), stride()>(x, out, arg, s); });
  }
  max_pool_any_windows(x, out, arg, s);
}

// out = max over the window; arg = the winning tap's index kh * PW + kw, or the type's largest number for a
// window that holds padding alone.
template <class T, class Arg>
void max_pool_forward(const T* x, T* out, Arg* arg, const PoolShape& s) {
  PoolBands(s, PoolBands::Of::outputs).each([&](const PoolBand& band, int) {
    const PoolShape own = band.shape;  // a copy that no store of a byte can change
    max_pool_band(x + band.in, out + band.out, arg + band.out, own);
  });
}

}  // namespace cnnlib::CNNLIB_ISA
