// Convolutions by Winograd's minimal filtering: transformed tiles of the input times transformed filters.
// Vectors run along channels (input side) and filters (output side), so that no transform needs a shuffle.
#pragma once

#include "../parallel.hpp"
#include "correlate.hpp"
#include "spread_tile.hpp"
#include "winograd_transforms.hpp"

namespace cnnlib::CNNLIB_ISA {

// Output tiles of `height` x `width` in the order image, row, column. With dilation, rows that agree modulo
// the dilation are a convolution of their own, and so are columns: a tile takes every dilation-th one, and
// the tiles that interleave are neighbours.
struct TileGrid {
  Index height, width, dilation_h, dilation_w;
  Index rows, cols, per_image, count;

  TileGrid(Index N, Index OH, Index OW, Index tile_height, Index tile_width, Index row_dilation,
           Index col_dilation)
      : height(tile_height),
        width(tile_width),
        dilation_h(row_dilation),
        dilation_w(col_dilation),
        rows((OH + height * dilation_h - 1) / (height * dilation_h) * dilation_h),
        cols((OW + width * dilation_w - 1) / (width * dilation_w) * dilation_w),
        per_image(rows * cols),
        count(N * per_image) {}

  // The first row and column of the output in a tile.
  Index top(Index row) const { return row / dilation_h * dilation_h * height + row % dilation_h; }
  Index left(Index col) const { return col / dilation_w * dilation_w * width + col % dilation_w; }

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

  // From the first column of a run of tiles to the last, where a tile takes `extent`.
  Index run_width(Index col, Index tiles, Index extent) const {
    return left(col + tiles - 1) - left(col) + (extent - 1) * dilation_w + 1;
  }
  Index most_width(Index extent) const { return (cols / dilation_w * width + extent - width) * dilation_w; }
};

// body(step), where a step of 1 is known when the body is compiled.
template <class Body>
void with_step(Index step, const Body& body) {
  if (step == 1)
    body(std::integral_constant<Index, 1>());
  else
    body(step);
}

// Where the tiles of a run begin, counted from the first one: without the divisions of TileGrid::left.
class TileColumn {
 public:
  TileColumn(const TileGrid& grid, Index col)
      : neighbours_(grid.dilation_w), skip_((grid.width - 1) * neighbours_), phase_(col % neighbours_) {}
  Index operator*() const { return at_; }
  TileColumn& operator++() {
    ++at_;
    if (++phase_ == neighbours_) {
      phase_ = 0;
      at_ += skip_;
    }
    return *this;
  }

