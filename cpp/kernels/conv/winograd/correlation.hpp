// Convolutions by Winograd's minimal filtering: transformed tiles of the input times transformed filters.
#pragma once

#include "kernels/conv/direct/correlate.hpp"
#include "kernels/conv/winograd/tiles.hpp"
#include "kernels/gemm/broadcast_tile.hpp"
#include "parallel.hpp"

namespace cnnlib::CNNLIB_ISA {

// tile[m][v] = (add ? tile[m][v] : 0) + sum over blocks q and lanes c of a[(q * R + m) * lanes + c] *
// u[q * lanes + c][v]; the next a is asked for meanwhile.
template <class T, int R, int V>
void multiply_points(Index blocks, const T* a, const T* u, T* tile, bool add, const T* next) {
  constexpr int size = Simd<T>::size;
  BroadcastTile<T, R, V> sums;
  for (Index q = 0; q < blocks; ++q, a += R * size, next += R * size)
    for (int c = 0; c < size; ++c, u += V * size) {
      if (c < R) __builtin_prefetch(next + c * size, 0, 2);
      sums.add_product(a + c, size, u);
    }
  sums.store(tile, V * Simd<T>::size, add);
}

template <class T>
using PointKernel = void (*)(Index blocks, const T* a, const T* u, T* tile, bool add, const T* next);

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

// The staged rows of the tiles of one run after the other, for one block of channels. Of a run right below
// the last one the rows that both read are moved, not turned again.
template <class T>
class StagedRuns {
  static constexpr Index lanes = Simd<T>::size;

 public:
  StagedRuns(const TileSizes& sizes, const TileGrid& tiles, const TileInput<T>& images, Index channel_block,
             T* memory)
      : tile(sizes), grid(tiles), input(images), c0(channel_block * lanes), staged(memory) {}

  const T* stage(Index image, Index row, Index col, Index tiles) {
    const Index width = grid.run_width(col, tiles, tile.step_w, tile.in_w);
    const bool below = grid.dilation_h == 1 && image == last_image && row == last_row + 1 &&
                       col == last_col && tiles == last_tiles;
    const Index shared = tile.in_h - tile.step_h, moved = below ? shared : 0;
    if (below) std::memmove(staged, staged + tile.step_h * width * lanes, shared * width * lanes * sizeof(T));
    stage_patch(input.x + image * input.x_image + c0 * input.H * input.W, input.C - c0, input.H, input.W,
                grid.top(row, tile.step_h) - input.pad_top + moved, grid.dilation_h,
                grid.left(col, tile.step_w) - input.pad_left, tile.in_h - moved, width, input.x_end(),
                staged + moved * width * lanes);
    last_image = image;
    last_row = row;
    last_col = col;
    last_tiles = tiles;
    return staged;
  }

 private:
  const TileSizes& tile;
  const TileGrid& grid;
  const TileInput<T>& input;
  Index c0;
  T* staged;
  Index last_image = -1, last_row = 0, last_col = 0, last_tiles = 0;
};

// Whether every thread had better take some of the filters and transform all tiles for them itself than read
// what others transformed.
inline bool filters_apart(Index F, int threads) {
  constexpr Index least_filters = 64;
  return threads > 1 && F >= least_filters * threads && sharing_is_expensive(threads);
}

// Threads for the products of so many transformed values a channel, and for their transforms, which take some
// five operations each.
inline int tile_threads(Index values, Index channels, Index filters) {
  return threads_for(2.0 / 16 * double(values) * (double(channels) * filters + 5.0 * (channels + filters)));
}

// How a call is cut up, and its scratch.
template <class T>
struct TilePlan {
  static constexpr Index lanes = Simd<T>::size;
  const CorrelationTile<T>& tile;
  Index vectors, width;            // of a panel of filters: a single vector where there are few
  Index channel_blocks, channels;  // filled up to whole vectors
  Index panels;
  Index filter_stride;  // between the filters of a panel that belong to different points
  TileGrid grid;
  Index first, count;  // of the tiles to do
  int threads;
  Index staged_size;

  TilePlan(const CorrelationTile<T>& method, const TileProblem<T>& p)
      : tile(method),
        vectors(p.F <= lanes ? 1 : tile_vectors),
        width(vectors * lanes),
        channel_blocks((p.C + lanes - 1) / lanes),
        channels(channel_blocks * lanes),
        panels((p.F + width - 1) / width),
        filter_stride(channels * width + lanes),
        grid(p.grid(tile)),
        first(0),
        count(grid.count),
        threads(tile_threads(grid.count * tile.points(), channels, panels * width)),
        staged_size((tile.in_h * grid.most_width(tile.step_w, tile.in_w) + lanes) * lanes) {}

