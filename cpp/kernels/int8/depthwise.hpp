// Depthwise convolution of bytes: lanes are channels, four vectors of which are a block. Four taps make one
// dot product: of a column of the window for 3x3, any four otherwise.
#pragma once

#include "kernels/int8/conv.hpp"

namespace cnnlib::CNNLIB_ISA {

// How the taps are grouped: by columns, each of which serves the windows of two rows and three positions.
inline bool by_columns(const ByteConv& c) {
  return c.shape.KH == 3 && c.shape.KW == 3 && c.shape.dilation_h == 1 && c.shape.dilation_w == 1 &&
         c.shape.stride_w <= 2;
}

constexpr Index block_vectors = 4, block_channels = block_vectors * Lanes::size;

inline Index depthwise_vectors(const ByteConv& c) {
  return ceil_div(c.shape.C, block_channels) * block_vectors;
}
inline Index depthwise_steps(const ByteConv& c) {
  return by_columns(c) ? 6 : ceil_div(c.shape.KH * c.shape.KW, 4);
}

inline Index depthwise_packed_bytes(const ByteConv& c) {
  return depthwise_vectors(c) * (depthwise_steps(c) * Lanes::weight_bytes + 12 * Lanes::size);
}

// The tap that is number k of the four of a step, or -1. By columns: those of the upper row of outputs, with
// nothing below, then those of the lower row, with nothing above.
inline Index tap_of(const ByteConv& c, Index step, Index k) {
  if (!by_columns(c)) return 4 * step + k < c.shape.KH * c.shape.KW ? 4 * step + k : -1;
  const Index row = k - step / 3;
  return row >= 0 && row < 3 ? 3 * row + step % 3 : -1;
}

// The channel of a vector's lane, by fours of each sixteen; -1 where there is none.
inline Index channel_of(const ByteConv& c, Index vector, Index lane) {
  const Index channel = by_fours(block_vectors, vector, lane);
  return channel < c.shape.C ? channel : -1;
}

// w (C, 1, KH, KW)
inline void pack_depthwise(const ByteConv& c, const std::int8_t* w, const FilterNumbers& numbers,
                           void* packed) {
  const Index taps = c.shape.KH * c.shape.KW, vectors = depthwise_vectors(c), steps = depthwise_steps(c);
  std::memset(packed, 0, std::size_t(depthwise_packed_bytes(c)));
  auto* to = static_cast<std::uint8_t*>(packed);
  for (Index v = 0; v < vectors; ++v)
    for (Index step = 0; step < steps; ++step, to += Lanes::weight_bytes) {
      std::int8_t four[4 * Lanes::size] = {};
      for (Index i = 0; i < Lanes::size; ++i)
        for (Index k = 0; k < 4; ++k) {
          const Index channel = channel_of(c, v, i), tap = tap_of(c, step, k);
          if (channel >= 0 && tap >= 0) four[4 * i + k] = w[channel * taps + tap];
        }
      Lanes::pack_weights(four, to);
    }
  pack_numbers(numbers, vectors, [&](Index vector, Index lane) { return channel_of(c, vector, lane); }, to);
}

// A block of channels. Functions take a copy, which no store of bytes may alias.
struct DepthwiseBlock {
  const ByteConv& c;
  const std::uint8_t* weights;  // of its vectors
  FilterNumbers numbers;        // the same
  Epilogue epilogue;
  Index channels, steps;  // channels that are stored
  bool adds;

