// The transforms of F(4, K) along a row of tiles. Vectors run along what is next to each other in memory:
// tiles of images, filters of weights.
#pragma once

#include "kernels/conv/winograd/transforms.hpp"
#include "kernels/gemm/micro_kernel.hpp"
#include "shapes.hpp"

namespace cnnlib::CNNLIB_ISA {

// Outputs of a tile: four vectors of tiles are joined to, and split from, four vectors of a row of pixels.
constexpr Index row_outs = 4;
constexpr Index most_row_points = 10;  // of F(4, 7)

// Where the outputs of a block of filters and a product's vectors of tiles go: rows of pixels `step` apart.
template <class T>
struct RowTarget {
  T* to;
  Index step;
  const T* bias;  // of the block's filters, or null
  Clamp<T> activation;
};

// The transforms of a K for the loops around them, which are the same for all.
template <class T>
struct RowTile {
  Index taps, points;
  void (*inputs)(const T* const* d, Index n, T* values, Index step);
  void (*outputs)(const T* products, Index step, Index filters, const RowTarget<T>& target);
  void (*gradients)(const T* row, Index vectors, T* values, Index step, T* total);
  void (*filters)(const T* g, T* values);
  void (*filter_gradients)(const T* s, T* taps);
};

template <class T, int K>
struct RowTransforms {
  using S = Simd<T>;
  using Packet = typename S::Packet;
  using Line = Winograd<T, K, row_outs>;
  static constexpr Index lanes = S::size, points = K + row_outs - 1;

  // values[point * step + i] = B' d of tile i < n, whose inputs are d[j][i]; whole vectors are written.
  static void inputs(const T* const* d, Index n, T* values, Index step) {
    for (Index i = 0; i < n; i += lanes)
      Line::input([&](int j) { return S::load(d[j] + i); },
                  [&](int p, Packet v) { S::store(values + p * step + i, v); });
  }

  // A' m of `filters` filters and a product's vectors of tiles, products[point * step][filter][tile].
  static void outputs(const T* products, Index step, Index filters, const RowTarget<T>& target) {
    for (Index m = 0; m < filters; ++m) {
      const Packet bias = target.bias != nullptr ? S::fill(target.bias[m]) : S::zero();
      for (Index v = 0; v < tile_vectors; ++v, products += lanes) {
        Packet out[row_outs], pair[row_outs];
        Line::output([&](int p) { return S::load(products + p * step); },
                     [&](int j, Packet sum) { out[j] = clamp(target.activation, S::add(sum, bias)); });
        S::join_pairs(out[0], out[2], pair[0], pair[1]);
        S::join_pairs(out[1], out[3], pair[2], pair[3]);
        T* to = target.to + m * target.step + v * row_outs * lanes;
        S::store_pairs(to, pair[0], pair[2]);
        S::store_pairs(to + 2 * lanes, pair[1], pair[3]);
      }
    }
  }

  // values[point * step + i] = A y of tile i, of `vectors` vectors of tiles, whose gradients are the pixels
  // of a row; their sum is added to `total`, lane by lane.
  static void gradients(const T* row, Index vectors, T* values, Index step, T* total) {
    Packet sum = S::load(total);
    for (Index i = 0; i < vectors; ++i, row += row_outs * lanes, values += lanes) {
      Packet even[2], odd[2], y[row_outs];
      S::load_pairs(row, even[0], odd[0]);
      S::load_pairs(row + 2 * lanes, even[1], odd[1]);
      S::split_pairs(even[0], even[1], y[0], y[2]);
      S::split_pairs(odd[0], odd[1], y[1], y[3]);
      sum = S::add(sum, S::add(S::add(y[0], y[1]), S::add(y[2], y[3])));
      Line::gradient([&](int j) { return y[j]; }, [&](int p, Packet v) { S::store(values + p * step, v); });
    }
    S::store(total, sum);
  }

  // values[point][lane] = G g, of taps g[tap][lane].
  static void filters(const T* g, T* values) {
    Line::filter([&](int j) { return S::load(g + j * lanes); },
                 [&](int p, Packet v) { S::store(values + p * lanes, v); });
  }
  // The adjoint: taps[tap][lane] = G' s, of sums s[point][lane].
  static void filter_gradients(const T* s, T* taps) {
    Line::filter_gradient([&](int p) { return S::load(s + p * lanes); },
                          [&](int j, Packet v) { S::store(taps + j * lanes, v); });
  }

  static constexpr RowTile<T> tile = {K, points, &inputs, &outputs, &gradients, &filters, &filter_gradients};
};

// Taps of a row's tile: at a stride, columns that agree modulo it are a convolution of their own.
inline Index row_taps(const ConvShape& s) { return ceil_div(s.KW, s.stride_w); }
inline Index row_points(const ConvShape& s) { return row_taps(s) + row_outs - 1; }
// What a product sums over: channels, kernel rows and phases of the columns.
inline Index row_terms(const ConvShape& s) { return s.C / s.groups * s.KH * s.stride_w; }

inline bool has_row_tile(Index taps) { return taps == 3 || taps == 4 || taps == 5 || taps == 7; }
template <class T>
const RowTile<T>& row_tile_of(const ConvShape& s) {
  switch (row_taps(s)) {
    case 3: return RowTransforms<T, 3>::tile;
    case 4: return RowTransforms<T, 4>::tile;
    case 5: return RowTransforms<T, 5>::tile;
    default: return RowTransforms<T, 7>::tile;
  }
}

}  // namespace cnnlib::CNNLIB_ISA
