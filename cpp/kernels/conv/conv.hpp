// Convolution forward, dx and dw: chooses the algorithm.
#pragma once

#include "kernels/conv/depthwise/gradients.hpp"
#include "kernels/conv/first_layer/gradients.hpp"
#include "kernels/conv/strided_1x1.hpp"
#include "kernels/conv/weight_gradient/weight_gradient.hpp"
#include "kernels/conv/winograd/winograd.hpp"
#include "kernels/gemm/operands.hpp"

namespace cnnlib::CNNLIB_ISA {

// Winograd's method saves up to five multiplications of six and pays for it with transforms, which weigh
// less the more channels and filters share them; lanes without a channel or a filter cost as much as others.
// The limits are measured ones. The batch has no say: an image's result must not depend on the images beside
// it.
template <class T, Pass pass>
bool use_winograd(const ConvShape& s) {
  constexpr Index lanes = Simd<T>::size;
  if (s.algorithm != Algorithm::automatic) return s.algorithm == Algorithm::winograd;
  if (!winograd_fits(s)) return false;
  const Index C = s.C / s.groups, F = s.F / s.groups, pairs = C * F;
  const bool line = s.KH == 1 || s.KW == 1;
  constexpr bool forward = pass == Pass::forward, dw = pass == Pass::weight_gradient;
  if (line ? pairs < 128 * lanes : pairs < 64 || 2 * std::min(C, F) < lanes) return false;
  const auto filled = [](Index n, Index width) { return (n + width - 1) / width * width; };
  const Index narrow = forward ? C : F, wide = forward ? F : C;
  const TileShape shape = tile_shape<pass>(s);
  double tiles = 0, direct = 1.0 * shape.OH * shape.OW * s.KH * s.KW;  // products for each channel and filter
  if (pass == Pass::input_gradient) direct /= s.stride_h * s.stride_w;
  with_tile<pass>(s, [&](auto tile) { tiles = tile_products(shape, tile.sizes); });
  const double gain =
      direct * pairs / (tiles * filled(narrow, lanes) * filled(wide, wide <= lanes ? lanes : tile_lanes<T>));
  if (line) return gain >= 1.5;
  if (s.stride_h == 2) {
    // The products, the transforms of tiles and those of filters, as parts of the direct products. Transforms
    // of doubles outgrow the second-level cache sooner, but so does direct convolution with the largest
    // weights.
    const double of_tiles = (dw ? 12 : 6) * (1.0 / C + 1.0 / F),
                 of_filters = (dw ? 16.0 : 4.0) / (s.OH * s.OW);
    const bool cached = pairs * s.KH * s.KW * Index(sizeof(T)) <= 16 << 20;
    return 1 / gain + of_tiles + of_filters < (sizeof(T) == 8 && cached ? 0.8 : 0.95);
  }
  if (s.KH == 5) return gain >= (forward ? 1.9 : 1.7);
  if (dw) return gain >= (pairs < 256 ? 1.7 : 1);
  return gain >= (pairs < 256 ? 3 : 1.59);
}

// Whether every channel has filters of its own. (A single channel with many filters is a matrix product.)
inline bool depthwise(const ConvShape& s) {
  return s.N > 0 && s.groups == s.C && (s.C > 1 || s.F == 1) && s.algorithm != Algorithm::winograd;
}

// Whether the kernel covers the whole image, once: the convolution is an affine layer.
inline bool covers_image(const ConvShape& s) {
  const auto whole = [](Index out, Index size, Index K, Index pad, Index dilation) {
    return out == 1 && size == K && pad == 0 && (K == 1 || dilation == 1);
  };
  return s.groups == 1 && s.algorithm != Algorithm::winograd &&
         whole(s.OH, s.H, s.KH, s.pad_top, s.dilation_h) && whole(s.OW, s.W, s.KW, s.pad_left, s.dilation_w);
}

// Whether dw of a 1x1 kernel is a small matrix of long dot products, for which nothing has to be turned, and
// whose blocks of positions keep every thread busy. In float64 memory is slower still, and nothing is gained.
template <class T>
bool long_dots(const ConvShape& s) {
  constexpr Index most = 64, most_beside = 256, most_pairs = 4800, fewest_positions = 512,
                  fewest_in_all = 2048;
  const Index C = s.C / s.groups, F = s.F / s.groups, positions = s.OH * s.OW;
  const bool small = C <= most ? F <= most_beside : F <= most && C * F <= most_pairs;
  return sizeof(T) == 4 && s.N > 0 && pointwise(s) && C > 1 && small && positions >= fewest_positions &&
         s.N * positions >= fewest_in_all;
}

// Whether the weights take so many bytes that the input is worth gathering for them.
template <class T>
bool many_weights(const ConvShape& s, Index bytes) {
  return s.C / s.groups * s.F * Index{sizeof(T)} >= bytes;
}
inline bool few_points(const ConvShape& s) { return s.OH * s.OW < 64; }

// Calls body with the kind of vectors that suits the images: rows of less than two cache lines leave too many
// lanes and too much work at their ends.
template <class T, class Body>
void with_depthwise_lanes(const ConvShape& s, const Body& body) {
  if (s.W * Index{sizeof(T)} < 128 && s.C > Simd<T>::size / 2)
    body(ChannelLanes<T>());
  else
    body(RowLanes<T>());
}

inline double conv_work(const ConvShape& s) {
  return 2.0 / 16 * s.N * s.F * (s.C / s.groups) * s.KH * s.KW * s.OH * s.OW;
}

// A batch cut into slices.
struct BatchSlices {
  Index N, count;

