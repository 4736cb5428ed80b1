// The gradient of max pooling: dx[h, w] = sum of dout over the windows whose winner it is. dout and arg
// (planes, OH, OW), dx (planes, H, W).
#pragma once

#include <algorithm>
#include <iterator>

#include "kernels/pool_bands.hpp"

namespace cnnlib::CNNLIB_ISA {

// A vector of columns of dx for small windows.
template <class T, int PW, int Stride>
class ColumnOfMaxGradients {
  using S = Simd<T>;
  using Windows = ReachingWindows<T, PW, Stride>;

 public:
  ColumnOfMaxGradients(const PoolShape& shape, Index first_column)
      : s(shape), column(first_column), windows(s, column) {}

  // A plane of dx, whose array ends at `end`; that of arg is [first_arg, end_arg).
  void run(const T* dout, const std::uint8_t* arg, const std::uint8_t* first_arg, const std::uint8_t* end_arg,
           T* dx, const T* end, Ahead<false>& next_dout, Ahead<false>& next_arg, Ahead<true>& next_dx) const {
    struct Row {
      Packet<T> dout[Windows::vectors], winner[Windows::vectors];
    };
    gather_windows_down<T, PW, Stride>(
        s, column, S::zero(), dx, end,
        [&](Index oh) {
          Row row;
          next_dout.template step<S::bytes>();
          next_arg.template step<S::size>();
          next_dx.template step<Stride * Stride * S::bytes>();
#pragma GCC unroll 3
          for (int i = 0; i < Windows::vectors; ++i) {
            row.dout[i] = windows.vector[i].load(dout + oh * s.OW);
            row.winner[i] = windows.vector[i].load_bytes(arg + oh * s.OW, first_arg, end_arg);
          }
          return row;
        },
        [&](const Row& row, int kh) {
          const auto share = [&](int i, int kw) {
            return S::select(S::equal(row.winner[i], S::fill(T(kh * PW + kw))), row.dout[i], S::zero());
          };
          return windows.gather(share,
                                [&](Packet<T> sum, int i, int kw) { return S::add(sum, share(i, kw)); });
        },
        [](Packet<T> sum) { return sum; });
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
  Ahead<false> next_dout(dout + s.planes * outputs), next_arg(arg + s.planes * outputs);
  Ahead<true> next_dx(dx + s.planes * size);
  for (Index w = last_vector(s.W, step); w >= 0; w -= step) {
    const ColumnOfMaxGradients<T, PW, Stride> column(s, w);
    for (Index plane = 0; plane < s.planes; ++plane)
      column.run(dout + plane * outputs, arg + plane * outputs, arg, arg + s.planes * outputs,
                 dx + plane * size, dx + s.planes * size, next_dout, next_arg, next_dx);
  }
}

// dx[winner of each window] += dout, window by window. A winner that lies outside the image adds to nothing.
template <class T, class Arg>
[[gnu::noinline]] void max_pool_scatter(const T* dout, const Arg* arg, T* dx, const PoolShape& s) {
  struct Tap {
    Index h, w;  // from the window's first row and column
  };
  const Tap outside{s.H + s.pad_top, 0};  // what is no tap
  constexpr bool few = sizeof(Arg) == 1;  // taps, so that none has to be divided
  Tap taps[few ? 256 : 1];
  if constexpr (few) {
    std::fill(std::begin(taps), std::end(taps), outside);
    Tap* to = taps;
    for (Index kh = 0; kh < s.PH; ++kh)
      for (Index kw = 0; kw < s.PW; ++kw) *to++ = {kh * s.dilation_h, kw * s.dilation_w};
  }
  const auto tap_of = [&](Index winner) -> Tap {
    if constexpr (few) return taps[winner];
    const Index kh = winner / s.PW;
    return kh < s.PH ? Tap{kh * s.dilation_h, (winner - kh * s.PW) * s.dilation_w} : outside;
  };
  const auto rows = static_cast<std::size_t>(s.H), columns = static_cast<std::size_t>(s.W);
  std::fill_n(dx, s.planes * s.H * s.W, T(0));
  for (Index plane = 0; plane < s.planes; ++plane, dx += s.H * s.W)
    for (Index oh = 0, top = -s.pad_top; oh < s.OH; ++oh, top += s.stride_h)
      for (Index ow = 0, left = -s.pad_left; ow < s.OW; ++ow, left += s.stride_w, ++dout, ++arg) {
        const Tap tap = tap_of(*arg);
        const Index h = top + tap.h, w = left + tap.w;
        // A negative number becomes a large one.
        if (static_cast<std::size_t>(h) < rows && static_cast<std::size_t>(w) < columns)
          dx[h * s.W + w] += *dout;
      }
}

// dx from dout and the taps that forward left in arg. The whole pool decides how: the order in which a
// position's gradients are added must not depend on its bands.
template <class T, class Arg>
void max_pool_gradient(const T* dout, const Arg* arg, T* dx, const PoolShape& s) {
  PoolBands(s, PoolBands::Of::inputs).each([&](const PoolBand& band, int) {
    const T* const from = dout + band.out;
    const Arg* const winners = arg + band.out;
    if constexpr (sizeof(Arg) == 1)
      if (small_windows(s))
        return with_window(s, [&](auto width, auto stride) {
          max_pool_backward_small_windows<T, width(), stride()>(from, winners, dx + band.in, band.shape);
        });
    max_pool_scatter(from, winners, dx + band.in, band.shape);
  });
}

template <class T>
void max_pool_backward(const T* dout, const void* arg, T* dx, const PoolShape& s) {
  if (s.winner_bytes() == 1)
    max_pool_gradient(dout, static_cast<const std::uint8_t*>(arg), dx, s);
  else
    max_pool_gradient(dout, static_cast<const std::uint32_t*>(arg), dx, s);
}

}  // namespace cnnlib::CNNLIB_ISA
