// Convolution and its gradients by Winograd's method, group by group.
#pragma once

#include <type_traits>

#include "winograd_weights.hpp"

namespace cnnlib::CNNLIB_ISA {

// The products that the tiles of an OH x OW image take for each channel and filter.
template <class K>
double tile_products(const ConvShape& s, Index OH, Index OW, K) {
  return 1.0 * TileGrid(1, OH, OW, K::out_h, K::out_w, s.dilation_h, s.dilation_w).count * K::points;
}

// body(tile) with the tile of the kernel, if it has one, for an OH x OW result.
template <class Body>
void with_tile(const ConvShape& s, [[maybe_unused]] Index OH, [[maybe_unused]] Index OW, const Body& body) {
  switch (10 * s.KH + s.KW) {
    case 33:
#if defined(__AVX512F__)  // elsewhere it is not worth its size
      // The larger tile rounds more, and has to take clearly fewer products.
      if (tile_products(s, OH, OW, Tile<3, 3, 4>()) >= 1.25 * tile_products(s, OH, OW, Tile<3, 3, 5>()))
        return body(Tile<3, 3, 5>());
#endif
      return body(Tile<3, 3, 4>());
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
template <class Body>
void each_winograd_group(const ConvShape& s, Index OH, Index OW, const Body& body) {
  with_tile(s, OH, OW, [&](auto tile) {
    for (Index group = 0; group < s.groups; ++group) body(tile, group);
  });
}

template <class T>
void forward_winograd(const T* x, const T* w, const T* b, T* out, const ConvShape& s, bool relu) {
  const TileShape shape(s);
  const Index taps = s.KH * s.KW, plane = s.H * s.W, out_plane = s.OH * s.OW;
  each_winograd_group(s, s.OH, s.OW, [&](auto tile, Index group) {
    const Index c0 = group * shape.C, f0 = group * shape.F;
    correlate_tiles<T, decltype(tile)>({{shape, x + c0 * plane, s.C * plane},
                                        w + f0 * shape.C * taps,
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
  each_winograd_group(s, s.H, s.W, [&](auto tile, Index group) {
    const Index c0 = group * shape.C, f0 = group * shape.F;
    correlate_tiles<T, decltype(tile)>(
        {{shape.transposed(s.KH, s.KW), dout + f0 * out_plane, s.F * out_plane},
         w + f0 * shape.C * taps,
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
  each_winograd_group(s, s.OH, s.OW, [&](auto tile, Index group) {
    const Index c0 = group * shape.C, f0 = group * shape.F;
    weights_by_tiles<T, decltype(tile)>({{shape, x + c0 * plane, s.C * plane},
                                         dout + f0 * out_plane,
                                         s.F * out_plane,
                                         dw + f0 * shape.C * taps});
  });
}

}  // namespace cnnlib::CNNLIB_ISA
