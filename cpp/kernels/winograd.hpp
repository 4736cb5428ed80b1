// Winograd's minimal filtering F(4x4, 3x3): 3x3 convolutions at stride 1 with 36 multiplications for 16
// outputs instead of 144. Lavin, Gray: "Fast Algorithms for Convolutional Neural Networks", 2015.
//
//   out tile (4x4) = A' [ (G g G') . (B' d B) ] A    summed over channels inside the brackets,
//
// where d is a 6x6 input tile and g a filter. The matrices come from interpolation at 0, +-a, +-b and
// infinity. a = 5/8 and b = 5/4 are exact in binary and lose several times less precision than the
// usual 1 and 2. Vectors run along channels (input side) and filters (output side), so that no
// transform needs a shuffle.
#pragma once

#include "../parallel.hpp"
#include "correlate.hpp"
#include "spread_tile.hpp"

namespace cnnlib::CNNLIB_ISA {

constexpr Index tile_out = 4, tile_in = 6, tile_points = tile_in * tile_in;

// The one-dimensional transforms, on vectors of independent values.
template <class T>
struct Winograd {
  using S = Simd<T>;
  using Packet = typename S::Packet;
  static constexpr double a = 0.625, b = 1.25;
  static constexpr double aa = a * a, bb = b * b;

  static Packet fma(double k, Packet x, Packet y) { return S::fma(S::fill(T(k)), x, y); }
  static Packet mul(double k, Packet x) { return S::mul(S::fill(T(k)), x); }

  // B' d: six inputs to six points.
  template <class In, class Out>
  static void input(const In& d, const Out& out) {
    const Packet d0 = d(0), d1 = d(1), d2 = d(2), d3 = d(3), d4 = d(4), d5 = d(5);
    const Packet even_a = fma(-bb, d2, d4), odd_a = fma(-bb, d1, d3);
    const Packet even_b = fma(-aa, d2, d4), odd_b = fma(-aa, d1, d3);
    out(0, fma(aa * bb, d0, fma(-(aa + bb), d2, d4)));
    out(1, fma(a, odd_a, even_a));
    out(2, fma(-a, odd_a, even_a));
    out(3, fma(b, odd_b, even_b));
    out(4, fma(-b, odd_b, even_b));
    out(5, fma(aa * bb, d1, fma(-(aa + bb), d3, d5)));
  }

  // A' m: six points to four outputs.
  template <class In, class Out>
  static void output(const In& m, const Out& out) {
    const Packet m1 = m(1), m2 = m(2), m3 = m(3), m4 = m(4);
    const Packet sum_a = S::add(m1, m2), sum_b = S::add(m3, m4);
    const Packet diff_a = S::sub(m1, m2), diff_b = S::sub(m3, m4);
    out(0, S::add(m(0), S::add(sum_a, sum_b)));
    out(1, fma(a, diff_a, mul(b, diff_b)));
    out(2, fma(aa, sum_a, mul(bb, sum_b)));
    out(3, fma(a * aa, diff_a, fma(b * bb, diff_b, m(5))));
  }

  // A y, the adjoint of `output`: four output gradients to six points.
  template <class In, class Out>
  static void gradient(const In& y, const Out& out) {
    const Packet y0 = y(0), y1 = y(1), y2 = y(2), y3 = y(3);
    const Packet even_a = fma(aa, y2, y0), odd_a = fma(aa, y3, y1);
    const Packet even_b = fma(bb, y2, y0), odd_b = fma(bb, y3, y1);
    out(0, y0);
    out(1, fma(a, odd_a, even_a));
    out(2, fma(-a, odd_a, even_a));
    out(3, fma(b, odd_b, even_b));
    out(4, fma(-b, odd_b, even_b));
    out(5, y3);
  }

  static constexpr double scale_0 = 1 / (aa * bb), scale_a = 1 / (2 * aa * (aa - bb)),
                          scale_b = 1 / (2 * bb * (bb - aa));

  // G g: three taps to six points.
  template <class In, class Out>
  static void filter(const In& g, const Out& out) {
    const Packet g0 = g(0), g1 = g(1), g2 = g(2);
    const Packet even_a = mul(scale_a, fma(aa, g2, g0)), odd_a = mul(scale_a * a, g1);
    const Packet even_b = mul(scale_b, fma(bb, g2, g0)), odd_b = mul(scale_b * b, g1);
    out(0, mul(scale_0, g0));
    out(1, S::add(even_a, odd_a));
    out(2, S::sub(even_a, odd_a));
    out(3, S::add(even_b, odd_b));
    out(4, S::sub(even_b, odd_b));
    out(5, g2);
  }

