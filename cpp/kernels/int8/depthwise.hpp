// Depthwise convolution of bytes: lanes are channels; four taps of the window make one dot product.
#pragma once

#include "kernels/int8/conv.hpp"

namespace cnnlib::CNNLIB_ISA {

inline Index depthwise_vectors(const ByteConv& c) { return ceil_div(c.shape.C, Lanes::size); }
inline Index depthwise_steps(const ByteConv& c) { return ceil_div(c.shape.KH * c.shape.KW, 4); }

inline Index depthwise_packed_bytes(const ByteConv& c) {
  return depthwise_vectors(c) * (depthwise_steps(c) * Lanes::weight_bytes + 12 * Lanes::size);
}

// w (C, 1, KH, KW). Behind the taps stand zeros.
inline void pack_depthwise(const ByteConv& c, const std::int8_t* w, const FilterNumbers& numbers,
                           void* packed) {
  const Index taps = c.shape.KH * c.shape.KW, vectors = depthwise_vectors(c), steps = depthwise_steps(c);
  std::memset(packed, 0, std::size_t(depthwise_packed_bytes(c)));
  auto* to = static_cast<std::uint8_t*>(packed);
  for (Index v = 0; v < vectors; ++v)
    for (Index g = 0; g < steps; ++g, to += Lanes::weight_bytes) {
      std::int8_t four[4 * Lanes::size] = {};
      for (Index i = 0; i < Lanes::size && v * Lanes::size + i < c.shape.C; ++i)
        for (Index k = 0; k < 4 && 4 * g + k < taps; ++k)
          four[4 * i + k] = w[(v * Lanes::size + i) * taps + 4 * g + k];
      Lanes::pack_weights(four, to);
    }
  pack_numbers(numbers, 0, c.shape.C, 0, vectors * Lanes::size, to);
}

// A row of outputs of a vector of channels. x is the first window's place, offsets[t] those of its taps.
// G: groups of four taps, 0 for any number.
template <int G>
inline void depthwise_row(const ByteConv& c, const std::uint8_t* x, const std::uint8_t* other,
                          std::uint8_t* y, const std::uint8_t* w, const Index* offsets,
                          const FilterNumbers& n, Index channel, const Epilogue& epilogue) {
  const Index step = c.shape.stride_w * c.x.channels(), count = c.y.channels() - channel;
  const Index groups = G > 0 ? G : depthwise_steps(c);
  for (Index i = 0; i < c.shape.OW; ++i, x += step) {
    Lanes::Sums sums = Lanes::zero();
#pragma GCC unroll 3
    for (Index g = 0; g < groups; ++g) {
      const Index* o = offsets + 4 * g;
      sums = Lanes::dot(sums, Lanes::interleave(x + o[0], x + o[1], x + o[2], x + o[3]),
                        Lanes::load_weights(w + g * Lanes::weight_bytes));
    }
    epilogue.store(sums, n, channel, other + i * c.other.channels(), y + i * c.y.channels(), count);
  }
}

inline void depthwise(const ByteConv& c, const std::uint8_t* x, const std::uint8_t* other, const void* packed,
                      void* y, Index images) {
  constexpr Index most_taps = 128;
  const ConvShape& s = c.shape;
  const Index taps = s.KH * s.KW, vectors = depthwise_vectors(c), steps = depthwise_steps(c);
  Index offsets[most_taps + 3];
  for (Index t = 0; t < 4 * steps; ++t) {
    const Index tap = std::min(t, taps - 1);
    offsets[t] = tap / s.KW * s.dilation_h * c.x.row() + tap % s.KW * s.dilation_w * c.x.channels();
  }
  const auto* weights = static_cast<const std::uint8_t*>(packed);
  const FilterNumbers numbers =
      numbers_at(weights + vectors * steps * Lanes::weight_bytes, vectors * Lanes::size);
  auto* out = static_cast<std::uint8_t*>(y);
  fill_border(c.y, c.epilogue.zero, out, images);
  const auto row = steps == 3 ? depthwise_row<3> : depthwise_row<0>;
  const double work = double(images * s.OH * s.OW) * double(vectors * Lanes::size * steps);
  parallel_for(images * s.OH, threads_for(work), [&](Index task, int) {
    const Epilogue epilogue(c.epilogue);
    const Positions at(c, task * s.OW);
    for (Index v = 0; v < vectors; ++v) {
      const Index channel = v * Lanes::size;
      row(c, x + at.x() + channel, (c.epilogue.adds ? other + at.other() : x + at.x()) + channel,
          out + at.y() + channel, weights + v * steps * Lanes::weight_bytes, offsets, numbers, channel,
          epilogue);
    }
  });
}

}  // namespace cnnlib::CNNLIB_ISA
