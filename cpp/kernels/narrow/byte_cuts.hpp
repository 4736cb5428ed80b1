// Says which convolutions the methods for bytes alone fit, and how each lays out its packed weights.
#pragma once

#include "kernels/narrow/byte_format.hpp"
#include "kernels/narrow/cuts.hpp"

namespace cnnlib::CNNLIB_ISA {

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
  using Format = ByteFormat;
  const ByteConv& c;
  explicit DepthwisePanels(const ByteConv& conv) : c(conv) {}
  Index channels = c.shape.C;
  Index blocks = block_vectors(c), vectors = ceil_div(channels, IntLanes::size);  // in blocks, and all
  Index steps = depthwise_steps(c);                                               // of a vector

  Index weights() const { return vectors * steps * IntLanes::weight_bytes; }
  Index numbers() const { return vectors * IntLanes::size; }
  Index filter_of(Index vector, Index lane) const {
    const Index channel =
        vector < blocks ? by_fours<IntLanes::size>(4, vector, lane) : vector * IntLanes::size + lane;
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
  using Format = ByteFormat;
  static constexpr Index width = 2 * IntLanes::size;
  const ByteConv& c;
  explicit WinogradPanels(const ByteConv& conv) : c(conv) {}
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
