// Which tile a pass of a convolution is cut into.
#pragma once

#include <array>
#include <type_traits>

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

// body(tile) with the tile of a kernel that fits_winograd. dx is a correlation with tiles of its own at
// stride 2.
template <bool dx, class Body>
auto with_tile(const ConvShape& s, const Body& body) {
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
    case 33: {
      if constexpr (InstructionSet::large_winograd_tile) {
        // The larger tile rounds more, and has to take clearly fewer products.
        const TileShape shape = tile_shape(s, dx);
        const auto products = [&](auto tile) {
          return 1.0 * shape.grid(tile.sizes).per_image * tile.sizes.points();
        };
        const bool fewer = products(Tile<3, 3, 4>()) >= 1.25 * products(Tile<3, 3, 5>());
        if (fewer && !s.few_weights) return body(Tile<3, 3, 5>());
      }
      return body(Tile<3, 3, 4>());
    }
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
template <class Body>
auto with_tile(const ConvShape& s, bool dx, const Body& body) {
  return dx ? with_tile<true>(s, body) : with_tile<false>(s, body);
}

}  // namespace cnnlib::CNNLIB_ISA
