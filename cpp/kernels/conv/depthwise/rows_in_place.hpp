// The forward pass of a depthwise 3x3 at stride 1 or 2 whose rows of outputs are a vector wide or more: taps
// read the image where it lies, and zeros at its edges, without staging (reads_rows_in_place).
#pragma once

#include "kernels/conv/depthwise/depthwise.hpp"
#include "kernels/conv/depthwise/stencil.hpp"
#include "parallel.hpp"

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
    const Index plane = s.H * s.W, out_plane = s.OH * s.OW, multiplier = s.F / s.C;
    const Index grain = std::max<Index>(1, slice_values / plane);
    const int threads = threads_for(double(s.N * s.F * plane));
    parallel_for(ceil_div(s.N * s.F, grain), threads, [&](Index slice, int) {
      for (Index k = slice * grain; k < std::min(s.N * s.F, (slice + 1) * grain); ++k) {
        const Index f = k % s.F;
        const T bias = o.epilogue.bias != nullptr ? o.epilogue.bias[f] : T(0);
        const auto correlate =
            s.stride_h == 1 ? &DepthwiseRowsInPlace::correlate<1> : &DepthwiseRowsInPlace::correlate<2>;
        (this->*correlate)(o.in + k / multiplier * plane, o.w + 9 * f, bias, o.epilogue.activation, zeros,
                           o.out + k * out_plane);
      }
    });
  }

 private:
  static constexpr Index slice_values = 8192;  // of a task: many times what starting it costs

  template <int stride>
  void correlate(const T* image, const T* w, T bias, Rectifier<T> activation, const T* zeros, T* out) const {
    Packet weight[9];
#pragma GCC unroll 9
    for (int t = 0; t < 9; ++t) weight[t] = S::fill(w[t]);
    const auto start = S::fill(bias);
    const auto row = [&](Index h) { return h >= 0 && h < s.H ? image + h * s.W : zeros; };
    Index oh = 0;
    for (; oh + block_rows <= s.OH; oh += block_rows)
      block<stride, block_rows>(row, oh, weight, start, activation, out + oh * s.OW);
    for (; oh < s.OH; ++oh) block<stride, 1>(row, oh, weight, start, activation, out + oh * s.OW);
  }

  // R rows of outputs from row oh on. The sums' order is that of sum_three_rows.
  template <int stride, int R, class Row>
  void block(const Row& row, Index oh, const Packet (&weight)[9], Packet start, Rectifier<T> activation,
             T* out) const {
    constexpr int height = (R - 1) * stride + 3;
    const T* from[height];
#pragma GCC unroll 16
    for (int h = 0; h < height; ++h) from[h] = row(oh * stride - s.pad_top + h);
    const auto columns = [&](Index j, const auto& taps) __attribute__((always_inline)) {
      Packet sum[R];
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) sum[r] = start;
#pragma GCC unroll 16
      for (int h = 0; h < height; ++h) {
        Packet x[3];
        taps(from[h] + j * stride - s.pad_left, x);
#pragma GCC unroll 3
        for (int k = 0; k < 3; ++k)
#pragma GCC unroll 3
          for (int a = 0; a < 3; ++a)
            if (h >= a && (h - a) % stride == 0 && (h - a) / stride < R)
              sum[(h - a) / stride] = S::fma(weight[3 * a + k], x[k], sum[(h - a) / stride]);
      }
      const Index count = std::min<Index>(lanes, s.OW - j);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) S::store_lanes(out + r * s.OW + j, activation(sum[r]), 0, count);
    };
    const auto edge = [&](Index j) {
      const Index first = j * stride - s.pad_left;
      columns(j, [&](const T* at, Packet(&x)[3]) { taps_at_edge(at, first, x, Stride<stride>()); });
    };
    constexpr Index reach = std::max<Index>((lanes - 1) * stride + 3, lanes * stride + 1);  // columns read
    Index j = 0;
    if (s.pad_left > 0 || reach > s.W) edge(0), j = lanes;
    for (; j * stride - s.pad_left + reach <= s.W; j += lanes)
      columns(j, [](const T* at, Packet(&x)[3]) { taps_inside(at, x, Stride<stride>()); });
    for (; j < s.OW; j += lanes) edge(j);
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
  // The same where `at` is column `first`, and columns outside of the image are zero.
  [[gnu::always_inline]] Packet inside(const T* at, Index first) const {
    const Index before = std::clamp<Index>(-first, 0, lanes),
                end = std::clamp<Index>(s.W - first, before, lanes);
    return S::load_lanes(at, before, end - before);
  }
  [[gnu::always_inline]] void taps_at_edge(const T* at, Index first, Packet (&x)[3], Stride<1>) const {
    if (first < 0) {
      x[1] = S::load(at + 1);
      x[0] = S::shift_up(S::zero(), x[1]);
      x[2] = s.W > lanes ? S::load(at + 2) : S::shift_down(x[1], S::zero());
    } else {
#pragma GCC unroll 3
      for (int k = 0; k < 3; ++k) x[k] = S::load_lanes(at + k, 0, std::min(lanes, s.W - first - k));
    }
  }
  [[gnu::always_inline]] void taps_at_edge(const T* at, Index first, Packet (&x)[3], Stride<2>) const {
    S::split_pairs(inside(at, first), inside(at + lanes, first + lanes), x[0], x[1]);
    x[2] = S::shift_down(x[0], S::fill(first + 2 * lanes < s.W ? at[2 * lanes] : T(0)));
  }

  ConvShape s;
};

}  // namespace cnnlib::CNNLIB_ISA
