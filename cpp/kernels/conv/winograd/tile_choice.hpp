// Which tile a pass of a convolution is cut into.
#pragma once

#include <type_traits>

#include "kernels/conv/winograd/tiles.hpp"

namespace cnnlib::CNNLIB_ISA {

// The sizes of the correlation whose tiles are a pass's.
template <Pass pass>
TileShape tile_shape(const ConvShape& s) {
  const TileShape shape(s);
  if (pass != Pass::input_gradient) return shape;
  return s.stride_h == 1 ? shape.transposed(s.KH, s.KW) : shape.transposed_strided();
}

// The products that the tiles of an image take for each channel and filter.
inline double tile_products(const TileShape& s, const TileSizes& tile) {
  return 1.0 * s.grid(tile).per_image * tile.points();
}

// body(tile) with the tile of a kernel that winograd_fits. dx is a correlation with tiles of its own at
// stride 2.
template <Pass pass, class Body>
auto with_tile(const ConvShape& s, const Body& body) {
  constexpr bool dx = pass == Pass::input_gradient;
  if (s.stride_h == 2) return body(std::conditional_t<dx, StridedInputTile<4>, StridedTile<4>>());
  switch (10 * s.KH + s.KW) {
    case 33: {
      if constexpr (InstructionSet::large_winograd_tile) {
        // The larger tile rounds more, and has to take clearly fewer products.
        const TileShape shape = tile_shape<pass>(s);
        const auto products = [&](auto tile) { return tile_products(shape, tile.sizes); };
        const bool fewer = products(Tile<3, 3, 4>()) >= 1.25 * products(Tile<3, 3, 5>());
        if (fewer && !s.few_weights) return body(Tile<3, 3, 5>());
      }
      return body(Tile<3, 3, 4>());
    }
    case 55:
      return body(Tile<5, 5, 4>());
    case 13:
      return body(Tile<1, 3, 4>());
    case 31:
      return body(Tile<3, 1, 4>());
    case 15:
      return body(Tile<1, 5, 4>());
    case 51:
      return body(Tile<5, 1, 4>());
    case 17:
      return body(Tile<1, 7, 4>());
    default:
      return body(Tile<7, 1, 4>());
  }
}

}  // namespace cnnlib::CNNLIB_ISA
