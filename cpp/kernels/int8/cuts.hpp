// What the methods for bytes fit, and how each lays out its packed weights: panels of vectors of filters.
// They follow from the convolution and the instruction set alone. kernels/cuts.cpp compiles this header where
// those of threads and of the machine are errors.
#pragma once

#include "int8_shapes.hpp"
#include "kernels/int8/lanes.hpp"

namespace cnnlib::CNNLIB_ISA {

// A method packs its weights, then the numbers of whole vectors of filters. `Panels` says how many bytes and
// numbers these are, and which filter a vector's lane has, -1 for none.
template <class Panels>
Index packed_bytes(const ByteConv& c) {
  const Panels p{c};
  return p.weights() + 12 * p.numbers();
}
template <class Panels>
FilterNumbers numbers_in(const void* packed, const Panels& p) {
  const auto* bias = reinterpret_cast<const std::int32_t*>(static_cast<const char*>(packed) + p.weights());
  const auto* multiplier = reinterpret_cast<const float*>(bias + p.numbers());
  return {bias, multiplier, reinterpret_cast<const std::int32_t*>(multiplier + p.numbers())};
}
// Packs the numbers, and weights of 0.
template <class Panels>
void begin_packing(const FilterNumbers& from, void* packed, const Panels& p) {
  std::memset(packed, 0, std::size_t(p.weights() + 12 * p.numbers()));
  auto* const bias = reinterpret_cast<std::int32_t*>(static_cast<char*>(packed) + p.weights());
  auto* const multiplier = reinterpret_cast<float*>(bias + p.numbers());
  auto* const factor = reinterpret_cast<std::int32_t*>(multiplier + p.numbers());
  for (Index at = 0; at < p.numbers(); ++at) {
    const Index f = p.filter_of(at / IntLanes::size, at % IntLanes::size);
    if (f < 0) continue;
    bias[at] = from.bias[f];
    multiplier[at] = from.multiplier[f];
    if (from.factor != nullptr) factor[at] = from.factor[f];
  }
}

// The channel of a lane where `vectors` vectors take four channels each in turn: the order that packing their
// bytes undoes.
inline Index by_fours(Index vectors, Index vector, Index lane) {
  return vector / vectors * vectors * IntLanes::size + (lane / 4 * vectors + vector % vectors) * 4 + lane % 4;
}

// Where the terms of a position lie: `rows` x `runs` runs of 4 * `steps` bytes.
struct Terms {
  Index rows, runs, steps, row_offset, run_offset;
  Index count() const { return rows * runs * steps; }
};

inline Terms terms_of(const ByteConv& c) {
  const ConvShape& s = c.shape;
  const Index row = s.dilation_h * c.x.row(), pixel = c.x.channels();
  if (s.groups == 1 && s.dilation_w == 1) return {s.KH, 1, s.KW * pixel / 4, row, 0};
  return {s.KH, s.KW, round_up(s.C / s.groups, 4) / 4, row, s.dilation_w * pixel};
}

// The channels of a group are whole runs of four bytes.
inline bool conv_fits(const ByteConv& c) {
  return c.shape.groups == 1 || c.shape.C / c.shape.groups % 4 == 0;
}

// Panels of weights are two vectors of filters wide; the last of a group may be one.
struct ConvPanels {
  const ByteConv& c;
  Terms terms = terms_of(c);
  Index groups = c.shape.groups, steps = terms.count();
  Index filters = c.shape.F / groups, vectors = ceil_div(filters, IntLanes::size);  // of a group

  Index of_group() const { return ceil_div(vectors, 2); }
  // Of the panel that a vector is in.
  int width_of(Index vector) const { return vector % 2 == 1 || vector + 1 < vectors ? 2 : 1; }
  // Vectors whose filters lie in pairs: see IntLanes::store_pairs.
  Index paired = 0;
  // The filter of a vector's lane, of its group.
  Index filter(Index vector, Index lane) const {
    return vector < paired ? by_fours(2, vector, lane) : vector * IntLanes::size + lane;
  }
  Index filter_of(Index vector, Index lane) const {
    const Index f = filter(vector % vectors, lane);
    return f < filters ? vector / vectors * filters + f : -1;
  }
  Index numbers() const { return groups * vectors * IntLanes::size; }  // filters, padded
  Index weights() const { return groups * vectors * steps * IntLanes::weight_bytes; }
  Index offset(Index group, Index vector) const {
    return (group * vectors + vector) * steps * IntLanes::weight_bytes;
  }
};

// Tiles of AMX: see tiles.hpp.
constexpr Index amx_rows = 16, amx_row_bytes = 64, amx_tile_bytes = amx_rows * amx_row_bytes;

// Two steps of a run are no more work for vectors than a tile is.
inline bool tiles_fit(const ByteConv& c) { return conv_fits(c) && terms_of(c).steps > 2; }

// Panels of two vectors of filters, the last of a group may be one: of each term, a tile of each vector.
struct TilePanels : ConvPanels {
  Index tiles_of_run = ceil_div(4 * terms.steps, amx_row_bytes);
  Index tiles = terms.rows * terms.runs * tiles_of_run;  // of a vector

