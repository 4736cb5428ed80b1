// Max pooling: out[oh, ow] = max of the window, and arg its tap kh * PW + kw, or the type's largest number
// for a window that holds padding alone. NaN is greater than every number, and of equals the first stays. x
// (planes, H, W), out and arg (planes, OH, OW). Where `Places` is false nothing is written to arg: only a
// gradient needs it.
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
// A vector of maxima and their taps.
template <class T, bool Places>
struct Maxima {
  using S = Simd<T>;
  typename S::Packet value, tap;

  // Maxima of taps that come later, by `first_tap`.
  [[gnu::always_inline]] void add(const Maxima& next, int first_tap) {
    const auto wins = S::greater_or_nan(next.value, value);
    value = S::select(wins, next.value, value);
    tap = S::select(wins, S::add(next.tap, S::fill(T(first_tap))), tap);
  }
};
template <class T>
struct Maxima<T, false> {
  typename Simd<T>::Packet value;

  [[gnu::always_inline]] void add(const Maxima& next, int) { value = Simd<T>::max_or_nan(value, next.value); }
};

// `n` taps next to each other.
template <int n, bool Places, class T>
[[gnu::always_inline]] inline Maxima<T, Places> maxima_of(const typename Simd<T>::Packet* tap) {
  Maxima<T, Places> best{};
  best.value = tap[0];
#pragma GCC unroll 3
  for (int k = 1; k < n; ++k) {
    Maxima<T, Places> next{};
    next.value = tap[k];
    best.add(next, k);
  }
  return best;
}

// arg = the first tap in the image for the windows [first, last) of row oh whose maximum is minus infinity:
// they hold nothing else.
template <class T, class Arg>
[[gnu::noinline]] void find_first_taps(const PoolShape& s, Index oh, Index first, Index last, const T* out,
                                       Arg* arg) {
  const Index top = oh * s.stride_h - s.pad_top, kh = std::max<Index>(0, ceil_div(-top, s.dilation_h));
  for (Index ow = first; ow < last; ++ow) {
    if (out[ow] != -std::numeric_limits<T>::infinity()) continue;
    const Index left = ow * s.stride_w - s.pad_left, kw = std::max<Index>(0, ceil_div(-left, s.dilation_w));
    const bool inside =
        kh < s.PH && top + kh * s.dilation_h < s.H && kw < s.PW && left + kw * s.dilation_w < s.W;
    arg[ow] = inside ? static_cast<Arg>(kh * s.PW + kw) : std::numeric_limits<Arg>::max();
  }
}

// Rows of windows of any size.
template <class T, class Arg, bool Places>
class AnyMaxima {
  using S = Simd<T>;
  static constexpr T lowest = -std::numeric_limits<T>::infinity();
  static constexpr Index most_taps = 1 << 20;  // that T can count
  static constexpr Index most_line = 4096;     // values of a padded line, beside those of four image rows

 public:
  explicit AnyMaxima(const PoolShape& shape) : s(shape) {
    const Index reach = (s.PW - 1) * s.dilation_w;
    line_size = std::max(s.pad_left + s.W, (round_up(s.OW, S::size) + 1) * s.stride_w + reach) + S::size;
    padded = line_size <= 4 * s.W + most_line;
    if (!padded) line_size = s.W;
    line_piece = layout.array<T>(line_size);
    values = layout.array<T>(round_up(s.OW, S::size));
    taps = layout.array<T>(round_up(s.OW, S::size));
  }

  // A line of a window at a time, or the maxima of all its lines where no place is wanted.
  void run(const T* x, T* out, Arg* arg) const {
    const Scratch scratch(layout.bytes());
    T* const line = line_piece.in(scratch.data());
    fill_vectors(line, line_size, lowest);
    for (Index plane = 0; plane < s.planes; ++plane, x += s.H * s.W)
      for (Index oh = 0; oh < s.OH; ++oh, out += s.OW, arg += Places ? s.OW : 0)
        run_row(x, oh, line + (padded ? s.pad_left : 0), scratch.data(), out, arg);
  }