  [[gnu::always_inline]] void add_step(Lanes::Sums* sums, const Lanes::Values* taps, Index step) const {
#pragma GCC unroll 4
    for (int j = 0; j < block_vectors; ++j)
      sums[j] = Lanes::dot(sums[j], taps[j],
                           Lanes::load_weights(weights + (j * steps + step) * Lanes::weight_bytes));
  }
  [[gnu::always_inline]] static void load(const std::uint8_t* const (&rows)[4], Lanes::Values* taps) {
    Lanes::Sums bytes[block_vectors];
    Lanes::interleave_rows(rows, bytes);
#pragma GCC unroll 4
    for (int j = 0; j < block_vectors; ++j) taps[j] = Lanes::values(bytes[j]);
  }
  [[gnu::always_inline]] void store(const Lanes::Sums* sums, const std::uint8_t* other,
                                    std::uint8_t* y) const {
    Lanes::Scales v[block_vectors];
#pragma GCC unroll 4
    for (int j = 0; j < block_vectors; ++j) {
      const FilterVector n(numbers, j * Lanes::size);
      v[j] = adds ? epilogue.value(sums[j], n, other_of(other, j)) : Epilogue::value(sums[j], n);
    }
    const Lanes::Sums bytes = epilogue.packed(v);
    if (channels >= block_channels)
      std::memcpy(y, &bytes, sizeof bytes);
    else
      Lanes::store_words(y, bytes, channels / 4);
  }
  [[gnu::noinline]] Lanes::Sums other_of(const std::uint8_t* other, Index vector) const {
    std::int32_t lanes[Lanes::size] = {};
    for (Index i = 0; i < Lanes::size; ++i)
      if (const Index channel = by_fours(block_vectors, vector, i); channel < channels)
        lanes[i] = other[channel];
    return Lanes::load(lanes);
  }
};

// A row of outputs of 3x3 windows, or with `rows` two of them; x is the first window's place.
template <int rows, int stride>
void depthwise_columns(const DepthwiseBlock b, const std::uint8_t* x, const std::uint8_t* other,
                       std::uint8_t* y) {
  const ByteConv& c = b.c;
  const Index pixel = c.x.channels(), row = c.x.row(), last = (rows == 2 ? 3 : 2) * row, OW = c.shape.OW;
  const Index y_pixel = c.y.channels(), y_row = c.y.row();
  const Index other_pixel = c.other.channels(), other_row = c.other.row();
  Lanes::Values columns[3][block_vectors];
  const auto load = [&](Index w, int to) {
    const std::uint8_t* const p = x + w * pixel;
    b.load({p, p + row, p + 2 * row, p + last}, columns[to]);
  };
  load(0, 0);
  if constexpr (stride == 1) load(1, 1);
  for (Index i = 0; i < OW; ++i) {
    if constexpr (stride == 2) load(2 * i + 1, 1);
    load(stride * i + 2, 2);
#pragma GCC unroll 2
    for (int r = 0; r < rows; ++r) {
      Lanes::Sums sums[block_vectors];
      for (auto& sum : sums) sum = Lanes::zero();
#pragma GCC unroll 3
      for (int k = 0; k < 3; ++k) b.add_step(sums, columns[k], 3 * r + k);
      b.store(sums, other + r * other_row + i * other_pixel, y + r * y_row + i * y_pixel);
    }
    if constexpr (stride == 1) std::copy_n(columns[1], block_vectors, columns[0]);
    std::copy_n(columns[2], block_vectors, columns[2 - stride]);
  }
}

// A row of outputs by any taps, whose places in the window are `offsets`.
inline void depthwise_taps(const DepthwiseBlock b, const std::uint8_t* x, const std::uint8_t* other,
                           std::uint8_t* y, const Index* offsets) {
  const ByteConv& c = b.c;
  for (Index i = 0; i < c.shape.OW; ++i) {
    const std::uint8_t* const at = x + i * c.shape.stride_w * c.x.channels();
    Lanes::Sums sums[block_vectors];
    for (auto& sum : sums) sum = Lanes::zero();
    for (Index step = 0; step < b.steps; ++step) {
      const Index* const o = offsets + 4 * step;
      Lanes::Values taps[block_vectors];
      b.load({at + o[0], at + o[1], at + o[2], at + o[3]}, taps);
      b.add_step(sums, taps, step);
    }
    b.store(sums, other + i * c.other.channels(), y + i * c.y.channels());
  }
}

inline void depthwise(const ByteConv& c, const std::uint8_t* x, const std::uint8_t* other, const void* packed,
                      void* y, Index images) {
  constexpr Index most_taps = 128;
  const ConvShape& s = c.shape;
  const Index taps = s.KH * s.KW, vectors = depthwise_vectors(c), steps = depthwise_steps(c);
  Index offsets[most_taps + 3];
  for (Index t = 0; t < ceil_div(taps, 4) * 4; ++t) {
    const Index tap = std::min(t, taps - 1);  // those beyond have no weight
    offsets[t] = tap / s.KW * s.dilation_h * c.x.row() + tap % s.KW * s.dilation_w * c.x.channels();
  }
  const auto* weights = static_cast<const std::uint8_t*>(packed);
  const FilterNumbers numbers =
      numbers_at(weights + vectors * steps * Lanes::weight_bytes, vectors * Lanes::size);
  auto* out = static_cast<std::uint8_t*>(y);
  fill_border(c.y, c.epilogue.zero, out, images);
  const bool columns = by_columns(c);
  const Index most_rows = columns && s.stride_h == 1 && s.stride_w == 1 ? 2 : 1,
              tasks = ceil_div(s.OH, most_rows);
  const double work = double(images * s.OH * s.OW) * double(vectors * Lanes::size * steps);
  parallel_for(images * tasks, threads_for(work), [&](Index task, int) {
    const Index h = task % tasks * most_rows;
    const Position at(c, (task / tasks * s.OH + h) * s.OW);
    const auto run = most_rows == 2 && h + 1 < s.OH ? depthwise_columns<2, 1>
                     : s.stride_w == 1              ? depthwise_columns<1, 1>
                                                    : depthwise_columns<1, 2>;
    for (Index v = 0; v < vectors; v += block_vectors) {
      const Index channel = v * Lanes::size;
      const DepthwiseBlock block{
          c,
          weights + v * steps * Lanes::weight_bytes,
          FilterNumbers{numbers.bias + channel, numbers.multiplier + channel, numbers.factor + channel},
          Epilogue(c.epilogue),
          c.y.channels() - channel,
          steps,
          c.epilogue.adds};
      const std::uint8_t* const from = x + at.x() + channel;
      const std::uint8_t* const term = c.epilogue.adds ? other + at.other() + channel : from;
      std::uint8_t* const to = out + at.y() + channel;
      if (columns)
        run(block, from, term, to);
      else
        depthwise_taps(block, from, term, to, offsets);
    }
  });
}

}  // namespace cnnlib::CNNLIB_ISA
