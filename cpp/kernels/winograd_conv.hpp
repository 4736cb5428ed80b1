// Convolution and its gradients by Winograd's method, group by group.
#pragma once

#include <type_traits>

#include "winograd_weights.hpp"

namespace cnnlib::CNNLIB_ISA {

// body(Tile<KH, KW>()) for a kernel that has one.
template <class Body>
void with_tile(const ConvShape& s, const Body& body) {
  switch (10 * s.KH + s.KW) {
    case 33:
      return body(Tile<3, 3>());
    case 55:
      return body(Tile<5, 5>());
    case 13:
      return body(Tile<1, 3>());
    case 31:
      return body(Tile<3, 1>());
    case 15:
      return body(Tile<1, 5>());
    case 51:
      return body(Tile<5, 1>());
    case 17:
      return body(Tile<1, 7>());
    case 71:
      return body(Tile<7, 1>());
  }
}

// body(Tile<KH, KW>(), group) for every group.
template <class Body>
void each_winograd_group(const ConvShape& s, const Body& body) {
  with_tile(s, [&](auto tile) {
    for (Index group = 0; group < s.groups; ++group) body(tile, group);
  });
}

template <class T>
void forward_winograd(const T* x, const T* w, const T* b, T* out, const ConvShape& s, bool relu) {
  const TileShape shape(s);
  const Index taps = s.KH * s.KW, plane = s.H * s.W, out_plane = s.OH * s.OW;
  each_winograd_group(s, [&](auto tile, Index group) {
    const Index c0 = group * shape.C, f0 = group * shape.F;
    correlate_tiles<T, decltype(tile)>({shape, x + c0 * plane, s.C * plane, w + f0 * shape.C * taps,
                                        shape.C * taps, taps, false, b != nullptr ? b + f0 : nullptr, relu,
                                        out + f0 * out_plane, s.F * out_plane});
  });
}

template <class T>
void input_gradient_winograd(const T* dout, const T* w, const T* b, T* dx, const ConvShape& s) {
  const TileShape shape(s);
  const Index taps = s.KH * s.KW, plane = s.H * s.W, out_plane = s.OH * s.OW;
  each_winograd_group(s, [&](auto tile, Index group) {
    const Index c0 = group * shape.C, f0 = group * shape.F;
    correlate_tiles<T, decltype(tile)>(
        {shape.transposed(s.KH, s.KW), dout + f0 * out_plane, s.F * out_plane, w + f0 * shape.C * taps, taps,
         shape.C * taps, true, b != nullptr ? b + c0 : nullptr, false, dx + c0 * plane, s.C * plane});
  });
}

template <class T>
void weight_gradient_winograd(const T* x, const T* dout, T* dw, const ConvShape& s) {
  const TileShape shape(s);
  const Index taps = s.KH * s.KW, plane = s.H * s.W, out_plane = s.OH * s.OW;
  each_winograd_group(s, [&](auto tile, Index group) {
    const Index c0 = group * shape.C, f0 = group * shape.F;
    weights_by_tiles<T, decltype(tile)>({shape, x + c0 * plane, s.C * plane, dout + f0 * out_plane,
                                         s.F * out_plane, dw + f0 * shape.C * taps});
  });
}

}  // namespace cnnlib::CNNLIB_ISA