 private:
  // `line` has the columns of the image, where it is padded between those of the padding.
  void run_row(const T* image, Index oh, T* line, void* scratch, T* out, Arg* arg) const {
    fill_vectors(out, s.OW, lowest);
    bool first = true;
    for (Index kh = 0; kh < s.PH; ++kh) {
      const Index h = oh * s.stride_h - s.pad_top + kh * s.dilation_h;
      if (h < 0 || h >= s.H) continue;
      const bool fresh = Places || first;
      first = false;
      write_vectors(line, s.W, false, [&](Index j, Index count) {
        const auto v = load_first(image + h * s.W + j, count);
        return fresh ? v : S::max_or_nan(load_first<T>(line + j, count), v);
      });
      if constexpr (Places)
        for (Index kw = 0; kw < s.PW; kw += most_taps) take(line, kw, kh * s.PW + kw, scratch, out, arg);
    }
    if constexpr (Places)
      find_first_taps(s, oh, 0, s.OW, out, arg);
    else if (!first)
      take(line, 0, 0, scratch, out, arg);
  }

  // Taps of a line from kw on, of which the first is tap `place` of the windows.
  void take(const T* line, Index kw, Index place, void* scratch, T* out, Arg* arg) const {
    T *value = values.in(scratch), *tap = taps.in(scratch);
    const Index count = std::min(s.PW - kw, Places ? most_taps : s.PW);
    for (Index j = 0; j < s.OW; j += S::size) {
      const Index column = j * s.stride_w - s.pad_left + kw * s.dilation_w;
      Maxima<T, Places> best{}, next{};
      best.value = windows_at(line, column);
      for (Index k = 1; k < count; ++k) {
        next.value = windows_at(line, column + k * s.dilation_w);
        best.add(next, int(k));
      }
      S::store(value + j, best.value);
      if constexpr (Places) S::store(tap + j, best.tap);
    }
    for (Index ow = 0; ow < s.OW; ++ow) {
      const bool wins = greater_or_nan(value[ow], out[ow]);
      out[ow] = wins ? value[ow] : out[ow];
      if constexpr (Places) arg[ow] = wins ? static_cast<Arg>(place + static_cast<Index>(tap[ow])) : arg[ow];
    }
  }
  // The values of neighbouring windows, of the first at a column of the image.
  typename S::Packet windows_at(const T* line, Index column) const {
    if (padded && s.stride_w == 1) return S::load(line + column);
    T lanes[S::size];
    for (Index l = 0; l < S::size; ++l) {
      const Index at = column + l * s.stride_w;
      lanes[l] = padded || (at >= 0 && at < s.W) ? line[at] : lowest;
    }
    return S::load(lanes);
  }

  PoolShape s;
  Layout layout;
  Piece<T> line_piece, values, taps;
  Index line_size;
  bool padded;  // else columns outside of the image are told by their number: strides or padding are long
};

// Small windows of Width vectors of columns at most. Places outside the image count as minus infinity.
template <class T, int PW, int Stride, int Width, bool Places>
class WalkingMaxima {
  using S = Simd<T>;
  using Packet = typename S::Packet;
  using Line = Maxima<T, Places>;
  static constexpr T lowest = -std::numeric_limits<T>::infinity();

 public:
  WalkingMaxima(const PoolShape& shape, Index first_window, Index vectors)
      : s(shape), first(first_window), count(vectors) {
    for (Index v = 0; v < count; ++v) taps[v] = {(first + v * S::size) * Stride - s.pad_left, s.W};
    T lanes[S::size];
    for (Index l = 0; l < S::size; ++l) lanes[l] = first + (count - 1) * S::size + l < s.OW ? lowest : T(0);
    no_window = S::load(lanes);
  }

