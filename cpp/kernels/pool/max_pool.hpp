// Max pooling: out[oh, ow] = max of the window, and arg its tap kh * PW + kw, or the type's largest number
// for a window that holds padding alone. NaN is greater than every number, and of equals the first stays. x
// (planes, H, W), out and arg (planes, OH, OW). Where `Places` is false nothing is written to arg: only a
// gradient needs it.
#pragma once

#include <limits>

#include "kernels/pool_bands.hpp"

namespace cnnlib::CNNLIB_ISA {

// v is greater than best, or v is NaN and best is not.
template <class T>
bool greater_or_nan(T v, T best) {
  return !(v <= best) & (best == best);
}
// A vector of maxima and, with Places, their taps.
template <class T, bool Places>
struct Maxima {
  using S = Simd<T>;
  Packet<T> value, tap;

  // Maxima of taps that come later, by `first_tap`.
  [[gnu::always_inline]] void add(const Maxima& next, int first_tap) {
    if constexpr (Places) {
      const auto wins = S::greater_or_nan(next.value, value);
      value = S::select(wins, next.value, value);
      tap = S::select(wins, S::add(next.tap, S::fill(T(first_tap))), tap);
    } else {
      value = S::max_or_nan(value, next.value);
    }
  }
};

// `n` taps next to each other.
template <int n, bool Places, class T>
[[gnu::always_inline]] inline Maxima<T, Places> maxima_of(const Packet<T>* tap) {
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

// Windows of any size: line by line, the maxima of a vector of windows at a time.
template <class T, class Arg, bool Places>
class AnyMaxima {
  using S = Simd<T>;
  static constexpr T lowest = -std::numeric_limits<T>::infinity();
  static constexpr Index most_taps = 1 << 20;  // that T can count

 public:
  explicit AnyMaxima(const PoolShape& shape) : s(shape) {}

  void run(const T* x, T* out, Arg* arg) const {
    for (Index plane = 0; plane < s.planes; ++plane, x += s.H * s.W)
      for (Index oh = 0; oh < s.OH; ++oh, out += s.OW, arg += Places ? s.OW : 0) {
        fill_vectors(out, s.OW, lowest);
        for (Index kh = 0; kh < s.PH; ++kh) {
          const Index h = oh * s.stride_h - s.pad_top + kh * s.dilation_h;
          if (h < 0 || h >= s.H) continue;
          for (Index kw = 0; kw < s.PW; kw += most_taps) take(x + h * s.W, kh, kw, out, arg);
        }
        if constexpr (Places) find_first_taps(s, oh, 0, s.OW, out, arg);
      }
  }

 private:
  // Line kh of the windows, and taps from kw on.
  void take(const T* line, Index kh, Index kw, T* out, Arg* arg) const {
    const Index count = std::min(s.PW - kw, most_taps);
    for (Index j = 0; j < s.OW; j += S::size) {
      const Index column = j * s.stride_w - s.pad_left + kw * s.dilation_w;
      Maxima<T, Places> best{}, next{};
      best.value = windows_at(line, column);
      for (Index k = 1; k < count; ++k) {
        next.value = windows_at(line, column + k * s.dilation_w);
        best.add(next, int(k));
      }
      T value[S::size], tap[S::size];
      S::store(value, best.value);
      if constexpr (Places) S::store(tap, best.tap);
      for (Index l = 0; l < std::min<Index>(S::size, s.OW - j); ++l) {
        if (!greater_or_nan(value[l], out[j + l])) continue;
        out[j + l] = value[l];
        if constexpr (Places) arg[j + l] = static_cast<Arg>(kh * s.PW + kw + static_cast<Index>(tap[l]));
      }
    }
  }
  // The values of neighbouring windows, of the first at a column of the image.
  Packet<T> windows_at(const T* line, Index column) const {
    if (s.stride_w == 1) return ColumnVector<T>(column, s.W).load(line, lowest);
    T lanes[S::size];
    for (Index l = 0; l < S::size; ++l, column += s.stride_w)
      lanes[l] = column >= 0 && column < s.W ? line[column] : lowest;
    return S::load(lanes);
  }

  PoolShape s;
};

// Small windows, by walks down a vector of columns. Places outside the image count as minus infinity.
template <class T, int PW, int Stride, bool Places>
[[gnu::noinline]] void max_pool_small_windows(const T* x, T* out, std::uint8_t* arg, const PoolShape& s) {
  using S = Simd<T>;
  using Line = Maxima<T, Places>;
  constexpr T lowest = -std::numeric_limits<T>::infinity();
  const Index outputs = s.planes * s.OH * s.OW;
  Line nothing{};
  nothing.value = S::fill(lowest);
  Ahead<false> next_x(x + s.planes * s.H * s.W);
  Ahead<true> next_out(out + outputs), next_arg(arg + (Places ? outputs : 0));
  for (Index j = last_vector(s.OW, S::size); j >= 0; j -= S::size) {
    const WindowTaps<T, PW, Stride> taps(j * Stride - s.pad_left, s.W);
    T lanes[S::size];
    for (Index l = 0; l < S::size; ++l) lanes[l] = j + l < s.OW ? lowest : T(0);
    const Packet<T> no_window = S::load(lanes);  // above minus infinity in lanes behind the last window
    for (Index plane = 0; plane < s.planes; ++plane) {
      const T* image = x + plane * s.H * s.W;
      const auto line_of = [&](Index h) __attribute__((always_inline)) {
        Packet<T> tap[PW];
        next_x.template step<Stride * S::bytes>();
        taps.load(image + h * s.W, tap, lowest);
        return maxima_of<PW, Places, T>(tap);
      };
      slide_windows_down(
          s, nothing, line_of, [&](Index oh, Line best, const Line& second, const Line& third) {
            const Index row = (plane * s.OH + oh) * s.OW;
            next_out.template step<S::bytes>();
            if (Places) next_arg.template step<S::size>();
            best.add(second, PW);
            if (s.PH == 3) best.add(third, 2 * PW);
            store_in_rows(out + row, s.OW, j, out + outputs, best.value);
            if constexpr (Places) {
              const bool whole = row + j + S::size <= outputs;
              S::store_bytes(arg + row + j, best.tap,
                             whole ? Index(S::size) : std::min<Index>(S::size, s.OW - j));
              if (S::any(
                      S::equal(S::max(best.value, no_window), nothing.value)))  // perhaps of no place inside
                find_first_taps(s, oh, j, std::min(s.OW, j + S::size), out + row, arg + row);
            }
          });
    }
  }
}

template <class T, class Arg, bool Places>
void max_pool_bands(const T* x, T* out, Arg* arg, const PoolShape& s) {
  PoolBands(s, PoolBands::Of::outputs).each([&](const PoolBand& band, int) {
    const PoolShape own = band.shape;  // a copy that no store of a byte can change
    Arg* const winners = Places ? arg + band.out : nullptr;
    if constexpr (sizeof(Arg) == 1)
      if (small_windows(s))
        return with_window(s, [&](auto width, auto stride) {
          max_pool_small_windows<T, width(), stride(), Places>(x + band.in, out + band.out, winners, own);
        });
    AnyMaxima<T, Arg, Places>(own).run(x + band.in, out + band.out, winners);
  });
}

// `arg` is of numbers of s.winner_bytes(), or null.
template <class T>
void max_pool_forward(const T* x, T* out, void* arg, const PoolShape& s) {
  if (arg == nullptr)
    max_pool_bands<T, std::uint8_t, false>(x, out, nullptr, s);
  else if (s.winner_bytes() == 1)
    max_pool_bands<T, std::uint8_t, true>(x, out, static_cast<std::uint8_t*>(arg), s);
  else
    max_pool_bands<T, std::uint32_t, true>(x, out, static_cast<std::uint32_t*>(arg), s);
}

}  // namespace cnnlib::CNNLIB_ISA