 private:
  Index neighbours_, skip_, phase_, at_ = 0;
};

// Copies `height` rows from `top` on, `step` apart, of columns [left, left + width) of up to `lanes` planes
// to [position][lane], zero outside the image; lanes without a channel repeat one. `end` is the end of all
// images, and staged has room for another vector of positions.
template <class T>
void stage_patch(const T* planes, Index channels, Index H, Index W, Index top, Index step, Index left,
                 Index height, Index width, const T* end, T* staged) {
  constexpr Index lanes = Simd<T>::size;
  const Index first = std::clamp<Index>(-left, 0, width), last = std::clamp<Index>(W - left, first, width);
  for (Index i = 0; i < height; ++i) {
    T* to = staged + i * width * lanes;
    const Index line = top + i * step;
    if (line < 0 || line >= H) {
      std::memset(to, 0, width * lanes * sizeof(T));
      continue;
    }
    std::memset(to, 0, first * lanes * sizeof(T));
    if (last > first)
      transpose_freely(planes + line * W + left + first, H * W, std::min(channels, lanes), last - first, end,
                       to + first * lanes, lanes);
    if (step == 1 && line + height < H)  // rows of the tiles below
      for (Index c = 0; c < std::min(channels, lanes); ++c)
        prefetch(planes + c * H * W + (line + height) * W + left + first, last - first);
    std::memset(to + last * lanes, 0, (width - last) * lanes * sizeof(T));
  }
}

// values[point * point_stride + tile * tile_stride + lane]: B' d B of the tiles of a run in staged rows.
template <class T, class K>
void transform_inputs(const TileGrid& grid, Index col, Index tiles, const T* staged, T* values,
                      Index tile_stride, Index point_stride) {
  constexpr Index lanes = Simd<T>::size;
  const Index width = grid.run_width(col, tiles, K::in_w);
  with_step(grid.dilation_w, [&](auto step) {
    TileColumn column(grid, col);
    for (Index t = 0; t < tiles; ++t, ++column) {
      const T* from = staged + *column * lanes;
      T* to = values + t * tile_stride;
      TileTransforms<T, K>::input(
          [&](int i, int j) { return Simd<T>::load(from + (i * width + j * step) * lanes); },
          [&](int i, int j, auto v) { Simd<T>::store(to + (i * K::in_w + j) * point_stride, v); });
    }
  });
}

// tile[m][v] = (add ? tile[m][v] : 0) + sum over blocks q and lanes c of
//     a[q * block + m * lanes + c] * u[q * lanes + c][v].
template <class T, int R, int V>
void multiply_points(Index blocks, const T* a, Index block, const T* u, T* tile, bool add) {
  constexpr int size = Simd<T>::size;
  SpreadTile<T, R, V> sums;
  for (Index q = 0; q < blocks; ++q, a += block)
    for (int c = 0; c < size; ++c, u += V * size) sums.add_product(a + c, size, u);
  sums.store(tile, V * Simd<T>::size, add);
}

template <class T>
using PointKernel = void (*)(Index blocks, const T* a, Index block, const T* u, T* tile, bool add);

template <class T, int V, int... R>
constexpr std::array<PointKernel<T>, sizeof...(R)> point_kernels(std::integer_sequence<int, R...>) {
  return {&multiply_points<T, R + 1, V>...};
}

template <class T>
PointKernel<T> point_kernel(Index rows, Index vectors) {
  static constexpr auto one = point_kernels<T, 1>(std::make_integer_sequence<int, max_rows>());
  static constexpr auto all = point_kernels<T, tile_vectors>(std::make_integer_sequence<int, max_rows>());
  return vectors == 1 ? one[rows - 1] : all[rows - 1];
}

// The sizes of a convolution at stride 1, of one group.
struct TileShape {
  Index N, C, F, H, W, OH, OW, pad_top, pad_left, dilation_h, dilation_w;

  explicit TileShape(const ConvShape& s)
      : N(s.N),
        C(s.C / s.groups),
        F(s.F / s.groups),
        H(s.H),
        W(s.W),
        OH(s.OH),
        OW(s.OW),
        pad_top(s.pad_top),
        pad_left(s.pad_left),
        dilation_h(s.dilation_h),
        dilation_w(s.dilation_w) {}
  // Those of the correlation of dout with the flipped filters, which is dx.
  TileShape transposed(Index KH, Index KW) const {
    TileShape t = *this;
    std::swap(t.C, t.F);
    std::swap(t.H, t.OH);
    std::swap(t.W, t.OW);
    t.pad_top = dilation_h * (KH - 1) - pad_top;
    t.pad_left = dilation_w * (KW - 1) - pad_left;
    return t;
  }
};

// The images that tiles are cut from, x_image values apart.
template <class T>
struct TileInput : TileShape {
  const T* x;
  Index x_image;

  const T* x_end() const { return x + (N - 1) * x_image + C * H * W; }
};

// The staged rows of the tiles of one run after the other, for one block of channels. Of a run right below
// the last one the rows that both read are moved, not turned again.
template <class T, class K>
class StagedRuns {
  static constexpr Index lanes = Simd<T>::size, shared = K::in_h - K::out_h;

 public:
  StagedRuns(const TileGrid& tiles, const TileInput<T>& images, Index channel_block, T* memory)
      : grid(tiles), input(images), c0(channel_block * lanes), staged(memory) {}

