// Which tile a pass of a convolution is cut into.
#pragma once

#include <array>
#include <type_traits>

#include "conv_plan.hpp"
#include "kernels/conv/winograd/cuts.hpp"
#include "kernels/conv/winograd/tiles.hpp"

namespace cnnlib::CNNLIB_ISA {

// The sizes of the correlation whose tiles are a pass's.
inline TileShape tile_shape(const ConvShape& s, bool dx) {
  return dx ? TileShape(s).transposed() : TileShape(s);
}

inline bool is_line(Index KH, Index KW) { return KH == 1 || KW == 1; }

// The taps along a side of the tile for a kernel at stride 1: a tile of 4 outputs a side whose parts of the
// kernel take the fewest products.
inline Index tile_taps(Index KH, Index KW) {
  const bool line = is_line(KH, KW);
  const auto products = [&](Index taps) {
    const Index points = 4 + taps - 1;
    return ceil_div(KH, taps) * ceil_div(KW, taps) * points * (line ? 1 : points);
  };
  Index best = 3;
  for (const Index taps : line ? std::array<Index, 3>{3, 5, 7} : std::array<Index, 3>{2, 4, 5})
    if (products(taps) < products(best)) best = taps;
  return best;
}

// Whether the filters of a tile are more than a cache keeps from batch to batch, in a network whose weights
// come from memory anyway: most_bytes of them take no longer (bench/NOTES.md).
template <class T>
bool streams_filters(const ConvRequest& request, bool dx, const TileSizes& tile, Index most_bytes) {
  return request.weights == WeightUse::streamed &&
         kept_filters<T>(tile_shape(request.shape, dx), tile) * sizeof(T) > double(most_bytes);
}

// Tells whether a 3x3 kernel at stride 1 gains by a tile of 5x5 outputs. That tile rounds more, and has to
// take clearly fewer products than one of 4x4; and its filters are more.
template <class T>
bool takes_large_tile(const ConvRequest& request, bool dx) {
  if constexpr (!InstructionSet::large_winograd_tile) return false;
  constexpr double gain = 1.25;
  constexpr Index most_bytes = 8 << 20;
  using Small = Tile<3, 3, 4>;
  using Large = Tile<3, 3, 5>;
  const TileShape shape = tile_shape(request.shape, dx);
  const auto products = [&](const TileSizes& tile) {
    return 1.0 * shape.grid(tile).per_image * tile.points();
  };
  return products(Small::sizes) >= gain * products(Large::sizes) &&
         !streams_filters<T>(request, dx, Large::sizes, most_bytes);
}

// body(tile) with the tile of a kernel that fits_winograd. dx is a correlation with tiles of its own at
// stride 2.
template <class T, bool dx, class Body>
auto with_tile(const ConvRequest& request, const Body& body) {
  const ConvShape& s = request.shape;
  if (s.stride_h == 2) {
    const auto strided = [&](auto taps) {
      return body(std::conditional_t<dx, StridedInputTile<taps(), 4>, StridedTile<taps(), 4>>());
    };
    if (s.KH == 3) return strided(std::integral_constant<int, 3>());
    if (s.KH == 4) return strided(std::integral_constant<int, 4>());
    return strided(std::integral_constant<int, 5>());
  }
  const Index taps = tile_taps(s.KH, s.KW);
  switch (10 * (s.KH > 1 ? taps : 1) + (s.KW > 1 ? taps : 1)) {
    case 33:
      if constexpr (InstructionSet::large_winograd_tile)
        if (takes_large_tile<T>(request, dx)) return body(Tile<3, 3, 5>());
      return body(Tile<3, 3, 4>());
    case 22: return body(Tile<2, 2, 4>());
    case 44: return body(Tile<4, 4, 4>());
    case 55: return body(Tile<5, 5, 4>());
    case 13: return body(Tile<1, 3, 4>());
    case 31: return body(Tile<3, 1, 4>());
    case 15: return body(Tile<1, 5, 4>());
    case 51: return body(Tile<5, 1, 4>());
    case 17: return body(Tile<1, 7, 4>());
    default: return body(Tile<7, 1, 4>());
  }
}
// The same where all results have one type.
template <class T, class Body>
auto with_tile(const ConvRequest& request, bool dx, const Body& body) {
  return dx ? with_tile<T, true>(request, body) : with_tile<T, false>(request, body);
}

}  // namespace cnnlib::CNNLIB_ISA