  // G' s, the adjoint of `filter`: six points to three taps.
  template <class In, class Out>
  static void filter_gradient(const In& s, const Out& out) {
    const Packet s1 = s(1), s2 = s(2), s3 = s(3), s4 = s(4);
    const Packet sum_a = mul(scale_a, S::add(s1, s2)), sum_b = mul(scale_b, S::add(s3, s4));
    out(0, fma(scale_0, s(0), S::add(sum_a, sum_b)));
    out(1, fma(scale_a * a, S::sub(s1, s2), mul(scale_b * b, S::sub(s3, s4))));
    out(2, fma(aa, sum_a, fma(bb, sum_b, s(5))));
  }
};

// A two-dimensional transform from its one-dimensional step: columns, then rows.
template <class T, int In, int Out, class Step, class Load, class Store>
inline void transform_2d(const Step& step, const Load& load, const Store& store) {
  typename Simd<T>::Packet half[Out][In];
#pragma GCC unroll 6
  for (int j = 0; j < In; ++j)
    step([&](int i) { return load(i, j); }, [&](int i, typename Simd<T>::Packet v) { half[i][j] = v; });
#pragma GCC unroll 6
  for (int i = 0; i < Out; ++i)
    step([&](int j) { return half[i][j]; }, [&](int j, typename Simd<T>::Packet v) { store(i, j, v); });
}

// Output tiles in the order image, row, column.
struct TileGrid {
  Index rows, cols, per_image, count;
  TileGrid(Index N, Index OH, Index OW)
      : rows((OH + tile_out - 1) / tile_out),
        cols((OW + tile_out - 1) / tile_out),
        per_image(rows * cols),
        count(N * per_image) {}