  // Inlined, it would swell every caller of every tile's.
  [[gnu::noinline]] const T* stage(Index image, Index row, Index col, Index tiles) {
    const Index width = grid.run_width(col, tiles, K::in_w);
    const bool below = grid.dilation_h == 1 && image == last_image && row == last_row + 1 &&
                       col == last_col && tiles == last_tiles;
    const Index moved = below ? shared : 0;
    if (below) std::memmove(staged, staged + K::out_h * width * lanes, shared * width * lanes * sizeof(T));
    stage_patch(input.x + image * input.x_image + c0 * input.H * input.W, input.C - c0, input.H, input.W,
                grid.top(row) - input.pad_top + moved, grid.dilation_h, grid.left(col) - input.pad_left,
                K::in_h - moved, width, input.x_end(), staged + moved * width * lanes);
    last_image = image;
    last_row = row;
    last_col = col;
    last_tiles = tiles;
    return staged;
  }

 private:
  const TileGrid& grid;
  const TileInput<T>& input;
  Index c0;
  T* staged;
  Index last_image = -1, last_row = 0, last_col = 0, last_tiles = 0;
};

// A correlation at stride 1: weight (f, c, tap) at w[f * w_filter + c * w_channel + tap], the taps
// backwards if flipped. Images of the result begin out_image values apart.
template <class T>
struct TileProblem : TileInput<T> {
  const T* w;
  Index w_filter, w_channel;
  bool flipped;
  const T* bias;
  bool relu;
  T* out;
  Index out_image;
};

// Values of scratch that transform_filters needs: [c][tap][filter] of one square.
template <class T, class K>
constexpr Index filter_taps = (K::taps * Simd<T>::size + 2 * Simd<T>::size) * Simd<T>::size;

// packed[point][c][filter]: G g G' of one vector of filters (f0 on) and of channels (c0 on); rows of
// `width` filters, zero for channels that do not exist.
template <class T, class K>
void transform_filters(const TileProblem<T>& p, Index f0, Index c0, T* taps, T* packed, Index width,
                       Index point_stride) {
  using S = Simd<T>;
  constexpr Index lanes = S::size, all = K::taps;
  const Index filters = std::clamp<Index>(p.F - f0, 0, lanes),
              channels = std::clamp<Index>(p.C - c0, 0, lanes);
  if (filters == 0) std::fill_n(taps, filter_taps<T, K>, T(0));
  const T* end = p.w + p.F * p.C * all;
  if (filters > 0 && p.w_channel == all)
    transpose_freely(p.w + f0 * p.w_filter + c0 * all, p.w_filter, filters, channels * all, end, taps, lanes);
  else if (filters > 0)
    for (Index c = 0; c < channels; ++c)
      transpose_freely(p.w + f0 * p.w_filter + (c0 + c) * p.w_channel, p.w_filter, filters, all, end,
                       taps + c * all * lanes, lanes);
  for (Index c = 0; c < lanes; ++c) {
    const T* g = taps + c * all * lanes;
    T* to = packed + (c0 + c) * width;
    if (c >= channels) {
      for (Index point = 0; point < K::points; ++point) S::store(to + point * point_stride, S::zero());
      continue;
    }
    TileTransforms<T, K>::filter(
        [&](int i, int j) {
          return S::load(g + (p.flipped ? all - 1 - i * K::KW - j : i * K::KW + j) * lanes);
        },
        [&](int i, int j, auto v) { S::store(to + (i * K::in_w + j) * point_stride, v); });
  }
}

// A' m A of the tiles of a run and one vector of filters, written to the planes of the filters.
template <class T, class K>
void write_outputs(const TileProblem<T>& p, const TileGrid& grid, const T* points, Index tile_stride,
                   Index point_stride, Index tiles, Index image, Index row, Index col, Index f0) {
  using S = Simd<T>;
  constexpr Index lanes = S::size, most = lanes / K::out_w > 0 ? lanes / K::out_w : 1;
  constexpr Index span = most * K::out_w;  // pixels of a row that are written at once
  const Index filters = std::min(lanes, p.F - f0), plane = p.OH * p.OW, step = p.dilation_w;
  T bias[lanes] = {};
  if (p.bias != nullptr) std::copy_n(p.bias + f0, filters, bias);
  const auto start = S::load(bias);
  T pixels[K::out_h * span * lanes];  // [row][pixel][filter]
  T turned[lanes * span];
  T* out = p.out + image * p.out_image + f0 * plane + grid.top(row) * p.OW;
  const Index rows = std::min<Index>(K::out_h, (p.OH - grid.top(row) + p.dilation_h - 1) / p.dilation_h);
  // Tiles that interleave fill their columns together, if all of them are there.
  const Index together = step <= most ? most / step * step : 1;
  for (Index t = 0, group; t < tiles; t += group) {
    const bool whole = step == 1 || (step <= most && (col + t) % step == 0 && tiles - t >= step);
    group = !whole      ? 1
            : step == 1 ? std::min(most, tiles - t)
                        : std::min(together, (tiles - t) / step * step);
    const Index inside = whole ? step : 1, outside = whole ? 1 : step;  // steps between a tile's columns
    with_step(inside, [&](auto apart) {
      TileColumn column(grid, 0);
      for (Index g = 0; g < group; ++g, ++column) {
        const T* from = points + (t + g) * tile_stride;
        T* to = pixels + *column * lanes;
        TileTransforms<T, K>::output(
            [&](int i, int j) { return S::load(from + (i * K::in_w + j) * point_stride); },
            [&](int i, int j, auto v) {
              v = S::add(v, start);
              S::store(to + (i * span + j * apart) * lanes, p.relu ? S::relu(v) : v);
            });
      }
    });
    const Index left = step == 1 ? (col + t) * K::out_w : grid.left(col + t);
    const Index width = std::min(group * K::out_w, (p.OW - left + outside - 1) / outside);
    for (Index r = 0; r < rows; ++r) {
      T* to = out + r * p.dilation_h * p.OW + left;
      const T* from = pixels + r * span * lanes;
      if (width == lanes && filters == lanes && outside == 1) {
        transpose_square<T>([&](Index i) { return from + i * lanes; }, to, plane);
        continue;
      }
      transpose(from, lanes, span, lanes, turned, span);
      for (Index f = 0; f < filters; ++f)
        for (Index j = 0; j < width; ++j) to[f * plane + j * outside] = turned[f * span + j];
    }
  }
}

// How a call is cut up, and its scratch.
template <class T, class K>
struct TilePlan {
  static constexpr Index lanes = Simd<T>::size;
  Index vectors, width;            // of a panel of filters: a single vector where there are few
  Index channel_blocks, channels;  // filled up to whole vectors
  Index panels;
  Index filter_stride;  // between points of a panel
  TileGrid grid;
  Index first, count;  // of the tiles to do
  int threads;
  Index staged_size;

