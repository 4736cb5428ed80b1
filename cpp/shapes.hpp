// Plain data that crosses the border between the bindings and the kernels.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace cnnlib {

using Index = std::ptrdiff_t;

// The smallest whole number that is at least a / b, for a >= 0 and b > 0.
constexpr Index ceil_div(Index a, Index b) { return (a + b - 1) / b; }
// The smallest multiple of b that is at least a.
constexpr Index round_up(Index a, Index b) { return ceil_div(a, b) * b; }

// The size of equal parts of `total`, of whole `unit`s where there are several, that are no larger than
// `most`.
inline Index even_part(Index total, Index most, Index unit = 1) {
  const Index parts = ceil_div(total, most), part = ceil_div(total, parts);
  return parts == 1 ? total : round_up(part, unit);
}

// Indices [first, last).
struct Range {
  Index first, last;
};
// Number i of so many parts of `total`, as equal as can be.
constexpr Range range_of(Index total, Index i, Index parts) {
  return {total * i / parts, total * (i + 1) / parts};
}

enum class Pass { forward, input_gradient, weight_gradient };

// The ways to compute a convolution, and two wishes: `automatic`, the cheapest that fits, and `direct`, the
// cheapest but Winograd's. kernels/conv/plan.hpp has the table of them.
enum class Method {
  automatic,
  direct,
  winograd,
  winograd_rows,
  matrix_product,
  depthwise_rows,
  depthwise_channels,
  pixel_lanes,
  filter_lanes,
  position_panels,
  gathered,
  single_row,
  col2im,
  dot_products,
  shared_panels,
  tap_rows,
  count
};
constexpr const char* method_names[] = {
    "auto",           "direct",          "winograd",           "winograd-rows",
    "matrix-product", "depthwise-rows",  "depthwise-channels", "pixel-lanes",
    "filter-lanes",   "position-panels", "gathered",           "single-row",
    "col2im",         "dot-products",    "shared-panels",      "tap-rows"};
static_assert(sizeof(method_names) / sizeof(*method_names) == static_cast<int>(Method::count));

// Functions of one element that one kernel serves.
enum class Activation {
  relu,
  leaky_relu,
  relu6,
  sigmoid,
  tanh,
  silu,
  hard_sigmoid,
  hard_swish,
  gelu,
  gelu_tanh,
  elu,
  count
};
constexpr const char* activation_names[] = {"relu", "leaky_relu", "relu6",        "sigmoid",
                                            "tanh", "silu",       "hard_sigmoid", "hard_swish",
                                            "gelu", "gelu_tanh",  "elu"};
static_assert(sizeof(activation_names) / sizeof(*activation_names) == static_cast<int>(Activation::count));
// Whether the gradient is taken from the result, not from x.
inline bool from_result(Activation kind) { return kind == Activation::sigmoid || kind == Activation::tanh; }
// Whether it takes no longer than reading and writing it does.
inline bool is_cheap(Activation kind) { return kind == Activation::relu || kind == Activation::leaky_relu; }

// What becomes of two values of one shape, element by element; add_relu is the ReLU of the sum.
enum class Join { add, add_relu, multiply };

// Losses of values and targets of one shape.
enum class PointwiseLoss { mse, l1, huber, bce };

// out (N, F, OH, OW) = x (N, C, H, W) correlated with w (F, C / groups, KH, KW).
// Tap kh of output row oh reads input row oh * stride_h + kh * dilation_h - pad_top.
struct ConvShape {
  Index N, C, H, W;
  Index F, KH, KW;
  Index OH, OW;
  Index stride_h, stride_w;
  Index pad_top, pad_left;
  Index dilation_h, dilation_w;
  Index groups;
};

// But for the number of images.
inline bool same_images(const ConvShape& a, const ConvShape& b) {
  return std::memcmp(&a.C, &b.C, sizeof a - offsetof(ConvShape, C)) == 0;
}

// An inverted residual: x (N, C, H, W) through a 1x1 convolution to the hidden channels, a depthwise one of
// these, and a 1x1 convolution to out (N, F, OH, OW).
struct InvertedResidualShape {
  Index N, C, F;
  ConvShape depthwise;  // of one image; C = F = hidden channels
};

// A window of PH x PW slides over every plane of x (N, C, H, W); `planes` is N * C. Or OH x OW windows cover
// the plane evenly, whatever its size: `adaptive`, which is even_pool() where all have one size.
struct PoolShape {
  Index planes, H, W;
  Index PH, PW;
  Index OH, OW;
  Index stride_h, stride_w;
  Index pad_top, pad_left;
  Index pad_bottom, pad_right;
  Index dilation_h, dilation_w;
  bool count_include_pad;
  bool sums = false;  // of windows instead of their means
  bool adaptive = false;

  // Whether windows have several sizes.
  bool uneven() const { return adaptive && (H % OH != 0 || W % OW != 0); }
  // The bytes of a winner of max pooling: its position in the window, or the type's largest number; in the
  // plane where windows are adaptive.
  Index winner_bytes() const { return adaptive ? 8 : PH * PW >= UINT8_MAX ? 4 : 1; }
};

// The pool whose OH x OW windows of PH x PW lie side by side.
inline PoolShape even_pool(Index planes, Index OH, Index OW, Index PH, Index PW) {
  PoolShape s{};
  s.planes = planes;
  s.H = OH * PH;
  s.W = OW * PW;
  s.OH = OH;
  s.OW = OW;
  s.PH = s.stride_h = PH;
  s.PW = s.stride_w = PW;
  s.dilation_h = s.dilation_w = 1;
  return s;
}

// x (planes, H, W), out (planes, H * scale_h, W * scale_w).
struct UpsampleShape {
  Index planes, H, W, scale_h, scale_w;
  bool bilinear;       // else pixels are repeated
  bool align_corners;  // of interpolation
};

// x seen as (N, C, S): statistics over N and S for each of C channels (batch norm), where a
// fully connected layer has S = 1 and an image layer has S = H * W.
struct BatchNormShape {
  Index N, C, S;
};

// x seen as (rows, channels, S): statistics over each row's channels * S values (layer and group
// norm); channel c of row r has the affine parameters (r * channels + c) % C. Where an image has several
// `pixels`, each is a row of its C channels, and x is (rows / pixels, C, pixels).
struct RowNormShape {
  Index rows, channels, S, C;
  Index pixels = 1;
};

// out (N, M) = x (N, D) * w (D, M), which may lie transposed in memory, as (M, D).
struct DenseShape {
  Index N, D, M;
  bool transposed;
};

// c (count, M, N) = a (count, M, K) * b (count, K, N).
struct MatmulShape {
  Index count, M, N, K;
};

// out (N, heads, L, Dv) = softmax(scale * q k^T + bias) v with q (N, heads, L, D), k (N, kv_heads, S, D) and
// v (N, kv_heads, S, Dv): as many heads in a row share one of k and v. Each axis of the bias has the size of
// the scores' (N, heads, L, S), or 1.
struct AttentionShape {
  Index N, heads, kv_heads;
  Index L, S, D, Dv;
  Index bias[4];
  double scale;
  bool causal;  // query i looks at keys 0 to i
};

}  // namespace cnnlib