  // Calls run(image, row, first column, tiles, first tile - begin) for each run of tiles in one row.
  template <class Run>
  void each_run(Index begin, Index end, const Run& run) const {
    for (Index t = begin; t < end;) {
      const Index image = t / per_image, row = t % per_image / cols, col = t % cols;
      const Index tiles = std::min(end - t, cols - col);
      run(image, row, col, tiles, t - begin);
      t += tiles;
    }
  }
};

// Copies rows [top, top + height) x columns [left, left + width) of up to `lanes` planes to
// [position][lane], zero outside the image; lanes without a channel repeat one. `end` is the end of all
// images, and staged has room for another vector of positions.
template <class T>
void stage_patch(const T* planes, Index channels, Index H, Index W, Index top, Index left, Index height,
                 Index width, const T* end, T* staged) {
  constexpr Index lanes = Simd<T>::size;
  const Index first = std::clamp<Index>(-left, 0, width), last = std::clamp<Index>(W - left, first, width);
  for (Index i = 0; i < height; ++i) {
    T* to = staged + i * width * lanes;
    const Index line = top + i;
    if (line < 0 || line >= H) {
      std::memset(to, 0, width * lanes * sizeof(T));
      continue;
    }
    std::memset(to, 0, first * lanes * sizeof(T));
    if (last > first)
      transpose_freely(planes + line * W + left + first, H * W, std::min(channels, lanes), last - first, end,
                       to + first * lanes, lanes);
    std::memset(to + last * lanes, 0, (width - last) * lanes * sizeof(T));
  }
}

// values[point * point_stride + tile * tile_stride + lane]: B' d B of `tiles` tiles of staged rows.
template <class T>
void transform_inputs(const T* staged, Index width, Index tiles, T* values, Index tile_stride,
                      Index point_stride) {
  constexpr Index lanes = Simd<T>::size;
  for (Index t = 0; t < tiles; ++t) {
    const T* from = staged + t * tile_out * lanes;
    T* to = values + t * tile_stride;
    transform_2d<T, tile_in, tile_in>(
        [](const auto& in, const auto& out) { Winograd<T>::input(in, out); },
        [&](int i, int j) { return Simd<T>::load(from + (i * width + j) * lanes); },
        [&](int i, int j, auto v) { Simd<T>::store(to + (i * tile_in + j) * point_stride, v); });
  }
}

// tile[m][v] = (add ? tile[m][v] : 0) + sum over blocks q and lanes c of
//     a[q * block + m * lanes + c] * u[q * lanes + c][v].
template <class T, int R, int V>
void multiply_points(Index blocks, const T* a, Index block, const T* u, T* tile, bool add) {
  constexpr int size = Simd<T>::size;
  SpreadTile<T, R, V> sums;
  for (Index q = 0; q < blocks; ++q, a += block)
    for (int c = 0; c < size; ++c, u += V * size) sums.add_product(a + c, size, u);
  sums.store(tile, add);
}

template <class T>
using PointKernel = void (*)(Index blocks, const T* a, Index block, const T* u, T* tile, bool add);

template <class T, int... R>
constexpr std::array<PointKernel<T>, sizeof...(R)> point_kernels(std::integer_sequence<int, R...>) {
  return {&multiply_points<T, R + 1, tile_vectors>...};
}

template <class T>
PointKernel<T> point_kernel(Index rows) {
  static constexpr auto table = point_kernels<T>(std::make_integer_sequence<int, max_rows>());
  return table[rows - 1];
}

// A 3x3 correlation at stride 1: weight (f, c, tap) at w[f * w_filter + c * w_channel + tap], the taps
// backwards if flipped.
template <class T>
struct TileProblem {
  Index N, C, F, H, W, OH, OW, pad_top, pad_left;
  const T* x;
  const T* w;
  Index w_filter, w_channel;
  bool flipped;
  const T* bias;
  bool relu;
  T* out;
};

// Values of scratch that transform_filters needs: [c][tap][filter] of one square.
template <class T>
constexpr Index filter_taps = (9 * Simd<T>::size + 2 * Simd<T>::size) * Simd<T>::size;

// packed[point][c][filter]: G g G' of one vector of filters (f0 on) and of channels (c0 on); rows of
// `width` filters, zero for channels that do not exist.
template <class T>
void transform_filters(const TileProblem<T>& p, Index f0, Index c0, T* taps, T* packed, Index width,
                       Index point_stride) {
  using S = Simd<T>;
  constexpr Index lanes = S::size;
  const Index filters = std::clamp<Index>(p.F - f0, 0, lanes),
              channels = std::clamp<Index>(p.C - c0, 0, lanes);
  if (filters == 0) std::fill_n(taps, filter_taps<T>, T(0));
  const T* end = p.w + p.F * p.C * 9;
  if (filters > 0 && p.w_channel == 9)
    transpose_freely(p.w + f0 * p.w_filter + c0 * 9, p.w_filter, filters, channels * 9, end, taps, lanes);
  else if (filters > 0)
    for (Index c = 0; c < channels; ++c)
      transpose_freely(p.w + f0 * p.w_filter + (c0 + c) * p.w_channel, p.w_filter, filters, 9, end,
                       taps + c * 9 * lanes, lanes);
  for (Index c = 0; c < lanes; ++c) {
    const T* g = taps + c * 9 * lanes;
    T* to = packed + (c0 + c) * width;
    if (c >= channels) {
      for (Index point = 0; point < tile_points; ++point) S::store(to + point * point_stride, S::zero());
      continue;
    }
    transform_2d<T, 3, tile_in>(
        [](const auto& in, const auto& out) { Winograd<T>::filter(in, out); },
        [&](int i, int j) { return S::load(g + (p.flipped ? 8 - i * 3 - j : i * 3 + j) * lanes); },
        [&](int i, int j, auto v) { S::store(to + (i * tile_in + j) * point_stride, v); });
  }
}

// A' m A of `tiles` tiles of one row and one vector of filters, written to the planes of the filters.
template <class T>
void write_outputs(const TileProblem<T>& p, const T* points, Index point_stride, Index tiles, Index image,
                   Index row, Index col, Index f0) {
  using S = Simd<T>;
  constexpr Index lanes = S::size, together = lanes / tile_out > 0 ? lanes / tile_out : 1;
  constexpr Index span = together * tile_out;  // pixels of a row that are written at once
  const Index filters = std::min(lanes, p.F - f0), plane = p.OH * p.OW;
  T bias[lanes] = {};
  if (p.bias != nullptr) std::copy_n(p.bias + f0, filters, bias);
  const auto start = S::load(bias);
  T pixels[tile_out * span * lanes];  // [row][pixel][filter]
  T turned[lanes * span];
  T* out = p.out + (image * p.F + f0) * plane + row * tile_out * p.OW;
  const Index rows = std::min(tile_out, p.OH - row * tile_out);
  for (Index t = 0; t < tiles; t += together) {
    const Index group = std::min(together, tiles - t);
    for (Index g = 0; g < group; ++g) {
      const T* from = points + (t + g) * tile_lanes<T>;
      transform_2d<T, tile_in, tile_out>(
          [](const auto& in, const auto& o) { Winograd<T>::output(in, o); },
          [&](int i, int j) { return S::load(from + (i * tile_in + j) * point_stride); },
          [&](int i, int j, auto v) {
            v = S::add(v, start);
            S::store(pixels + (i * span + g * tile_out + j) * lanes, p.relu ? S::relu(v) : v);
          });
    }
    const Index left = (col + t) * tile_out, width = std::min(group * tile_out, p.OW - left);
    for (Index r = 0; r < rows; ++r) {
      T* to = out + r * p.OW + left;
      const T* from = pixels + r * span * lanes;
      if (width == lanes && filters == lanes) {
        transpose_square<T>([&](Index i) { return from + i * lanes; }, to, plane);
        continue;
      }
      transpose(from, lanes, span, lanes, turned, span);
      for (Index f = 0; f < filters; ++f)
        for (Index j = 0; j < width; ++j) to[f * plane + j] = turned[f * span + j];
    }
  }
}

// How a call is cut up, and its scratch.
template <class T>
struct TilePlan {
  static constexpr Index lanes = Simd<T>::size, width = tile_lanes<T>;
  Index channel_blocks, channels;  // filled up to whole vectors
  Index panels;                    // of `width` filters
  Index filter_stride;             // between points of a panel
  TileGrid grid;
  int threads;
  Index staged_size;