  explicit TilePanels(const ByteConv& conv) : ConvPanels{conv} {
    paired = c.epilogue.scores ? 0 : filters / (2 * IntLanes::size) * 2;
  }
  Index weights() const { return groups * vectors * tiles * amx_tile_bytes; }
  Index offset(Index group, Index vector) const {
    return (group * vectors + vector) * tiles * amx_tile_bytes;
  }
};

// How the taps are grouped: by columns, each of which serves the windows of two rows and three positions.
inline bool by_columns(const ByteConv& c) {
  return c.shape.KH == 3 && c.shape.KW == 3 && c.shape.dilation_h == 1 && c.shape.dilation_w == 1 &&
         c.shape.stride_w <= 2;
}

// Steps of a vector of channels: the three columns for the upper row of outputs and for the lower one.
constexpr Index column_steps = 6;
inline Index depthwise_steps(const ByteConv& c) {
  return by_columns(c) ? column_steps : ceil_div(c.shape.KH * c.shape.KW, 4);
}

// The tap that is number k of the four of a step, or -1. By columns: those of the upper row of outputs, with
// nothing below, then those of the lower row, with nothing above.
inline Index tap_of(const ByteConv& c, Index step, Index k) {
  if (!by_columns(c)) return 4 * step + k < c.shape.KH * c.shape.KW ? 4 * step + k : -1;
  const Index row = k - step / 3;
  return row >= 0 && row < 3 ? 3 * row + step % 3 : -1;
}

// How many vectors are parts of blocks, whose channels lie otherwise: by fours of each sixteen.
inline Index block_vectors(const ByteConv& c) {
  const bool blocks = IntLanes::has_blocks && by_columns(c) && !c.epilogue.add;
  return blocks ? c.shape.C / (4 * IntLanes::size) * 4 : 0;
}

struct DepthwisePanels {
  const ByteConv& c;
  Index channels = c.shape.C;
  Index blocks = block_vectors(c), vectors = ceil_div(channels, IntLanes::size);  // in blocks, and all
  Index steps = depthwise_steps(c);                                               // of a vector

  Index weights() const { return vectors * steps * IntLanes::weight_bytes; }
  Index numbers() const { return vectors * IntLanes::size; }
  Index filter_of(Index vector, Index lane) const {
    const Index channel = vector < blocks ? by_fours(4, vector, lane) : vector * IntLanes::size + lane;
    return channel < channels ? channel : -1;
  }
};

constexpr Index most_depthwise_taps = 128;
inline bool depthwise_fits(const ByteConv& c) {
  const ConvShape& s = c.shape;
  return s.groups == s.C && s.F == s.C && s.C > 1 && s.KH * s.KW <= most_depthwise_taps && !c.epilogue.scores;
}

// Winograd's F(2x2, 3x3) in integers: see winograd.hpp.
constexpr Index winograd_points = 16;

inline bool winograd_fits(const ByteConv& c) {
  constexpr Index most_channels = 1800, least_channels = 8, least_filters = 8;
  const ConvShape& s = c.shape;
  return !IntLanes::multiplies_bytes && s.KH == 3 && s.KW == 3 && s.stride_h == 1 && s.stride_w == 1 &&
         s.dilation_h == 1 && s.dilation_w == 1 && s.groups == 1 && s.C >= least_channels &&
         s.C <= most_channels && s.F >= least_filters && s.OH > 1 && s.OW > 1;
}

// Panels of two vectors of filters: of each point, pairs of channels.
struct WinogradPanels {
  static constexpr Index width = 2 * IntLanes::size;
  const ByteConv& c;
  Index channels = c.x.channels(), filters = c.shape.F, count = ceil_div(filters, width);
  Index point() const { return channels * width; }  // 16-bit numbers of a point of a panel
  Index weights() const { return 2 * count * winograd_points * point(); }
  Index numbers() const { return count * width; }
  Index filter_of(Index vector, Index lane) const {
    const Index f = vector * IntLanes::size + lane;
    return f < filters ? f : -1;
  }
};

}  // namespace cnnlib::CNNLIB_ISA
