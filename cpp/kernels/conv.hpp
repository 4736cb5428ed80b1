// Convolution forward, dx and dw: chooses the algorithm.
#pragma once

#include "conv_weights.hpp"
#include "depthwise_gradients.hpp"
#include "few_channels.hpp"
#include "matrix_product.hpp"
#include "winograd_weights.hpp"

namespace cnnlib::CNNLIB_ISA {

// Winograd's method saves up to three multiplications of four and pays for it with transforms, which
// weigh less the more channels and filters share them. The batch has no say: an image's result must not
// depend on the images beside it.
inline bool use_winograd(const ConvShape& s) {
  if (s.algorithm != Algorithm::automatic) return s.algorithm == Algorithm::winograd;
  if (!winograd_fits(s) || s.C < 12 || s.F < 12) return false;
  const Index direct = s.OH * s.OW * 9, by_tiles = TileGrid(1, s.OH, s.OW).count * tile_points;
  return direct >= 2 * by_tiles;
}

// Whether every channel has filters of its own. (A single channel with many filters is a matrix product.)
inline bool depthwise(const ConvShape& s) {
  return s.N > 0 && s.groups == s.C && (s.C > 1 || s.F == 1) && !use_winograd(s);
}

// Whether the kernel covers the whole image, once: the convolution is an affine layer.
inline bool covers_image(const ConvShape& s) {
  const auto whole = [](Index out, Index size, Index K, Index pad, Index dilation) {
    return out == 1 && size == K && pad == 0 && (K == 1 || dilation == 1);
  };
  return s.groups == 1 && s.algorithm != Algorithm::winograd &&
         whole(s.OH, s.H, s.KH, s.pad_top, s.dilation_h) && whole(s.OW, s.W, s.KW, s.pad_left, s.dilation_w);
}

// Calls body with the kind of vectors that suits the images: rows of less than two cache lines leave too many
// lanes and too much work at their ends.
template <class T, class Body>
void with_depthwise_lanes(const ConvShape& s, const Body& body) {
  if (s.W * Index{sizeof(T)} < 128 && s.C > Simd<T>::size / 2)
    body(ChannelLanes<T>());
  else
    body(RowLanes<T>());
}

template <class T>
void conv_forward(const T* x, const T* w, const T* b, T* out, const ConvShape& s, bool relu) {
  if (depthwise(s))
    return with_depthwise_lanes<T>(
        s, [&](auto lanes) { forward_depthwise<T, decltype(lanes)>(x, w, b, out, s, relu); });
  if (covers_image(s)) {
    const Index D = s.C * s.KH * s.KW;
    return matrix_product<T>({{x, D, 1}, {w, 1, D}, b, relu, out, s.N, s.F, D});
  }
  if (s.N == 0 || !use_winograd(s)) return forward_direct(x, w, b, out, s, relu);
  correlate_tiles<T>(
      {s.N, s.C, s.F, s.H, s.W, s.OH, s.OW, s.pad_top, s.pad_left, x, w, s.C * 9, 9, false, b, relu, out});
}

template <class T>
void input_gradient(const T* dout, const T* w, const T* b, T* dx, const ConvShape& s) {
  if (s.N > 0 && use_winograd(s))
    return correlate_tiles<T>({s.N, s.F, s.C, s.OH, s.OW, s.H, s.W, 2 - s.pad_top, 2 - s.pad_left, dout, w, 9,
                               s.C * 9, true, b, false, dx});
  input_gradient_direct(dout, w, b, dx, s);
}

template <class T>
void weight_gradient(const T* x, const T* dout, T* dw, const ConvShape& s) {
  if (s.N > 0 && use_winograd(s)) return weights_by_tiles(x, dout, dw, s);
  weights_direct(x, dout, dw, s);
}

// Any of dx, dw and db may be null: not wanted. With a bias (C,), dx is the transposed convolution of dout.
template <class T>
void conv_backward(const T* x, const T* w, const T* dout, const T* b, T* dx, T* dw, T* db,
                   const ConvShape& s) {
  if (depthwise(s))
    return with_depthwise_lanes<T>(
        s, [&](auto lanes) { gradients_depthwise<T, decltype(lanes)>(x, w, dout, b, dx, dw, db, s); });
  if (covers_image(s) && b == nullptr) {
    const Index D = s.C * s.KH * s.KW;
    if (dx != nullptr) matrix_product<T>({{dout, s.F, 1}, {w, D, 1}, nullptr, false, dx, s.N, D, s.F});
    if (dw != nullptr) matrix_product<T>({{dout, 1, s.F}, {x, D, 1}, nullptr, false, dw, s.F, D, s.N});
    if (db != nullptr) bias_gradient(dout, db, s.N, s.F, 1);
    return;
  }
  if (s.N > 0 && few_channels<T>(s) && !use_winograd(s)) {
    if (dw != nullptr && tap_rows_suit<T>(s)) weights_direct(x, dout, std::exchange(dw, nullptr), s);
    if (dx != nullptr || dw != nullptr || db != nullptr) gradients_few_channels(x, w, dout, b, dx, dw, db, s);
    return;
  }
  if (dx != nullptr) input_gradient(dout, w, b, dx, s);
  if (dw != nullptr) weight_gradient(x, dout, dw, s);
  if (db != nullptr) bias_gradient(dout, db, s.N, s.F, s.OH * s.OW);
}

}  // namespace cnnlib::CNNLIB_ISA