  explicit TilePlan(const TileProblem<T>& p)
      : channel_blocks((p.C + lanes - 1) / lanes),
        channels(channel_blocks * lanes),
        panels((p.F + width - 1) / width),
        filter_stride(channels * width),
        grid(p.N, p.OH, p.OW),
        threads(threads_for(2.0 / 16 * grid.count * tile_points * channels * panels * width)),
        staged_size((tile_in * (grid.cols * tile_out + 2) + lanes) * lanes) {}

  // values[point][c block][tile][c] of tiles [begin, end) for one block of channels.
  void transform(const TileProblem<T>& p, Index begin, Index end, Index q, T* staged, T* values,
                 Index tiles_stride) const {
    grid.each_run(begin, end, [&](Index image, Index row, Index col, Index tiles, Index at) {
      const Index patch = tiles * tile_out + 2;
      stage_patch(p.x + (image * p.C + q * lanes) * p.H * p.W, p.C - q * lanes, p.H, p.W,
                  row * tile_out - p.pad_top, col * tile_out - p.pad_left, tile_in, patch,
                  p.x + p.N * p.C * p.H * p.W, staged);
      transform_inputs(staged, patch, tiles, values + (q * tiles_stride + at) * lanes, lanes,
                       channels * tiles_stride);
    });
  }