  // Whether every thread had better transform all filters for itself than read what others transformed: it
  // has tiles enough to make up for that, and the copies are not too large.
  bool threads_apart() const {
    constexpr double least_tiles = 32, most_bytes = 80 << 20;
    const double bytes = 1.0 * tile.filters() * filter_stride * panels * sizeof(T);
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

  // values[point][panel of tiles][c block][tile][c] of tiles [begin, end) for one block of channels, with
  // room for `room` tiles. Blocks of `block` tiles are cut into panels, so that a product reads a panel in
  // one run. `places` is scratch.
  void transform(const TileProblem<T>& p, Index begin, Index end, Index block, Index q, T* staged, T* values,
                 Index room, Index* places) const {
    for (Index i = begin, n = 0; i < end; i += block) {
      const Panels tile_panels(std::min(block, end - i));
      for (Index panel = 0; panel < tile_panels.count; ++panel)
        for (Index t = 0; t < tile_panels.rows(panel); ++t)
          places[n++] =
              (i - begin + tile_panels.first(panel)) * channels + (q * tile_panels.rows(panel) + t) * lanes;
    }
    StagedRuns<T> runs(tile, grid, p, q, staged);
    grid.each_run(begin, end, [&](Index image, Index row, Index col, Index tiles, Index at) {
      const T* rows = runs.stage(image, row, col, tiles);
      tile.transform_inputs(grid, col, tiles, rows, values, TilePlaces{0, places + at}, value_stride(room));
    });
  }

  // Sums over many channels are taken in parts of so many blocks, which keeps their rounding errors apart.
  Index blocks_together() const { return (tile.interpolated > 6 ? 32 : 128) / lanes; }

  // Multiplies a block of tiles [begin, end) with one panel of filters, or adds the products of channel
  // blocks [first, last) to those before. `values`, with room for `room` tiles, begin with tile `begin`,
  // `products` is [point][tile][filter] for `most` tiles; `filters` begin with block `first`, `stride` from
  // one point to the next.
  void multiply(Index begin, Index end, Index first, Index last, const T* values, Index room,
                const T* filters, Index stride, T* products, Index most) const {
    const Panels tile_panels(end - begin);
    const Index together = blocks_together();
    const auto at = [&](Index point, Index panel, Index q) {
      return values + point * value_stride(room) + tile_panels.first(panel) * channels +
             q * tile_panels.rows(panel) * lanes;
    };
    tile.each_point([&](Index point, Index filter, bool) {
      for (Index q = first; q < last; q += together)
        for (Index i = 0; i < tile_panels.count; ++i) {
          const T* next = i + 1 < tile_panels.count ? at(point, i + 1, q)
                          : q + together < last     ? at(point, 0, q + together)
                                                    : at(point + 1, 0, first);
          point_kernel<T>(tile_panels.rows(i), vectors)(
              std::min(together, last - q), at(point, i, q),
              filters + filter * stride + (q - first) * lanes * width,
              products + point * product_stride(most) + tile_panels.first(i) * width, q > 0, next);
        }
    });
  }
  // Writes the outputs of tiles [begin, end) and one panel of filters.
  void write(const TileProblem<T>& p, Index begin, Index end, Index panel, const T* products,
             Index most) const {
    for (Index v = 0; v < vectors && panel * width + v * lanes < p.F; ++v)
      grid.each_run(begin, end, [&](Index image, Index row, Index col, Index tiles, Index at) {
        tile.write_outputs(p, grid, products + at * width + v * lanes, width, product_stride(most), tiles,
                           image, row, col, panel * width + v * lanes);
      });
  }
};

constexpr Index most_tiles = 4 * max_rows;  // of a block

// Many tiles: every thread takes blocks of them, whose transforms stay in its second-level cache while
// all filters, transformed beforehand, pass over them.
template <class T>
void tiles_outside(const TileProblem<T>& p, const TilePlan<T>& plan) {
  constexpr Index cache_bytes = 1 << 20;
  const Index panel_size = plan.tile.filters() * plan.filter_stride;
  Index block = cache_bytes / (plan.tile.points() * (plan.channels + plan.width) * Index(sizeof(T))) /
                max_rows * max_rows;
  block = std::clamp<Index>(block, max_rows, most_tiles);
  if (plan.threads > 1)
    while (block > max_rows && (plan.count + block - 1) / block < 2 * plan.threads) block -= max_rows;
  block = even_part(plan.count, block);
  const Index blocks = (plan.count + block - 1) / block;

  Layout layout;
  const auto filter_piece = layout.array<T>(checked_product(plan.panels, panel_size));
  const auto taps_piece = layout.per_thread<T>(plan.threads, filter_taps<T>(plan.tile.taps()));
  const auto staged_piece = layout.per_thread<T>(plan.threads, plan.staged_size);
  const auto places_piece = layout.per_thread<Index>(plan.threads, block);
  const auto value_piece = layout.per_thread<T>(plan.threads, plan.tile.points() * plan.value_stride(block));
  const auto product_piece =
      layout.per_thread<T>(plan.threads, plan.tile.points() * plan.product_stride(block));
  const Scratch scratch(layout.bytes());
  T* filters = filter_piece.in(scratch.data());
  parallel_for(plan.panels * plan.vectors * plan.channel_blocks, plan.threads, [&](Index task, int slot) {
    const Index q = task % plan.channel_blocks, part = task / plan.channel_blocks;
    plan.tile.transform_filters(p, part * plan.lanes, q * plan.lanes, taps_piece.of(scratch.data(), slot),
                                filters + part / plan.vectors * panel_size + part % plan.vectors * plan.lanes,
                                plan.width, plan.filter_stride);
  });
  parallel_for(blocks, plan.threads, [&](Index task, int slot) {
    const Index begin = plan.first + task * block, end = std::min(plan.first + plan.count, begin + block);
    T* values = value_piece.of(scratch.data(), slot);
    T* products = product_piece.of(scratch.data(), slot);
    for (Index q = 0; q < plan.channel_blocks; ++q)
      plan.transform(p, begin, end, block, q, staged_piece.of(scratch.data(), slot), values, block,
                     places_piece.of(scratch.data(), slot));
    for (Index panel = 0; panel < plan.panels; ++panel) {
      plan.multiply(begin, end, 0, plan.channel_blocks, values, block, filters + panel * panel_size,
                    plan.filter_stride, products, block);
      plan.write(p, begin, end, panel, products, block);
    }
  });
}

// Few tiles: all are transformed first, then every thread takes panels of filters, whose transforms
// never leave its cache.
template <class T>
void filters_outside(const TileProblem<T>& p, const TilePlan<T>& plan) {
  constexpr Index cache_bytes = 512 << 10;  // for filters
  const Index count = plan.count, block = even_part(count, most_tiles);
  // Where one block has all tiles, the filters of some channels pass over it at a time.
  const Index together = plan.blocks_together();
  const Index block_bytes = plan.tile.filters() * plan.lanes * plan.width * Index(sizeof(T));
  const Index chunk = block < count
                          ? plan.channel_blocks
                          : std::min(plan.channel_blocks,
                                     std::max<Index>(cache_bytes / block_bytes / together, 1) * together);
  const Index stride = chunk * plan.lanes * plan.width + plan.lanes;
  Layout layout;
  const auto filter_piece = layout.per_thread<T>(plan.threads, plan.tile.filters() * stride);
  const auto taps_piece = layout.per_thread<T>(plan.threads, filter_taps<T>(plan.tile.taps()));
  const auto staged_piece = layout.per_thread<T>(plan.threads, plan.staged_size);
  const auto places_piece = layout.per_thread<Index>(plan.threads, count);
  const auto value_piece = layout.array<T>(checked_product(plan.tile.points(), plan.value_stride(count)));
  const auto product_piece =
      layout.per_thread<T>(plan.threads, plan.tile.points() * plan.product_stride(block));
  const Scratch scratch(layout.bytes());
  T* values = value_piece.in(scratch.data());
  parallel_for(plan.channel_blocks, plan.threads, [&](Index q, int slot) {
    plan.transform(p, plan.first, plan.first + count, block, q, staged_piece.of(scratch.data(), slot), values,
                   count, places_piece.of(scratch.data(), slot));
  });
  parallel_for(plan.panels, plan.threads, [&](Index panel, int slot) {
    T* filters = filter_piece.of(scratch.data(), slot);
    T* products = product_piece.of(scratch.data(), slot);
    for (Index first = 0; first < plan.channel_blocks; first += chunk) {
      const Index last = std::min(plan.channel_blocks, first + chunk);
      for (Index v = 0; v < plan.vectors; ++v)
        for (Index q = first; q < last; ++q)
          plan.tile.transform_filters(
              p, panel * plan.width + v * plan.lanes, q * plan.lanes, taps_piece.of(scratch.data(), slot),
              filters + v * plan.lanes - first * plan.lanes * plan.width, plan.width, stride);
      for (Index begin = 0; begin < count; begin += block) {
        const Index end = std::min(count, begin + block);
        plan.multiply(begin, end, first, last, values + begin * plan.channels, count, filters, stride,
                      products, block);
        if (last == plan.channel_blocks)
          plan.write(p, plan.first + begin, plan.first + end, panel, products, block);
      }
    }
  });
}

template <class T>
void correlate_tiles(const TileProblem<T>& p, const TilePlan<T>& plan) {
  // Whichever is smaller, the image's transform or the filters', is kept whole; a thread needs a panel.
  if (plan.tile.points() * plan.count <= plan.tile.filters() * p.F && plan.panels >= plan.threads)
    filters_outside(p, plan);
  else
    tiles_outside(p, plan);
}

template <class T>
void correlate_tiles(const CorrelationTile<T>& tile, const TileProblem<T>& p) {
  const TilePlan<T> plan(tile, p);
  const int threads = plan.threads;
  if (plan.threads_apart())
    each_on_its_own(threads, threads, [&](Index part) { correlate_tiles(p, plan.part(part, threads)); });
  else if (filters_apart(p.F, threads))
    each_on_its_own(threads, threads, [&](Index part) {
      const auto first = [&](Index i) { return std::min(p.F, plan.panels * i / threads * plan.width); };
      const TileProblem<T> some = p.filters(first(part), first(part + 1));
      correlate_tiles(some, TilePlan<T>(tile, some));
    });
  else
    correlate_tiles(p, plan);
}

}  // namespace cnnlib::CNNLIB_ISA
