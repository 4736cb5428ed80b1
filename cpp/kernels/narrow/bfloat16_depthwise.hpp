// Depthwise convolution of bfloat16, computed in float32: lanes are channels. Memory bounds it.
#pragma once

#include "kernels/narrow/bfloat16_format.hpp"
#include "kernels/narrow/cuts.hpp"
#include "kernels/narrow/images.hpp"

namespace cnnlib::CNNLIB_ISA {

constexpr Index most_bfloat_taps = 128;  // of a window
inline bool bfloat_depthwise_fits(const BfloatConv& c) {
  const ConvShape& s = c.shape;
  return s.groups == s.C && s.F == s.C && s.C > 1 && s.KH * s.KW <= most_bfloat_taps && !c.epilogue.scores;
}

// Vectors of channels: of each, the floats of its taps one behind the other.
struct BfloatDepthwisePanels {
  using Format = BfloatFormat;
  const BfloatConv& c;
  Index taps, vectors;

  explicit BfloatDepthwisePanels(const BfloatConv& conv)
      : c(conv), taps(c.shape.KH * c.shape.KW), vectors(ceil_div(c.shape.C, BfloatLanes::size)) {}
  Index weights() const { return numbers() * taps * Index{sizeof(float)}; }
  Index numbers() const { return vectors * BfloatLanes::size; }
  Index filter_of(Index vector, Index lane) const {
    const Index channel = vector * BfloatLanes::size + lane;
    return channel < c.shape.C ? channel : -1;
  }
};

inline void pack_bfloat_depthwise(const BfloatConv& c, WeightView w, const FilterNumbers<Bfloat16>& numbers,
                                  void* packed) {
  const BfloatDepthwisePanels p(c);
  begin_packing(numbers, packed, p);
  auto* const to = static_cast<float*>(packed);
  for (Index channel = 0; channel < c.shape.C; ++channel)
    for (Index t = 0; t < p.taps; ++t)
      to[(channel / BfloatLanes::size * p.taps + t) * BfloatLanes::size + channel % BfloatLanes::size] =
          *w.of_channel(channel, t / c.shape.KW, t % c.shape.KW);
}

// Writes where the taps of a window lie behind its first pixel.
inline void find_taps(const BfloatConv& c, Index* offsets) {
  const ConvShape& s = c.shape;
  for (Index t = 0; t < s.KH * s.KW; ++t)
    offsets[t] = t / s.KW * s.dilation_h * c.x.row() + t % s.KW * s.dilation_w * c.x.pixel();
}

// R neighbouring outputs of a vector of channels: sums over the taps in their order.
template <int R>
[[gnu::always_inline]] inline void depthwise_sums(const std::uint8_t* x, Index step, const Index* offsets,
                                                  Index taps, const float* w, BfloatLanes::Sums (&sums)[R]) {
  for (int r = 0; r < R; ++r) sums[r] = BfloatLanes::zero();
  for (Index t = 0; t < taps; ++t) {
    const BfloatLanes::Sums weight = BfloatLanes::load(w + t * BfloatLanes::size);
    const std::uint8_t* const from = x + offsets[t];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r)
      sums[r] = _mm512_fmadd_ps(BfloatLanes::widened(from + r * step), weight, sums[r]);
  }
}

inline void bfloat_depthwise(const BfloatConv& c, const std::uint8_t* x, const std::uint8_t* other,
                             const void* packed, void* y, Index images) {
  constexpr int R = 8;
  const ConvShape& s = c.shape;
  const BfloatDepthwisePanels p(c);
  Index offsets[most_bfloat_taps];
  find_taps(c, offsets);
  const auto* const weights = static_cast<const float*>(packed);
  const FilterNumbers<Bfloat16> numbers = numbers_in(packed, p);
  auto* const out = static_cast<std::uint8_t*>(y);
  if (c.begins_image()) fill_border(c.y, 0, out, images);
  const double work = double(images * s.OH * s.OW) * double(p.numbers() * p.taps) / 8;
  parallel_grid({images, s.OH}, threads_for(work), [&](Index image, Index h, int) {
    const BfloatFinish finish(c.epilogue);
    const std::uint8_t* const window = x + c.window_row(image, h);
    const std::uint8_t* const term = c.epilogue.add ? other + c.other.row_of(image, h) : nullptr;
    std::uint8_t* const row = out + c.y_row(image, h);
    const Index step = s.stride_w * c.x.pixel();
    for (Index v = 0; v < p.vectors; ++v) {
      constexpr Index L = BfloatLanes::size;
      const Index at = 2 * v * L, left = c.y.channels() - v * L;
      const BfloatFinish::NumberVector n(numbers, v * L);
      const float* const w = weights + v * L * p.taps;
      const auto store = [&](BfloatLanes::Sums sums, Index i) {
        std::uint8_t* const to = row + at + i * c.y_step();
        if (term == nullptr)
          finish.store(sums, n, to, left);
        else
          finish.store(sums, n, term + at + i * c.other.pixel(), to, left);
      };
      Index i = 0;
      for (; i + R <= s.OW; i += R) {
        BfloatLanes::Sums sums[R];
        depthwise_sums<R>(window + at + i * step, step, offsets, p.taps, w, sums);
#pragma GCC unroll 8
        for (int r = 0; r < R; ++r) store(sums[r], i + r);
      }
      for (; i < s.OW; ++i) {
        BfloatLanes::Sums sums[1];
        depthwise_sums<1>(window + at + i * step, step, offsets, p.taps, w, sums);
        store(sums[0], i);
      }
    }
  });
}

}  // namespace cnnlib::CNNLIB_ISA