  explicit TilePlan(const TileProblem<T>& p)
      : vectors(p.F <= lanes ? 1 : tile_vectors),
        width(vectors * lanes),
        channel_blocks((p.C + lanes - 1) / lanes),
        channels(channel_blocks * lanes),
        panels((p.F + width - 1) / width),
        filter_stride(channels * width + lanes),
        grid(p.N, p.OH, p.OW, K::out_h, K::out_w, p.dilation_h, p.dilation_w),
        first(0),
        count(grid.count),
        threads(threads_for(2.0 / 16 * grid.count * K::points * channels * panels * width)),
        staged_size((K::in_h * grid.most_width(K::in_w) + lanes) * lanes) {}

  // Whether every thread had better transform all filters for itself than read what others transformed: it
  // has tiles enough to make up for that, and the copies are not too large.
  bool threads_apart() const {
    constexpr double least_tiles = 32, most_bytes = 80 << 20;
    const double bytes = 1.0 * K::points * filter_stride * panels * sizeof(T);
    return threads > 1 && count >= least_tiles * (threads - 1) && panels * width <= 8 * count &&
           bytes * threads <= most_bytes && sharing_is_expensive(threads);
  }
  // One of `parts` equal parts, for one thread.
  TilePlan part(Index i, Index parts) const {
    TilePlan own = *this;
    own.first = first + i * count / parts;
    own.count = first + (i + 1) * count / parts - own.first;
    own.threads = 1;
    return own;
  }

