// The forward pass of a depthwise 3x3 whose rows of outputs are a half, a quarter, ... of a vector, which
// holds several of them: taps read the image where it lies, and zeros at its edges, without staging
// (reads_short_rows).
//
//   stride 1   a vector of x is as many rows, one after the other; the columns beside them by shifts, without
//              what comes from the row before or after
//   stride 2   a row of x is a vector; the even or odd columns of two rows are one
#pragma once

#include "kernels/conv/depthwise/depthwise.hpp"
#include "kernels/conv/depthwise/planes.hpp"
#include "kernels/simd/packet.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
class DepthwiseShortRows {
  using S = Simd<T>;
  using Packet = typename S::Packet;
  static constexpr Index lanes = S::size;

 public:
  explicit DepthwiseShortRows(const ConvShape& shape)
      : s(shape),
        first(lanes_where([&](Index l) { return l % s.OW == 0; })),
        last(lanes_where([&](Index l) { return l % s.OW == s.OW - 1; })) {}

  void run(const ConvOperands<T>& o) const {
    each_plane(s, o, [&](int, const T* image, const T* w, T bias, T* out) {
      const Channel channel(w, bias, o.epilogue.activation);
      s.stride_h == 1 ? same(channel, image, out) : halved(channel, image, out);
    });
  }

 private:
  // A filter, and what becomes of the sums; their order is that of sum_three_rows.
  struct Channel {
    Packet weight[9], start;
    Rectifier<T> activation;

    Channel(const T* w, T bias, Rectifier<T> last) : start(S::fill(bias)), activation(last) {
#pragma GCC unroll 9
      for (int t = 0; t < 9; ++t) weight[t] = S::fill(w[t]);
    }
  };

  // taps(a, x) for the three columns x of kernel row a.
  template <class Taps>
  [[gnu::always_inline]] static void correlate(const Channel& channel, const Taps& taps, T* out) {
    Packet sum = channel.start;
#pragma GCC unroll 3
    for (int a = 0; a < 3; ++a) {
      Packet x[3];
      taps(a, x);
#pragma GCC unroll 3
      for (int k = 0; k < 3; ++k) sum = S::fma(channel.weight[3 * a + k], x[k], sum);
    }
    S::store(out, channel.activation(sum));
  }

  [[gnu::always_inline]] Packet column_before(Packet v) const {
    return S::select(first, S::zero(), S::shift_up(S::zero(), v));
  }
  [[gnu::always_inline]] Packet column_after(Packet v) const {
    return S::select(last, S::zero(), S::shift_down(v, S::zero()));
  }

  // Stride 1: vectors of x are those of the outputs, a row earlier or later.
  [[gnu::always_inline]] void same(const Channel& channel, const T* image, T* out) const {
    const Index width = s.W, size = s.H * s.W;
    const auto vector = [&](Index i, bool top, bool bottom) __attribute__((always_inline)) {
      const T* from = image + i;
      const auto taps = [&](int a, Packet(&x)[3]) {
        x[1] = a == 0   ? (top ? S::load_lanes(from - width, width, lanes - width) : S::load(from - width))
               : a == 1 ? S::load(from)
                        : (bottom ? S::load_lanes(from + width, 0, lanes - width) : S::load(from + width));
        x[0] = column_before(x[1]);
        x[2] = column_after(x[1]);
      };
      correlate(channel, taps, out + i);
    };
    if (size == lanes) return vector(0, true, true);
    vector(0, true, false);
    for (Index i = lanes; i < size - lanes; i += lanes) vector(i, false, false);
    vector(size - lanes, false, true);
  }

  // Stride 2: a row of x fills a vector, a row of outputs a half.
  [[gnu::always_inline]] void halved(const Channel& channel, const T* image, T* out) const {
    const Index top = s.pad_top, H = s.H;
    const bool padded = s.pad_left == 1;
    const auto row = [&](Index r) { return r >= 0 && r < H ? S::load(image + r * lanes) : S::zero(); };
    for (Index h = -top; h + top < 2 * s.OH; h += 4, out += lanes)
      correlate(
          channel,
          [&](int a, Packet(&x)[3]) {
            Packet even, odd;
            S::split_pairs(row(h + a), row(h + a + 2), even, odd);
            x[0] = padded ? column_before(odd) : even;
            x[1] = padded ? even : odd;
            x[2] = padded ? odd : column_after(even);
          },
          out);
  }

  template <class Where>
  static typename S::Mask lanes_where(const Where& where) {
    T marks[lanes];
    for (Index l = 0; l < lanes; ++l) marks[l] = T(where(l));
    return S::equal(S::load(marks), S::fill(T(1)));
  }

  ConvShape s;
  typename S::Mask first, last;  // lanes in the first and in the last column of a row
};

}  // namespace cnnlib::CNNLIB_ISA
