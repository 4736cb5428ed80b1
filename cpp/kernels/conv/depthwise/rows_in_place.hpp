// The forward pass of a depthwise 3x3 at stride 1 with a pixel of padding, whose rows are a vector wide or
// more: taps read the image where it lies, and zeros at its edges, without staging.
#pragma once

#include "kernels/conv/depthwise/stencil.hpp"
#include "kernels/conv/method.hpp"
#include "parallel.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
bool reads_rows_in_place(const ConvShape& s) {
  return s.KH == 3 && s.KW == 3 && s.stride_h == 1 && s.stride_w == 1 && s.dilation_h == 1 &&
         s.dilation_w == 1 && s.pad_top == 1 && s.pad_left == 1 && s.OH == s.H && s.OW == s.W &&
         s.W >= Simd<T>::size;
}

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
    const auto piece = layout.array<T>(s.W + lanes);
    const Scratch scratch(layout.bytes());
    T* zeros = piece.in(scratch.data());
    std::fill_n(zeros, s.W + lanes, T(0));
    const Index plane = s.H * s.W, multiplier = s.F / s.C;
    const Index grain = std::max<Index>(1, slice_values / plane);
    const int threads = threads_for(double(s.N * s.F * plane));
    parallel_for(ceil_div(s.N * s.F, grain), threads, [&](Index slice, int) {
      for (Index k = slice * grain; k < std::min(s.N * s.F, (slice + 1) * grain); ++k) {
        const Index f = k % s.F;
        const T bias = o.epilogue.bias != nullptr ? o.epilogue.bias[f] : T(0);
        correlate(o.in + k / multiplier * plane, o.w + 9 * f, bias, o.epilogue.activation, zeros,
                  o.out + k * plane);
      }
    });
  }

 private:
  static constexpr Index slice_values = 8192;  // of a task: many times what starting it costs

  void correlate(const T* image, const T* w, T bias, Rectifier<T> activation, const T* zeros, T* out) const {
    Packet weight[9];
#pragma GCC unroll 9
    for (int t = 0; t < 9; ++t) weight[t] = S::fill(w[t]);
    const auto start = S::fill(bias);
    const auto row = [&](Index h) { return h >= 0 && h < s.H ? image + h * s.W : zeros; };
    Index oh = 0;
    for (; oh + block_rows <= s.H; oh += block_rows)
      block<block_rows>(row, oh, weight, start, activation, out + oh * s.W);
    for (; oh < s.H; ++oh) block<1>(row, oh, weight, start, activation, out + oh * s.W);
  }

  // R rows of outputs from row oh on. The sums' order is that of sum_three_rows.
  template <int R, class Row>
  void block(const Row& row, Index oh, const Packet (&weight)[9], Packet start, Rectifier<T> activation,
             T* out) const {
    const T* from[R + 2];
#pragma GCC unroll 8
    for (int h = 0; h < R + 2; ++h) from[h] = row(oh - 1 + h);
    const auto columns = [&](Index j, const auto& load) {
      Packet sum[R];
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) sum[r] = start;
#pragma GCC unroll 8
      for (int h = 0; h < R + 2; ++h)
#pragma GCC unroll 3
        for (int k = 0; k < 3; ++k) {
          const Packet x = load(from[h] + j, k);
#pragma GCC unroll 3
          for (int a = 0; a < 3; ++a)
            if (h - a >= 0 && h - a < R) sum[h - a] = S::fma(weight[3 * a + k], x, sum[h - a]);
        }
      const Index count = std::min<Index>(lanes, s.W - j);
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r) S::store_lanes(out + r * s.W + j, activation(sum[r]), 0, count);
    };
    columns(0, [&](const T* at, int k) {
      return k == 0                  ? S::load_lanes(at - 1, 1, lanes - 1)
             : k == 1 || s.W > lanes ? S::load(at + k - 1)
                                     : S::load_lanes(at + 1, 0, lanes - 1);
    });
    Index j = lanes;
    for (; j + lanes + 1 <= s.W; j += lanes)
      columns(j, [&](const T* at, int k) { return S::load(at + k - 1); });
    for (; j < s.W; j += lanes)
      columns(j, [&](const T* at, int k) {
        return S::load_lanes(at + k - 1, 0, std::min<Index>(lanes, s.W - j - k + 1));
      });
  }

  ConvShape s;
};

}  // namespace cnnlib::CNNLIB_ISA
