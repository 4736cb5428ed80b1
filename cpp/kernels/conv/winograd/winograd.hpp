// Convolution and its gradients by Winograd's method, group by group.
#pragma once

#include <type_traits>

#include "kernels/conv/winograd/weight_gradient.hpp"

namespace cnnlib::CNNLIB_ISA {

enum class Pass { forward, input_gradient, weight_gradient };

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

// body(tile) with the tile of the kernel, if it has one. dx is a correlation with tiles of its own at
// stride 2.
template <Pass pass, class Body>
void with_tile(const ConvShape& s, const Body& body) {
  constexpr bool dx = pass == Pass::input_gradient;
  if (s.stride_h == 2) return body(std::conditional_t<dx, StridedInputTile<4>, StridedTile<4>>());
  switch (10 * s.KH + s.KW) {
    case 33: {
      if constexpr (InstructionSet::large_winograd_tile) {
        // The larger tile rounds more, and has to take clearly fewer products.
        const TileShape shape = tile_shape<pass>(s);
        const auto products = [&](auto tile) { return tile_products(shape, tile.sizes); };
        if (products(Tile<3, 3, 4>()) >= 1.25 * products(Tile<3, 3, 5>())) return body(Tile<3, 3, 5>());
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
    case 71:
      return body(Tile<7, 1, 4>());
  }
}

// body(tile, group) for every group.
template <Pass pass, class Body>
void each_winograd_group(const ConvShape& s, const Body& body) {
  with_tile<pass>(s, [&](auto tile) {
    for (Index group = 0; group < s.groups; ++group) body(tile, group);
  });
}

template <class T>
void forward_winograd(const T* x, const T* w, const T* b, T* out, const ConvShape& s, bool relu) {
  const TileShape shape(s);
  const Index taps = s.KH * s.KW, plane = s.H * s.W, out_plane = s.OH * s.OW;
  each_winograd_group<Pass::forward>(s, [&](auto tile, Index group) {
    const Index c0 = group * shape.C, f0 = group * shape.F;
    correlate_tiles<T>(correlation_tile<T, decltype(tile)>, {{shape, x + c0 * plane, s.C * plane},
                                                             w + f0 * shape.C * taps,
                                                             w + (f0 + shape.F) * shape.C * taps,
                                                             shape.C * taps,
                                                             taps,
                                                             false,
                                                             b != nullptr ? b + f0 : nullptr,
                                                             relu,
                                                             out + f0 * out_plane,
                                                             s.F * out_plane});
  });
}

template <class T>
void input_gradient_winograd(const T* dout, const T* w, const T* b, T* dx, const ConvShape& s) {
  const TileShape shape(s);
  const Index taps = s.KH * s.KW, plane = s.H * s.W, out_plane = s.OH * s.OW;
  each_winograd_group<Pass::input_gradient>(s, [&](auto tile, Index group) {
    const Index c0 = group * shape.C, f0 = group * shape.F;
    correlate_tiles<T>(correlation_tile<T, decltype(tile)>,
                       {{tile_shape<Pass::input_gradient>(s), dout + f0 * out_plane, s.F * out_plane},
                        w + f0 * shape.C * taps,
                        w + (f0 + shape.F) * shape.C * taps,
                        taps,
                        shape.C * taps,
                        true,
                        b != nullptr ? b + c0 : nullptr,
                        false,
                        dx + c0 * plane,
                        s.C * plane});
  });
}

template <class T>
void weight_gradient_winograd(const T* x, const T* dout, T* dw, const ConvShape& s) {
  const TileShape shape(s);
  const Index taps = s.KH * s.KW, plane = s.H * s.W, out_plane = s.OH * s.OW;
  each_winograd_group<Pass::weight_gradient>(s, [&](auto tile, Index group) {
    const Index c0 = group * shape.C, f0 = group * shape.F;
    weights_by_tiles<T>(gradient_tile<T, decltype(tile)>, {{shape, x + c0 * plane, s.C * plane},
                                                           dout + f0 * out_plane,
                                                           s.F * out_plane,
                                                           dw + f0 * shape.C * taps});
  });
}

}  // namespace cnnlib::CNNLIB_ISA