  // The outputs of a plane at out and arg, whose arrays end `room` values further on.
  [[gnu::always_inline]] void run(const T* image, T* out, std::uint8_t* arg, Index room) const {
    Line nothing{};
    nothing.value = S::fill(lowest);
    slide_windows_down<Width>(
        s, count, nothing,
        [&](Index v, Index h) __attribute__((always_inline)) {
          Packet tap[PW];
          if (Width == 1) taps[v].prefetch_next(image + h * s.W);
          taps[v].load(image + h * s.W, lowest, tap);
          return maxima_of<PW, Places, T>(tap);
        },
        [&](Index v, Index oh, Line best, const Line& second, const Line& third)
            __attribute__((always_inline)) {
              const Index j = first + v * S::size, at = oh * s.OW + j;
              best.add(second, PW);
              if (s.PH == 3) best.add(third, 2 * PW);
              store_in_rows(out + oh * s.OW, s.OW, j, out + room, best.value);
              if constexpr (Places) {
                if (at + S::size <= room)
                  S::store_bytes(arg + at, best.tap);
                else
                  S::store_bytes(arg + at, best.tap, std::min<Index>(S::size, s.OW - j));
                const Packet least = v == count - 1 ? S::max(best.value, no_window) : best.value;
                if (S::any(S::equal(least, nothing.value)))  // perhaps of places outside the image
                  find_first_taps(s, oh, j, std::min(s.OW, j + S::size), out + oh * s.OW, arg + oh * s.OW);
              }
            });
  }

 private:
  PoolShape s;
  Index first, count;
  WindowTaps<T, PW, Stride> taps[Width];
  Packet no_window;  // above minus infinity in lanes behind the last window
};

template <class T, int PW, int Stride, bool Places>
[[gnu::noinline]] void max_pool_small_windows(const T* x, T* out, std::uint8_t* arg, const PoolShape& s) {
  const Index size = s.H * s.W, outputs = s.OH * s.OW;
  each_walk<T, PW, Stride>(s, [&](auto width, Index first, Index count) {
    const WalkingMaxima<T, PW, Stride, width(), Places> walk(s, first, count);
    for (Index plane = 0; plane < s.planes; ++plane)
      walk.run(x + plane * size, out + plane * outputs, Places ? arg + plane * outputs : nullptr,
               (s.planes - plane) * outputs);
  });
}

// The maxima of tiles and their taps.
template <class T, bool Places>
void max_pool_tiles(const T* x, T* out, std::uint8_t* arg, const PoolShape& s) {
  with_tiles<T>(s, [&](const auto& tiles) {
    tiles.gather(x, s.planes, [=](const typename Simd<T>::Packet* tap, Index at, Index count) {
      const auto best = maxima_of<4, Places, T>(tap);
      store_first(out + at, count, best.value);
      if constexpr (Places) Simd<T>::store_bytes(arg + at, best.tap, count);
    });
  });
}

template <class T, class Arg, bool Places>
void max_pool_band(const T* x, T* out, Arg* arg, const PoolShape& s) {
  if constexpr (sizeof(Arg) == 1) {
    if (tiled_windows(s)) return max_pool_tiles<T, Places>(x, out, arg, s);
    if (small_windows(s))
      return with_window(s, [&](auto width, auto stride) {
        max_pool_small_windows<T, width(), stride(), Places>(x, out, arg, s);
      });
  }
  AnyMaxima<T, Arg, Places>(s).run(x, out, arg);
}

template <class T, class Arg, bool Places = true>
void max_pool_forward(const T* x, T* out, Arg* arg, const PoolShape& s) {
  PoolBands(s, PoolBands::Of::outputs).each([&](const PoolBand& band, int) {
    const PoolShape own = band.shape;  // a copy that no store of a byte can change
    max_pool_band<T, Arg, Places>(x + band.in, out + band.out, Places ? arg + band.out : nullptr, own);
  });
}
template <class T>
void max_pool_values(const T* x, T* out, const PoolShape& s) {
  max_pool_forward<T, std::uint8_t, false>(x, out, nullptr, s);
}

}  // namespace cnnlib::CNNLIB_ISA
