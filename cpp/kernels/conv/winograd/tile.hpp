// A tile in two dimensions: the transforms along its axes, its sizes, and its own transforms, which go down
// the columns and then across the rows.
#pragma once

#include "kernels/conv/winograd/transforms.hpp"

namespace cnnlib::CNNLIB_ISA {

// One axis of a tile: `outs` outputs of `taps` taps from `ins` inputs, which move on by `step` to the next
// tile. The last points may share their filter; its largest F(M, K) has `interpolated` points.
struct AxisSizes {
  Index taps, outs, ins, step, points, filters, interpolated;
};
template <int K, int M>
struct Axis {
  static constexpr int outs = K == 1 ? 1 : M, points = outs + K - 1;
  static constexpr AxisSizes sizes = {K, outs, points, outs, points, points, points};
  template <class T>
  using Transform = Winograd<T, K, outs>;
};
template <int K, int M>
struct StridedAxis {
  static constexpr int points = 2 * M + K - 2, filters = K == 3 ? M + 2 : points,
                       interpolated = M + (K - 1) / 2;
  static constexpr AxisSizes sizes = {K, M, points, 2 * M, points, filters, interpolated};
  template <class T>
  using Transform = StridedWinograd<T, K, M>;
};
template <int K, int M>
struct StridedInputAxis : StridedAxis<K, M> {
  using Forward = StridedAxis<K, M>;
  static constexpr AxisSizes sizes = {
      K, 2 * M, M + K / 2, M, Forward::points, Forward::filters, Forward::interpolated};
  template <class T>
  using Transform = StridedInputWinograd<T, K, M>;
};

// What the loops around the transforms have to know of a tile.
struct TileSizes {
  AxisSizes h, w;

  constexpr Index taps() const { return h.taps * w.taps; }
  Index points() const { return h.points * w.points; }
  Index filters() const { return h.filters * w.filters; }
  Index interpolated() const { return std::max(h.interpolated, w.interpolated); }
  // The first point that has a filter.
  Index first_point(Index filter) const { return filter / w.filters * w.points + filter % w.filters; }
  // Calls run(point, whether it is the first) for the points that have filter (row, col).
  template <class Run>
  void each_point_of(Index row, Index col, const Run& run) const {
    const Index last_i = row + 1 < h.filters ? row + 1 : h.points;
    const Index last_j = col + 1 < w.filters ? col + 1 : w.points;
    for (Index i = row; i < last_i; ++i)
      for (Index j = col; j < last_j; ++j) run(i * w.points + j, i == row && j == col);
  }
  // Calls run(point, its filter, whether it is the first that has this filter) for all points.
  template <class Run>
  void each_point(const Run& run) const {
    for (Index row = 0; row < h.filters; ++row)
      for (Index col = 0; col < w.filters; ++col)
        each_point_of(row, col, [&](Index point, bool first) { run(point, row * w.filters + col, first); });
  }
};

template <class Down, class Across>
struct TileOf {
  using DownAxis = Down;
  using AcrossAxis = Across;
  static constexpr TileSizes sizes = {Down::sizes, Across::sizes};
};

// The tile of a KH x KW kernel at stride 1 with `outs` outputs along every side of more than one tap.
template <int KH, int KW, int outs>
using Tile = TileOf<Axis<KH, outs>, Axis<KW, outs>>;
// Those of a K x K kernel at stride 2.
template <int K, int outs>
using StridedTile = TileOf<StridedAxis<K, outs>, StridedAxis<K, outs>>;
template <int K, int outs>
using StridedInputTile = TileOf<StridedInputAxis<K, outs>, StridedInputAxis<K, outs>>;

// The transforms of a tile: load(i, j) and store(i, j, packet).
template <class T, class K>
class TileTransforms {
  using Packet = typename Simd<T>::Packet;
  using Down = typename K::DownAxis::template Transform<T>;
  using Across = typename K::AcrossAxis::template Transform<T>;

  // step(transforms, in, out) for each column, then for each row; of a line there is one alone. Columns are
  // taken by a loop, whose code is half as large, or written out.
  template <int from_w, int to_h, bool write_out = false, class Step, class Load, class Store>
  [[gnu::always_inline]] static void both(const Step& step, const Load& load, const Store& store) {
    if constexpr (K::sizes.h.taps == 1) {
      step(Across(), [&](int j) { return load(0, j); }, [&](int j, Packet v) { store(0, j, v); });
    } else if constexpr (K::sizes.w.taps == 1) {
      step(Down(), [&](int i) { return load(i, 0); }, [&](int i, Packet v) { store(i, 0, v); });
    } else {
      Packet half[to_h][from_w];
      const auto column = [&](int j) __attribute__((always_inline)) {
        step(Down(), [&](int i) { return load(i, j); }, [&](int i, Packet v) { half[i][j] = v; });
      };
      if constexpr (write_out) {
#pragma GCC unroll 8
        for (int j = 0; j < from_w; ++j) column(j);
      } else {
#pragma GCC unroll 1
        for (int j = 0; j < from_w; ++j) column(j);
      }
      const auto row = [&](int i) __attribute__((always_inline)) {
        step(Across(), [&](int j) { return half[i][j]; }, [&](int j, Packet v) { store(i, j, v); });
      };
      if constexpr (to_h > 9) {
#pragma GCC unroll 1  // so are many rows, while few are faster
        for (int i = 0; i < to_h; ++i) row(i);
      } else {
#pragma GCC unroll 9
        for (int i = 0; i < to_h; ++i) row(i);
      }
    }
  }

 public:
  template <bool write_out, class Load, class Store>
  static void input(const Load& load, const Store& store) {
    both<K::sizes.w.ins, K::sizes.h.points, write_out>(
        [](auto line, const auto& d, const auto& out) { line.input(d, out); }, load, store);
  }
  template <class Load, class Store>
  static void output(const Load& load, const Store& store) {
    both<K::sizes.w.points, K::sizes.h.outs>(
        [](auto line, const auto& m, const auto& out) { line.output(m, out); }, load, store);
  }
  template <bool write_out, class Load, class Store>
  static void gradient(const Load& load, const Store& store) {
    both<K::sizes.w.outs, K::sizes.h.points, write_out>(
        [](auto line, const auto& y, const auto& out) { line.gradient(y, out); }, load, store);
  }
  template <class Load, class Store>
  static void filter(const Load& load, const Store& store) {
    both<K::sizes.w.taps, K::sizes.h.filters>(
        [](auto line, const auto& g, const auto& out) { line.filter(g, out); }, load, store);
  }
  template <class Load, class Store>
  static void filter_gradient(const Load& load, const Store& store) {
    both<K::sizes.w.filters, K::sizes.h.taps>(
        [](auto line, const auto& s, const auto& out) { line.filter_gradient(s, out); }, load, store);
  }
};

}  // namespace cnnlib::CNNLIB_ISA