  // Between points, a cache line more than needed: at a multiple of 4096 bytes the points of a tile would
  // meet in one set of the first-level cache.
  Index value_stride(Index tiles) const { return channels * tiles + lanes; }
  Index product_stride(Index tiles) const { return width * tiles + lanes; }

  // values[point][c block][tile][c] of tiles [begin, end) for one block of channels.
  [[gnu::noinline]] void transform(const TileProblem<T>& p, Index begin, Index end, Index q, T* staged,
                                   T* values, Index tiles_stride) const {
    StagedRuns<T, K> runs(grid, p, q, staged);
    grid.each_run(begin, end, [&](Index image, Index row, Index col, Index tiles, Index at) {
      const T* rows = runs.stage(image, row, col, tiles);
      transform_inputs<T, K>(grid, col, tiles, rows, values + (q * tiles_stride + at) * lanes, lanes,
                             value_stride(tiles_stride));
    });
  }

  // Multiplies tiles [begin, end) with one panel of filters and writes the outputs. `values` belongs to
  // tile `begin`, `products` is [point][tile][filter] for `most` tiles.
  [[gnu::noinline]] void multiply(const TileProblem<T>& p, Index begin, Index end, Index panel,
                                  const T* values, Index tiles_stride, const T* filters, T* products,
                                  Index most) const {
    const Panels tile_panels(end - begin);
    // Sums over many channels are taken in parts, which keeps their rounding errors apart.
    constexpr Index blocks_together = (K::most_points > 6 ? 32 : 128) / lanes;
    for (Index point = 0; point < K::points; ++point)
      for (Index q = 0; q < channel_blocks; q += blocks_together)
        for (Index i = 0; i < tile_panels.count; ++i)
          point_kernel<T>(tile_panels.rows(i), vectors)(
              std::min(blocks_together, channel_blocks - q),
              values + point * value_stride(tiles_stride) + q * lanes * tiles_stride +
                  tile_panels.first(i) * lanes,
              tiles_stride * lanes, filters + point * filter_stride + q * lanes * width,
              products + point * product_stride(most) + tile_panels.first(i) * width, q > 0);
    for (Index v = 0; v < vectors && panel * width + v * lanes < p.F; ++v)
      grid.each_run(begin, end, [&](Index image, Index row, Index col, Index tiles, Index at) {
        write_outputs<T, K>(p, grid, products + at * width + v * lanes, width, product_stride(most), tiles,
                            image, row, col, panel * width + v * lanes);
      });
  }
};

constexpr Index most_tiles = 4 * max_rows;  // of a block

// Many tiles: every thread takes blocks of them, whose transforms stay in its second-level cache while
// all filters, transformed beforehand, pass over them.
template <class T, class K>
void tiles_outside(const TileProblem<T>& p, const TilePlan<T, K>& plan) {
  constexpr Index cache_bytes = 1 << 20;
  const Index panel_size = K::points * plan.filter_stride;
  Index block =
      cache_bytes / (K::points * (plan.channels + plan.width) * Index(sizeof(T))) / max_rows * max_rows;
  block = std::clamp<Index>(block, max_rows, most_tiles);
  if (plan.threads > 1)
    while (block > max_rows && (plan.count + block - 1) / block < 2 * plan.threads) block -= max_rows;
  block = even_part(plan.count, block);
  const Index blocks = (plan.count + block - 1) / block;

  Layout layout;
  const auto filter_piece = layout.array<T>(checked_product(plan.panels, panel_size));
  const auto taps_piece = layout.per_thread<T>(plan.threads, filter_taps<T, K>);
  const auto staged_piece = layout.per_thread<T>(plan.threads, plan.staged_size);
  const auto value_piece = layout.per_thread<T>(plan.threads, K::points * plan.value_stride(block));
  const auto product_piece = layout.per_thread<T>(plan.threads, K::points * plan.product_stride(block));
  const Scratch scratch(layout.bytes());
  T* filters = filter_piece.in(scratch.data());
  parallel_for(plan.panels * plan.vectors * plan.channel_blocks, plan.threads, [&](Index task, int slot) {
    const Index q = task % plan.channel_blocks, part = task / plan.channel_blocks;
    transform_filters<T, K>(p, part * plan.lanes, q * plan.lanes, taps_piece.of(scratch.data(), slot),
                            filters + part / plan.vectors * panel_size + part % plan.vectors * plan.lanes,
                            plan.width, plan.filter_stride);
  });
  parallel_for(blocks, plan.threads, [&](Index task, int slot) {
    const Index begin = plan.first + task * block, end = std::min(plan.first + plan.count, begin + block);
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
template <class T, class K>
void filters_outside(const TileProblem<T>& p, const TilePlan<T, K>& plan) {
  const Index count = plan.count, block = even_part(count, most_tiles);
  Layout layout;
  const auto filter_piece = layout.per_thread<T>(plan.threads, K::points * plan.filter_stride);
  const auto taps_piece = layout.per_thread<T>(plan.threads, filter_taps<T, K>);
  const auto staged_piece = layout.per_thread<T>(plan.threads, plan.staged_size);
  const auto value_piece = layout.array<T>(checked_product(K::points, plan.value_stride(count)));
  const auto product_piece = layout.per_thread<T>(plan.threads, K::points * plan.product_stride(block));
  const Scratch scratch(layout.bytes());
  T* values = value_piece.in(scratch.data());
  parallel_for(plan.channel_blocks, plan.threads, [&](Index q, int slot) {
    plan.transform(p, plan.first, plan.first + count, q, staged_piece.of(scratch.data(), slot), values,
                   count);
  });
  parallel_for(plan.panels, plan.threads, [&](Index panel, int slot) {
    T* filters = filter_piece.of(scratch.data(), slot);
    T* products = product_piece.of(scratch.data(), slot);
    for (Index v = 0; v < plan.vectors; ++v)
      for (Index q = 0; q < plan.channel_blocks; ++q)
        transform_filters<T, K>(p, panel * plan.width + v * plan.lanes, q * plan.lanes,
                                taps_piece.of(scratch.data(), slot), filters + v * plan.lanes, plan.width,
                                plan.filter_stride);
    for (Index begin = 0; begin < count; begin += block)
      plan.multiply(p, plan.first + begin, plan.first + std::min(count, begin + block), panel,
                    values + begin * plan.lanes, count, filters, products, block);
  });
}

template <class T, class K>
void correlate_tiles(const TileProblem<T>& p, const TilePlan<T, K>& plan) {
  // Whichever is smaller, the image's transform or the filters', is kept whole; a thread needs a panel.
  if (plan.count <= p.F && plan.panels >= plan.threads)
    filters_outside(p, plan);
  else
    tiles_outside(p, plan);
}

template <class T, class K>
void correlate_tiles(const TileProblem<T>& p) {
  const TilePlan<T, K> plan(p);
  if (!plan.threads_apart()) return correlate_tiles(p, plan);
  each_on_its_own(plan.threads, plan.threads,
                  [&](Index part) { correlate_tiles(p, plan.part(part, plan.threads)); });
}

}  // namespace cnnlib::CNNLIB_ISA