  Index first(Index slice) const { return N * slice / count; }
  Index most_images() const { return (N + count - 1) / count; }

  // body(slice, first image, shape of the slice) for all slices, each on one thread.
  template <class Body>
  void each(const ConvShape& s, double work, const Body& body) const {
    each_on_its_own(count, threads_for(work), [&](Index slice) {
      ConvShape part = s;
      part.N = first(slice + 1) - first(slice);
      body(slice, first(slice), part);
    });
  }
};

// body(first image, shape) for the batch, or for a slice of it on each thread, which then packs all weights
// for itself: where it is expensive to read what others packed, the slices are large and the weights are not.
// Where these outweigh the input, the threads share out the filters instead, unless it has to be gathered.
template <class T, class Body>
void by_images(const ConvShape& s, Pass pass, const Body& body) {
  constexpr Index fewest_positions = 64;
  constexpr double most_bytes = 8 << 20;
  const int threads = threads_for(conv_work(s));
  const double bytes = 1.0 * s.F * (s.C / s.groups) * s.KH * s.KW * sizeof(T);
  const bool outweighed =
      s.groups == 1 && !strided_points(s) &&
      (pass == Pass::forward ? filters_outweigh_input<T>(s.F, s.KH * s.KW, s.N * s.H * s.W, threads)
                             : filters_outweigh_input<T>(s.C, s.KH * s.KW, s.N * s.OH * s.OW, threads));
  const bool even = s.N % threads == 0 || s.N >= 8 * threads;
  if (threads == 1 || !even || s.N / threads * s.OH * s.OW < fewest_positions || bytes > most_bytes ||
      outweighed || !sharing_is_expensive(threads))
    return body(0, s);
  BatchSlices{s.N, threads}.each(s, conv_work(s),
                                 [&](Index, Index first, const ConvShape& part) { body(first, part); });
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
  if (s.N > 0 && use_winograd<T, Pass::forward>(s)) return forward_winograd(x, w, b, out, s, relu);
  by_images<T>(s, Pass::forward, [&](Index first, const ConvShape& part) {
    const T* images = x + first * s.C * s.H * s.W;
    T* to = out + first * s.F * s.OH * s.OW;
    if (!strided_points(s) || !many_weights<T>(s, 1 << 19))
      return forward_direct(images, w, b, to, part, relu);
    Layout layout;
    const auto piece = layout.array<T>(checked_product(part.N * s.C, s.OH * s.OW));
    const Scratch scratch(layout.bytes());
    T* points = piece.in(scratch.data());
    gather_points(images, part, points);
    conv_forward<T>(points, w, b, to, gathered(part), relu);
  });
}

template <class T>
void input_gradient(const T* dout, const T* w, const T* b, T* dx, const ConvShape& s) {
  if (s.N > 0 && use_winograd<T, Pass::input_gradient>(s)) return input_gradient_winograd(dout, w, b, dx, s);
  by_images<T>(s, Pass::input_gradient, [&](Index first, const ConvShape& part) {
    input_gradient_direct(dout + first * s.F * s.OH * s.OW, w, b, dx + first * s.C * s.H * s.W, part);
  });
}

template <class T>
void weight_gradient(const T* x, const T* dout, T* dw, T*& db, const ConvShape& s) {
  if (s.N > 0 && use_winograd<T, Pass::weight_gradient>(s)) {
    if (dw != nullptr) weight_gradient_winograd(x, dout, dw, s);
    return;
  }
  weights_direct(x, dout, dw, db, s);
}

// Any of dx, dw and db may be null: not wanted. With a bias (C,), dx is the transposed convolution of dout.
template <class T>
void conv_backward(const T* x, const T* w, const T* dout, const T* b, T* dx, T* dw, T* db,
                   const ConvShape& s) {
  if (depthwise(s))
    return with_depthwise_lanes<T>(
        s, [&](auto lanes) { gradients_depthwise<T, decltype(lanes)>(x, w, dout, b, dx, dw, db, s); });
  const bool gather = dw != nullptr && strided_points(s) && many_weights<T>(s, 1 << 20);
  const bool spread = dx != nullptr && strided_points(s) && !few_points(s);
  if (gather || spread) {
    Layout layout;
    const auto piece = layout.array<T>(checked_product(s.N * s.C, s.OH * s.OW));
    const Scratch scratch(layout.bytes());
    T* points = piece.in(scratch.data());
    if (gather) {
      gather_points(x, s, points);
      weight_gradient(points, dout, std::exchange(dw, nullptr), db, gathered(s));
    }
    if (spread) {
      input_gradient(dout, w, b, points, gathered(s));
      spread_points(points, b, s, std::exchange(dx, nullptr));
    }
  }
  if (covers_image(s) && b == nullptr) {
    const Index D = s.C * s.KH * s.KW;
    if (dx != nullptr) matrix_product<T>({{dout, s.F, 1}, {w, D, 1}, nullptr, false, dx, s.N, D, s.F});
    if (dw != nullptr) matrix_product<T>({{dout, 1, s.F}, {x, D, 1}, nullptr, false, dw, s.F, D, s.N});
    if (db != nullptr) bias_gradient(dout, db, s.N, s.F, 1);
    return;
  }
  if (s.N > 0 && few_channels<T>(s) && !use_winograd<T, Pass::input_gradient>(s)) {
    if ((dw != nullptr || db != nullptr) && tap_rows_suit<T>(s))
      weights_direct(x, dout, std::exchange(dw, nullptr), db, s);
    if (dx != nullptr && few_filters(s)) input_gradient(dout, w, b, std::exchange(dx, nullptr), s);
    if (dx != nullptr || dw != nullptr || db != nullptr) gradients_few_channels(x, w, dout, b, dx, dw, db, s);
    return;
  }
  if ((dw != nullptr || db != nullptr) && long_dots<T>(s))
    gradients_few_channels<T>(x, w, dout, b, nullptr, std::exchange(dw, nullptr), std::exchange(db, nullptr),
                              s);
  if (dx != nullptr) input_gradient(dout, w, b, dx, s);
  if (dw != nullptr || db != nullptr) weight_gradient(x, dout, dw, db, s);
  if (db != nullptr) bias_gradient(dout, db, s.N, s.F, s.OH * s.OW);
}

}  // namespace cnnlib::CNNLIB_ISA
