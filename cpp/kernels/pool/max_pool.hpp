// Max pooling: out[oh, ow] = max of the window, and arg its tap kh * PW + kw, or the type's largest number
// for a window that holds padding alone. NaN is greater than every number, and of equals the first stays. x
// (planes, H, W), out and arg (planes, OH, OW). Where `Places` is false nothing is written to arg: only a
// gradient needs it.
#pragma once

#include "kernels/pool/window_maxima.hpp"
#include "kernels/pool_bands.hpp"

namespace cnnlib::CNNLIB_ISA {

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

// Small windows, by walks down a vector of columns. Places outside the image count as minus infinity.
template <class T, int PW, int Stride, bool Places>
[[gnu::noinline]] void max_pool_small_windows(const T* x, T* out, std::uint8_t* arg, const PoolShape& shape) {
  const PoolShape s = shape;  // a copy that no store of a byte can change
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
        Line best{tap[0], S::zero()};
#pragma GCC unroll 3
        for (int k = 1; k < PW; ++k) best.add({tap[k], S::zero()}, S::fill(T(k)));
        return best;
      };
      slide_windows_down(
          s, nothing, line_of, [&](Index oh, Line best, const Line& second, const Line& third) {
            const Index row = (plane * s.OH + oh) * s.OW;
            next_out.template step<S::bytes>();
            if (Places) next_arg.template step<S::size>();
            best.add(second, S::fill(T(PW)));
            if (s.PH == 3) best.add(third, S::fill(T(2 * PW)));
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

// Windows of any size.
template <class T, class Arg>
void max_pool_any_windows(const T* x, T* out, Arg* arg, const PoolShape& s) {
  using S = Simd<T>;
  const auto lowest = S::fill(-std::numeric_limits<T>::infinity());
  const MaximaAxis rows{s.H, s.OH, s.PH, s.PH, s.dilation_h, s.stride_h, 1, s.pad_top},
      columns{s.W, s.OW, s.PW, s.PW, s.dilation_w, s.stride_w, 1, s.pad_left};
  WindowMaxima<T>(x, rows, columns)
      .each(s.planes, out, [=](Index row, Index ow, Index count, const Maxima<T, true>& best, Index first) {
        if (arg == nullptr) return;
        Arg* const winners = arg + row * s.OW;
        if constexpr (sizeof(Arg) == 1) {
          S::store_bytes(winners + ow, S::add(best.tap, S::fill(T(first))), count);
        } else {
          T tap[S::size];
          S::store(tap, best.tap);
          for (Index l = 0; l < count; ++l) winners[ow + l] = static_cast<Arg>(first + Index(tap[l]));
        }
        if (s.pad_top + s.pad_left > 0 && S::any(S::equal(best.value, lowest)))
          find_first_taps(s, row % s.OH, ow, ow + count, out + row * s.OW, winners);
      });
}

// `arg` is of numbers of s.winner_bytes(), or null.
template <class T>
void max_pool_forward(const T* x, T* out, void* arg, const PoolShape& s) {
  auto* const bytes = static_cast<std::uint8_t*>(arg);
  if (small_windows(s))
    each_small_window(s, PoolBands::Of::outputs, [&](const PoolBand& band, auto width, auto stride) {
      const auto run = [&](auto places) {
        max_pool_small_windows<T, width(), stride(), places()>(
            x + band.in, out + band.out, places ? bytes + band.out : nullptr, band.shape);
      };
      arg == nullptr ? run(std::false_type()) : run(std::true_type());
    });
  else if (s.winner_bytes() == 1)
    max_pool_any_windows(x, out, bytes, s);
  else
    max_pool_any_windows(x, out, static_cast<std::uint32_t*>(arg), s);
}

}  // namespace cnnlib::CNNLIB_ISA
