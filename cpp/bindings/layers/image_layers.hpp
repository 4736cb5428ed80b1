// Layers without parameters that take each image by itself: prepared networks and training steps run the
// same ones, functions of arrays those of planes. What makes a layer takes the function that messages name,
// an array whose images have the shape of the layer's input (there may be none of them), and the layer's own
// arguments.
#pragma once

#include <algorithm>
#include <array>

#include "../pool_shape.hpp"

namespace cnnlib {

// C, H and W of an image; of single elements their number, 1 and 1.
using ImageShape = std::array<Index, 3>;

// What the backward pass needs.
enum class Keeps { nothing, x, out, places };

template <class Forward, class Backward>
struct ImageLayer {
  ImageShape x, out;
  double work;  // scalar operations of an image, as threads_for counts them
  // forward(k, x, out, more, N) of N images. `more` is null, or gets the place of each maximum, or a copy
  // of an output that is kept.
  Forward forward;
  // backward(k, dout, kept, dx, N). `kept` is what the layer `keeps`.
  Backward backward;
  Keeps keeps;
  Index place_bytes;  // of the place of a maximum, 0 of another layer
};

template <class Forward, class Backward>
[[gnu::always_inline]] inline ImageLayer<Forward, Backward> image_layer(
    const ImageShape& x, const ImageShape& out, double work, const Forward& forward, const Backward& backward,
    Keeps keeps = Keeps::nothing, Index place_bytes = 0) {
  return {x, out, work, forward, backward, keeps, place_bytes};
}

inline Activation activation_named(Text function, Text name) {
  const auto end = std::end(activation_names), found = std::find(std::begin(activation_names), end, name);
  require(found != end, function, ": unknown activation ", name);
  return static_cast<Activation>(found - std::begin(activation_names));
}

// A function of each element; alpha is leaky_relu's and elu's.
inline auto activation(Text function, const Floats& like, Text name, double alpha) {
  const Activation kind = activation_named(function, name);
  Index n = 1;
  for (Index axis = 1; axis < like.ndim(); ++axis) n *= like.shape(axis);
  return image_layer(
      {n, 1, 1}, {n, 1, 1}, double(n) * (is_cheap(kind) ? 0.25 : 1),
      [=](const auto& k, In x, Out out, Out copy, Index N) {
        k.activation_forward(kind, x, out, copy, alpha, N * n);
      },
      [=](const auto& k, In dout, In kept, Out dx, Index N) {
        k.activation_backward(kind, dout, kept, dx, alpha, N * n);
      },
      from_result(kind) ? Keeps::out : Keeps::x);
}

// Over the axis of C of images (C, S). Messages call the array `argument`.
inline ScoresShape softmax_shape(Text function, const char* argument, const Floats& like) {
  return scores_shape(function, argument, "(N, C) or (N, C, H, W) with C, H, W >= 1", like);
}
inline auto softmax(Text function, const Floats& like) {
  const ScoresShape s = softmax_shape(function, "x", like);
  const Index C = s.C, S = s.inner;
  return image_layer(
      {C, S, 1}, {C, S, 1}, double(C) * double(S),
      [=](const auto& k, In x, Out out, Out copy, Index N) { k.softmax_forward(x, out, copy, N, C, S); },
      [=](const auto& k, In dout, In y, Out dx, Index N) { k.softmax_backward(dout, y, dx, N, C, S); },
      Keeps::out);
}

template <class Shape>
Shape of_images(Shape s, Index N) {
  s.planes *= N;
  return s;
}

inline double pool_work(const PoolShape& s) {
  const double values =
      s.adaptive ? double(s.H) * double(s.W) : double(s.OH) * double(s.OW) * double(s.PH * s.PW);
  return double(s.planes) * values / 4;
}

// It keeps the places of its maxima.
inline auto pool_of_maxima(const PoolShape& s) {
  return image_layer(
      {s.planes, s.H, s.W}, {s.planes, s.OH, s.OW}, pool_work(s),
      [=](const auto& k, In x, Out out, Out at, Index N) { k.max_pool_forward(x, out, at, of_images(s, N)); },
      [=](const auto& k, In dout, In at, Out dx, Index N) {
        k.max_pool_backward(dout, at, dx, of_images(s, N));
      },
      Keeps::places, s.winner_bytes());
}
inline auto max_pool(Text function, const Floats& like, const PoolGeometry& geometry, bool ceil_mode) {
  return pool_of_maxima(pool_shape(function, like, geometry, ceil_mode, false));
}
inline auto adaptive_max_pool(Text function, const Floats& like, const std::array<Index, 2>& size) {
  return pool_of_maxima(adaptive_shape(function, like, size));
}

inline auto pool_of_means(const PoolShape& s) {
  return image_layer(
      {s.planes, s.H, s.W}, {s.planes, s.OH, s.OW}, pool_work(s),
      [=](const auto& k, In x, Out out, Out, Index N) { k.avg_pool_forward(x, out, of_images(s, N)); },
      [=](const auto& k, In dout, In, Out dx, Index N) { k.avg_pool_backward(dout, dx, of_images(s, N)); });
}
inline auto avg_pool(Text function, const Floats& like, const PoolGeometry& geometry, bool ceil_mode,
                     bool count_include_pad) {
  return pool_of_means(pool_shape(function, like, geometry, ceil_mode, count_include_pad));
}
inline auto adaptive_avg_pool(Text function, const Floats& like, const std::array<Index, 2>& size) {
  return pool_of_means(adaptive_shape(function, like, size));
}

inline auto upsample(Text function, const Floats& like, const std::array<Index, 2>& scale, bool bilinear,
                     bool align_corners) {
  const UpsampleShape s = upsample_shape(function, like, scale, bilinear, align_corners);
  const Index OH = s.H * s.scale_h, OW = s.W * s.scale_w;
  return image_layer(
      {s.planes, s.H, s.W}, {s.planes, OH, OW}, double(s.planes) * double(OH) * double(OW) / 4,
      [=](const auto& k, In x, Out out, Out, Index N) { k.upsample_forward(x, out, of_images(s, N)); },
      [=](const auto& k, In dout, In, Out dx, Index N) { k.upsample_backward(dout, dx, of_images(s, N)); });
}

}  // namespace cnnlib
