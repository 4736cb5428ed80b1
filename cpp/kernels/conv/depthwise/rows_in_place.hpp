// The forward pass of a depthwise 3x3 at stride 1 or 2 whose rows of outputs are a vector wide or more: taps
// read the image where it lies, and zeros at its edges, without staging (reads_rows_in_place).
#pragma once

#include "kernels/conv/depthwise/depthwise.hpp"
#include "kernels/conv/depthwise/planes.hpp"
#include "kernels/conv/depthwise/stencil.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
class DepthwiseRowsInPlace {
  using S = Simd<T>;
  using Packet = typename S::Packet;
  static constexpr Index lanes = S::size;
  static constexpr int block_rows = 4;  // output rows that share the rows they read

 public:
  explicit DepthwiseRowsInPlace(const ConvShape& shape) : s(shape) {}

  void run(const ConvOperands<T>& o) const {
    Layout layout;
    const auto piece = layout.array<T>(s.W + 2 * lanes);
    const Scratch scratch(layout.bytes());
    T* zeros = piece.in(scratch.data());
    std::fill_n(zeros, s.W + 2 * lanes, T(0));
    const bool whole = s.OW % lanes == 0;
    const auto correlate =
        s.stride_h == 1
            ? (whole ? &DepthwiseRowsInPlace::correlate<1, true> : &DepthwiseRowsInPlace::correlate<1, false>)
            : (whole ? &DepthwiseRowsInPlace::correlate<2, true>
                     : &DepthwiseRowsInPlace::correlate<2, false>);
    each_plane(s, o, [&](int, const T* image, const T* w, T bias, T* out) {
      (this->*correlate)(image, w, bias, o.epilogue.activation, zeros, out);
    });
  }

 private:
  // One plane, whose rows of outputs are a number of whole vectors or not.
  template <int stride, bool whole>
  void correlate(const T* image, const T* w, T bias, Rectifier<T> activation, const T* zeros, T* out) const {
    Packet weight[9];
#pragma GCC unroll 9
    for (int t = 0; t < 9; ++t) weight[t] = S::fill(w[t]);
    const auto start = S::fill(bias);
    const auto row = [&](Index h) { return h >= 0 && h < s.H ? image + h * s.W : zeros; };
    Index oh = 0;
    for (; oh + block_rows <= s.OH; oh += block_rows)
      block<stride, whole, block_rows>(row, oh, weight, start, activation, out + oh * s.OW);
    for (; oh < s.OH; ++oh) block<stride, whole, 1>(row, oh, weight, start, activation, out + oh * s.OW);
  }

  // R rows of outputs from row oh on. The sums' order is that of sum_three_rows.
  template <int stride, bool whole, int R, class Row>
  [[gnu::always_inline]] void block(const Row& row, Index oh, const Packet (&weight)[9], Packet start,
                                    Rectifier<T> activation, T* out) const {
    constexpr int height = (R - 1) * stride + 3;
    const Index W = s.W, OW = s.OW, pad = s.pad_left;
    const T* from[height];
#pragma GCC unroll 16
    for (int h = 0; h < height; ++h) from[h] = row(oh * stride - s.pad_top + h) - pad;
    const auto columns = [&](Index j, auto partial, const auto& taps) __attribute__((always_inline)) {
      Packet sum[R];
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) sum[r] = start;
#pragma GCC unroll 16
      for (int h = 0; h < height; ++h) {
        Packet x[3];
        taps(from[h] + j * stride, x);
#pragma GCC unroll 3
        for (int k = 0; k < 3; ++k)
#pragma GCC unroll 3
          for (int a = 0; a < 3; ++a)
            if (h >= a && (h - a) % stride == 0 && (h - a) / stride < R)
              sum[(h - a) / stride] = S::fma(weight[3 * a + k], x[k], sum[(h - a) / stride]);
      }
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r)
        if (partial)
          S::store_lanes(out + r * OW + j, activation(sum[r]), 0, OW - j);
        else
          S::store(out + r * OW + j, activation(sum[r]));
    };
    constexpr std::true_type yes;
    constexpr std::false_type no;
    // The vector from column j on; the first reads columns before the row, the last columns behind it.
    const auto edge = [&](Index j, auto first, auto last, auto partial) __attribute__((always_inline)) {
      const Index outside = first ? pad : 0, end = W + pad - j * stride;
      columns(j, partial, [&](const T* at, Packet(&x)[3]) {
        edge_taps<first, last, partial>(at, outside, end, x, Stride<stride>());
      });
    };
    constexpr std::bool_constant<!whole> partial;
    const Index last = (OW - 1) / lanes * lanes;
    if (last == 0) return edge(0, yes, yes, partial);
    edge(0, yes, no, no);
    for (Index j = lanes; j < last; j += lanes)
      columns(j, no, [](const T* at, Packet(&x)[3]) { taps_inside(at, x, Stride<stride>()); });
    edge(last, no, yes, partial);
  }

  template <int stride>
  using Stride = std::integral_constant<int, stride>;

  // x[k][i] = at[i * stride + k]
  [[gnu::always_inline]] static void taps_inside(const T* at, Packet (&x)[3], Stride<1>) {
#pragma GCC unroll 3
    for (int k = 0; k < 3; ++k) x[k] = S::load(at + k);
  }
  [[gnu::always_inline]] static void taps_inside(const T* at, Packet (&x)[3], Stride<2>) {
    S::split_pairs(S::load(at), S::load(at + lanes), x[0], x[1]);
    x[2] = S::shift_down(x[0], S::fill(at[2 * lanes]));
  }
  // The same for a row's first vector or its last, `partial` one, with zeros for the `outside` columns before
  // the row and for those from at + end on.
  template <bool first, bool last, bool partial>
  [[gnu::always_inline]] static void edge_taps(const T* at, Index, Index end, Packet (&x)[3], Stride<1>) {
    x[1] = partial ? S::load_lanes(at + 1, 0, end - 1) : S::load(at + 1);
    x[0] = first ? S::shift_up(S::zero(), x[1]) : partial ? S::load_lanes(at, 0, end) : S::load(at);
    x[2] = last ? S::shift_down(x[1], S::zero()) : S::load(at + 2);
  }
  template <bool first, bool last, bool partial>
  [[gnu::always_inline]] static void edge_taps(const T* at, Index outside, Index end, Packet (&x)[3],
                                               Stride<2>) {
    const Index low = last ? std::min(lanes, end) : lanes, high = std::clamp<Index>(end - lanes, 0, lanes);
    S::split_pairs(first || partial ? S::load_lanes(at, outside, low - outside) : S::load(at),
                   last ? S::load_lanes(at + lanes, 0, high) : S::load(at + lanes), x[0], x[1]);
    x[2] = S::shift_down(x[0], S::fill(!last || end > 2 * lanes ? at[2 * lanes] : T(0)));
  }

  ConvShape s;
};

}  // namespace cnnlib::CNNLIB_ISA