  // Multiplies tiles [begin, end) with one panel of filters and writes the outputs. `values` belongs to
  // tile `begin`, `products` is [point][tile][filter] for `most` tiles.
  void multiply(const TileProblem<T>& p, Index begin, Index end, Index panel, const T* values,
                Index tiles_stride, const T* filters, T* products, Index most) const {
    const Panels tile_panels(end - begin);
    // Sums over many channels are taken in parts, which keeps their rounding errors apart.
    constexpr Index blocks_together = (128 + lanes - 1) / lanes;
    for (Index point = 0; point < tile_points; ++point)
      for (Index q = 0; q < channel_blocks; q += blocks_together)
        for (Index i = 0; i < tile_panels.count; ++i)
          point_kernel<T>(tile_panels.rows(i))(
              std::min(blocks_together, channel_blocks - q),
              values + (point * channels + q * lanes) * tiles_stride + tile_panels.first(i) * lanes,
              tiles_stride * lanes, filters + point * filter_stride + q * lanes * width,
              products + (point * most + tile_panels.first(i)) * width, q > 0);
    for (Index v = 0; v < tile_vectors && panel * width + v * lanes < p.F; ++v)
      grid.each_run(begin, end, [&](Index image, Index row, Index col, Index tiles, Index at) {
        write_outputs(p, products + at * width + v * lanes, most * width, tiles, image, row, col,
                      panel * width + v * lanes);
      });
  }
};

constexpr Index most_tiles = 4 * max_rows;  // of a block

// Many tiles: every thread takes blocks of them, whose transforms stay in its second-level cache while
// all filters, transformed beforehand, pass over them.
template <class T>
void tiles_outside(const TileProblem<T>& p, const TilePlan<T>& plan) {
  constexpr Index cache_bytes = 1 << 20;
  const Index panel_size = tile_points * plan.filter_stride;
  Index block =
      cache_bytes / (tile_points * (plan.channels + plan.width) * Index(sizeof(T))) / max_rows * max_rows;
  block = std::clamp<Index>(block, max_rows, most_tiles);
  if (plan.threads > 1)
    while (block > max_rows && (plan.grid.count + block - 1) / block < 2 * plan.threads) block -= max_rows;
  block = even_part(plan.grid.count, block);
  const Index blocks = (plan.grid.count + block - 1) / block;

  Layout layout;
  const auto filter_piece = layout.array<T>(checked_product(plan.panels, panel_size));
  const auto taps_piece = layout.per_thread<T>(plan.threads, filter_taps<T>);
  const auto staged_piece = layout.per_thread<T>(plan.threads, plan.staged_size);
  const auto value_piece = layout.per_thread<T>(plan.threads, tile_points * plan.channels * block);
  const auto product_piece = layout.per_thread<T>(plan.threads, tile_points * block * plan.width);
  const Scratch scratch(layout.bytes());
  T* filters = filter_piece.in(scratch.data());
  parallel_for(plan.panels * tile_vectors * plan.channel_blocks, plan.threads, [&](Index task, int slot) {
    const Index q = task % plan.channel_blocks, part = task / plan.channel_blocks;
    transform_filters(p, part * plan.lanes, q * plan.lanes, taps_piece.of(scratch.data(), slot),
                      filters + part / tile_vectors * panel_size + part % tile_vectors * plan.lanes,
                      plan.width, plan.filter_stride);
  });
  parallel_for(blocks, plan.threads, [&](Index task, int slot) {
    const Index begin = task * block, end = std::min(plan.grid.count, begin + block);
    T* values = value_piece.of(scratch.data(), slot);
    T* products = product_piece.of(scratch.data(), slot);
    for (Index q = 0; q < plan.channel_blocks; ++q)
      plan.transform(p, begin, end, q, staged_piece.of(scratch.data(), slot), values, block);
    for (Index panel = 0; panel < plan.panels; ++panel)
      plan.multiply(p, begin, end, panel, values, block, filters + panel * panel_size, products, block);
  });
}

// Few tiles: all are transformed first, then every thread takes panels of filters, whose transforms
// never leave its cache.
template <class T>
void filters_outside(const TileProblem<T>& p, const TilePlan<T>& plan) {
  const Index count = plan.grid.count, block = even_part(count, most_tiles);
  Layout layout;
  const auto filter_piece = layout.per_thread<T>(plan.threads, tile_points * plan.filter_stride);
  const auto taps_piece = layout.per_thread<T>(plan.threads, filter_taps<T>);
  const auto staged_piece = layout.per_thread<T>(plan.threads, plan.staged_size);
  const auto value_piece = layout.array<T>(checked_product(tile_points * plan.channels, count));
  const auto product_piece = layout.per_thread<T>(plan.threads, tile_points * block * plan.width);
  const Scratch scratch(layout.bytes());
  T* values = value_piece.in(scratch.data());
  parallel_for(plan.channel_blocks, plan.threads, [&](Index q, int slot) {
    plan.transform(p, 0, count, q, staged_piece.of(scratch.data(), slot), values, count);
  });
  parallel_for(plan.panels, plan.threads, [&](Index panel, int slot) {
    T* filters = filter_piece.of(scratch.data(), slot);
    T* products = product_piece.of(scratch.data(), slot);
    for (Index v = 0; v < tile_vectors; ++v)
      for (Index q = 0; q < plan.channel_blocks; ++q)
        transform_filters(p, panel * plan.width + v * plan.lanes, q * plan.lanes,
                          taps_piece.of(scratch.data(), slot), filters + v * plan.lanes, plan.width,
                          plan.filter_stride);
    for (Index begin = 0; begin < count; begin += block)
      plan.multiply(p, begin, std::min(count, begin + block), panel, values + begin * plan.lanes, count,
                    filters, products, block);
  });
}

template <class T>
void correlate_tiles(const TileProblem<T>& p) {
  const TilePlan<T> plan(p);
  // Whichever is smaller, the image's transform or the filters', is kept whole; a thread needs a panel.
  if (plan.grid.count <= p.F && plan.panels >= plan.threads)
    filters_outside(p, plan);
  else
    tiles_outside(p, plan);
}

}  // namespace cnnlib::CNNLIB_ISA
