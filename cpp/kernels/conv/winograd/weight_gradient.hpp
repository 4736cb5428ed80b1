// The weights' gradient by Winograd's method, as the adjoint of the forward pass:
//
//   dw = G' [ sum over tiles of (A dy A') . (B' d B) ] G
//
// The order of every sum depends on the shape alone, whatever the number of threads.
#pragma once

#include "kernels/conv/winograd/correlation.hpp"

namespace cnnlib::CNNLIB_ISA {

// dw of a correlation. Images of dout begin dout_image values apart.
template <class T>
struct TileGradient : TileInput<T> {
  const T* dout;
  Index dout_image;
  T* dw;

  // The same with filters [begin, end) only.
  TileGradient filters(Index begin, Index end, Index taps) const {
    TileGradient some = *this;
    some.F = end - begin;
    some.dout += begin * this->OH * this->OW;
    some.dw += begin * this->C * taps;
    return some;
  }
};

// The sizes of a call and its steps. Transformed tiles are x_values[point][c block][tile][c] and
// y_values[point][tile][filter], with room for `chunk` tiles; sums are [filter][panel of
// channels][f][c], where points with the same filter add up.
template <class T>
struct TileGradientPlan {
  using S = Simd<T>;
  static constexpr Index lanes = S::size;
  const GradientTile<T>& tile;
  const TileGradient<T>& s;
  Index vectors, width;            // of a panel of channels: a single vector where there are few
  Index x_blocks, channel_blocks;  // vectors with channels, and filled up to whole panels
  Index channels, filter_blocks, filters;
  TileGrid grid;
  int threads;
  Index staged_size, sum_stride;

  TileGradientPlan(const GradientTile<T>& method, const TileGradient<T>& gradient)
      : tile(method),
        s(gradient),
        vectors(s.C <= lanes ? 1 : tile_vectors),
        width(vectors * lanes),
        x_blocks((s.C + lanes - 1) / lanes),
        channel_blocks((s.C + width - 1) / width * vectors),
        channels(channel_blocks * lanes),
        filter_blocks((s.F + lanes - 1) / lanes),
        filters(filter_blocks * lanes),
        grid(s.grid(tile)),
        threads(tile_threads(grid.count * tile.points(), channels, s.F)),
        staged_size((tile.in_h * grid.most_width(tile.step_w, tile.in_w) + lanes) * lanes),
        sum_stride(channels * s.F + lanes) {}

  // Between points, a cache line more than needed: at a multiple of 4096 bytes the points of a tile would
  // meet in one set of the first-level cache.
  Index x_stride(Index chunk) const { return channels * chunk + lanes; }
  Index y_stride(Index chunk) const { return filters * chunk + lanes; }
  Index tile_bytes() const { return tile.points() * (channels + filters) * Index(sizeof(T)); }
  Index sum_size() const { return checked_product(tile.filters(), sum_stride); }

  // The filters of a block whose sums with a panel of channels stay in the second-level cache, or fewer to
  // keep many threads busy.
  Index filters_of_block() const {
    constexpr Index sum_bytes = 512 << 10, blocks = 16;
    const Index most = sum_bytes / (tile.filters() * width * Index(sizeof(T)));
    const Index wanted = s.F * channel_blocks / vectors / blocks;
    return even_part(s.F, std::max<Index>(std::min(most, wanted) / max_rows, 1) * max_rows);
  }
  Index filter_channel_blocks() const {
    return channel_blocks / vectors * ((s.F + filters_of_block() - 1) / filters_of_block());
  }

  // Transforms block q of the channels, or of the filters behind them, of tiles [begin, end).
  void transform(Index q, Index begin, Index end, Index chunk, T* staged, T* x_values, T* y_values) const {
    StagedRuns<T> runs(tile, grid, s, q, staged);
    grid.each_run(begin, end, [&](Index image, Index row, Index col, Index tiles, Index at) {
      if (q < x_blocks) {
        const T* rows = runs.stage(image, row, col, tiles);
        tile.transform_inputs(grid, col, tiles, rows, x_values + (q * chunk + at) * lanes, TilePlaces{lanes},
                              x_stride(chunk));
      } else {
        const Index f = (q - x_blocks) * lanes;
        stage_patch(s.dout + image * s.dout_image + f * s.OH * s.OW, s.F - f, s.OH, s.OW, grid.top(row),
                    s.dilation_h, grid.left(col), tile.out_h,
                    grid.run_width(col, tiles, tile.out_w, tile.out_w),
                    s.dout + (s.N - 1) * s.dout_image + s.F * s.OH * s.OW, staged);
        tile.transform_gradients(grid, col, tiles, staged, y_values + at * filters + f, TilePlaces{filters},
                                 y_stride(chunk));
      }
    });
  }

  // Adds the products of `count` tiles at one point, for one panel of channels and filters [first, first +
  // rows), to sums[f - first][c], or starts them.
  // Where there is a `next` point, its values are asked for meanwhile. `offset` has the tiles of a vector,
  // then those of two.
  void multiply(Index point, Index panel, Index first, Index rows, Index count, Index chunk,
                const Index* offset, const T* x_values, const T* y_values, bool add, T* sums,
                Index next = -1) const {
    const T* source[tile_vectors];
    for (int v = 0; v < vectors; ++v)  // a last vector without channels repeats the one before
      source[v] =
          x_values + point * x_stride(chunk) + std::min(panel * vectors + v, x_blocks - 1) * lanes * chunk;
    // Many tiles are taken in parts, as many channels are in TilePlan::multiply.
    const Index tiles_together = tile.interpolated > 7 ? 64 : 512;
    const Panels panels_of_rows(rows);
    const bool asks = next >= 0 && vectors == tile_vectors && count <= tiles_together;
    const Index* steps = offset + chunk;
    for (Index i = 0; i < panels_of_rows.count; ++i) {
      const Index f = panels_of_rows.first(i), height = panels_of_rows.rows(i);
      auto target = Target<T>::rows(sums + f * width, vectors);
      target.add = add;
      const auto kernel = vectors == 1 ? packed_tile_kernel<T, 1>(height)
                          : asks       ? tile_kernel<T, tile_vectors, Ahead::fetch>(height)
                                       : packed_tile_kernel<T>(height);
      if (asks && i == 0) {  // for x, and the other panels of filters for y, in steps of two vectors
        target.fetch = {source[0] + (next - point) * x_stride(chunk), steps, 1, nullptr};
      } else if (asks) {
        const Index share = std::max<Index>(count * filters / width / (panels_of_rows.count - 1), 1);
        target.fetch = {y_values + next * y_stride(chunk) + (i - 1) * share * width, steps,
                        std::max<Index>(count / share, 1), nullptr};
      }
      for (Index t = 0; t < count; t += tiles_together, target.add = true)
        kernel(std::min(tiles_together, count - t),
               y_values + point * y_stride(chunk) + t * filters + first + f, filters, offset + t, source,
               target);
    }
  }

  // dw of filter f and a vector of channels from its sums, `filter_step` apart, of parts `part_step` apart.
  void write(Index f, Index c0, const T* sums, Index filter_step, Index parts, Index part_step) const {
    tile.write_taps(sums, filter_step, parts, part_step, std::min(lanes, s.C - c0),
                    s.dw + (f * s.C + c0) * tile.taps());
  }
  // All of dw from the sums of `parts` parts.
  void finish(const T* sums, Index parts) const {
    parallel_for(s.F, threads, [&](Index f, int) {
      for (Index c0 = 0; c0 < s.C; c0 += lanes)
        write(f, c0, sums + (c0 / width * s.F + f) * width + c0 % width, sum_stride, parts, sum_size());
    });
  }
};

inline void fill_offsets(Index* offset, Index count, Index step) {
  for (Index i = 0; i < count; ++i) offset[i] = i * step;
}

// Room for the transforms of `chunk` tiles, which all threads make and then read.
template <class T>
class SharedTiles {
 public:
  SharedTiles(const TileGradientPlan<T>& tile_plan, Index most_tiles) : plan(tile_plan), chunk(most_tiles) {
    fill_offsets(offset_piece.in(scratch.data()), chunk, Simd<T>::size);
    fill_offsets(offset_piece.in(scratch.data()) + chunk, chunk, tile_lanes<T>);
  }
  void transform(Index begin, Index end) {
    parallel_for(plan.x_blocks + plan.filter_blocks, plan.threads, [&](Index q, int slot) {
      plan.transform(q, begin, end, chunk, staged_piece.of(scratch.data(), slot), x_piece.in(scratch.data()),
                     y_piece.in(scratch.data()));
    });
  }
  // As TileGradientPlan::multiply.
  void multiply(Index point, Index panel, Index first, Index rows, Index count, bool add, T* sums,
                Index next = -1) {
    plan.multiply(point, panel, first, rows, count, chunk, offset_piece.in(scratch.data()),
                  x_piece.in(scratch.data()), y_piece.in(scratch.data()), add, sums, next);
  }

 private:
  const TileGradientPlan<T>& plan;
  Index chunk;
  Layout layout;
  Piece<T> x_piece = layout.array<T>(plan.tile.points() * plan.x_stride(chunk));
  Piece<T> y_piece = layout.array<T>(plan.tile.points() * plan.y_stride(chunk));
  ThreadPiece<T> staged_piece = layout.per_thread<T>(plan.threads, plan.staged_size);
  Piece<Index> offset_piece = layout.array<Index>(2 * chunk);
  Scratch scratch{layout.bytes()};
};

// All threads transform a chunk of tiles, then each multiplies some points of all of them.
template <class T>
void weights_by_points(const TileGradientPlan<T>& plan) {
  constexpr Index chunk_bytes = 8 << 20;
  const Index count = plan.grid.count;
  const Index chunk = even_part(count, std::clamp<Index>(chunk_bytes / plan.tile_bytes(), 32, 512));
  SharedTiles<T> tiles(plan, chunk);
  Layout layout;
  const auto sum_piece = layout.array<T>(plan.sum_size());
  const Scratch scratch(layout.bytes());
  T* sums = sum_piece.in(scratch.data());
  const Index panels = plan.channel_blocks / plan.vectors;
  for (Index begin = 0; begin < count; begin += chunk) {
    const Index end = std::min(count, begin + chunk);
    tiles.transform(begin, end);
    // The filters of many points are the last ones, and begin.
    parallel_for(plan.tile.filters() * panels, plan.threads, [&](Index task, int) {
      const Index filter = plan.tile.filters() - 1 - task / panels, panel = task % panels;
      const Index h = filter / plan.tile.filters_w, w = filter % plan.tile.filters_w;
      Index point = -1;  // a point is multiplied when the next one is known
      const auto multiply_before = [&](Index next) {
        if (point >= 0)
          tiles.multiply(point, panel, 0, plan.s.F, end - begin,
                         begin > 0 || point != plan.tile.first_point(filter),
                         sums + filter * plan.sum_stride + panel * plan.s.F * plan.width, next);
        point = next;
      };
      plan.tile.each_point_of(h, w, [&](Index next, bool) { multiply_before(next); });
      multiply_before(filter > 0 ? plan.tile.first_point(filter - 1) : -1);
    });
  }
  plan.finish(sums, 1);
}

// Each thread transforms and multiplies tiles of its own, and nothing leaves its cache but the sums of a
// part. There are at most as many parts as rows of tiles.
template <class T>
void weights_by_parts(const TileGradientPlan<T>& plan, Index parts) {
  constexpr Index chunk_bytes = 1 << 20, lanes = Simd<T>::size;
  const Index cols = plan.grid.cols, rows = plan.grid.count / cols;  // whole rows of tiles, where they fit
  const Index most = std::clamp<Index>(chunk_bytes / plan.tile_bytes(), 32, 512);
  const Index chunk = cols <= most ? even_part((rows + parts - 1) / parts, most / cols) * cols : most;
  Layout layout;
  const auto x_piece = layout.per_thread<T>(plan.threads, plan.tile.points() * plan.x_stride(chunk));
  const auto y_piece = layout.per_thread<T>(plan.threads, plan.tile.points() * plan.y_stride(chunk));
  const auto staged_piece = layout.per_thread<T>(plan.threads, plan.staged_size);
  const auto sum_piece = layout.array<T>(checked_product(parts, plan.sum_size()));
  const auto offset_piece = layout.array<Index>(chunk);
  const Scratch scratch(layout.bytes());
  T* sums = sum_piece.in(scratch.data());
  Index* offset = offset_piece.in(scratch.data());
  fill_offsets(offset, chunk, lanes);
  parallel_for(parts, plan.threads, [&](Index part, int slot) {
    T* x_values = x_piece.of(scratch.data(), slot);
    T* y_values = y_piece.of(scratch.data(), slot);
    const Index first = rows * part / parts * cols, last = rows * (part + 1) / parts * cols;
    for (Index begin = first; begin < last; begin += chunk) {
      const Index end = std::min(last, begin + chunk);
      for (Index q = 0; q < plan.x_blocks + plan.filter_blocks; ++q)
        plan.transform(q, begin, end, chunk, staged_piece.of(scratch.data(), slot), x_values, y_values);
      plan.tile.each_point([&](Index point, Index filter, bool start) {
        for (Index panel = 0; panel < plan.channel_blocks / plan.vectors; ++panel)
          plan.multiply(
              point, panel, 0, plan.s.F, end - begin, chunk, offset, x_values, y_values,
              begin > first || !start,
              sums + part * plan.sum_size() + filter * plan.sum_stride + panel * plan.s.F * plan.width);
      });
    }
  });
  plan.finish(sums, parts);
}

// All threads transform all tiles, then each takes some channels and filters, whose sums stay in its cache.
// Where it is expensive to read what others transformed, each transforms all tiles for some filters of its
// own.
template <class T>
void weights_by_channels(const TileGradientPlan<T>& plan) {
  constexpr Index lanes = Simd<T>::size, least_filters = 64;  // of a thread
  const int threads = plan.threads;
  if (threads > 1 && plan.s.F >= least_filters * threads && sharing_is_expensive(threads))
    return each_on_its_own(threads, threads, [&](Index part) {
      const auto some =
          plan.s.filters(plan.s.F * part / threads, plan.s.F * (part + 1) / threads, plan.tile.taps());
      weights_by_channels(TileGradientPlan<T>(plan.tile, some));
    });
  const Index count = plan.grid.count, panels = plan.channel_blocks / plan.vectors;
  const Index rows = plan.filters_of_block(), row_blocks = (plan.s.F + rows - 1) / rows;
  const Index filter_step = rows * plan.width + lanes;
  SharedTiles<T> tiles(plan, count);
  Layout layout;
  const auto sum_piece = layout.per_thread<T>(plan.threads, plan.tile.filters() * filter_step);
  const Scratch scratch(layout.bytes());
  tiles.transform(0, count);
  parallel_for(panels * row_blocks, plan.threads, [&](Index task, int slot) {
    const Index panel = task / row_blocks, first = task % row_blocks * rows;
    const Index filters = std::min(rows, plan.s.F - first);
    T* sums = sum_piece.of(scratch.data(), slot);
    plan.tile.each_point([&](Index point, Index filter, bool start) {
      tiles.multiply(point, panel, first, filters, count, !start, sums + filter * filter_step);
    });
    for (Index f = 0; f < filters; ++f)
      for (Index v = 0; v < plan.vectors && panel * plan.width + v * lanes < plan.s.C; ++v)
        plan.write(first + f, panel * plan.width + v * lanes, sums + f * plan.width + v * lanes, filter_step,
                   1, 0);
  });
}

// dw by Winograd's method, in one of three orders. Their sums differ in order, so that only the shape
// chooses.
template <class T>
class WinogradWeightGradient {
 public:
  WinogradWeightGradient(const GradientTile<T>& tile, const TileGradient<T>& gradient)
      : s(gradient), plan(tile, s) {
    constexpr Index fewest_parts = 4, most_parts = 16, most_sums = 640 << 10, fewest_blocks = 8,
                    most_values = 12 << 20;
    const Index tiles = plan.grid.count, sums = plan.sum_size() * Index(sizeof(T)),
                values = tiles * plan.tile_bytes();
    const Index tiles_of_part = 32 + sums / 2560;  // which take several times as long as adding up their sums
    parts = std::clamp(tiles / tiles_of_part, fewest_parts, most_parts);
    order = tiles >= tiles_of_part && tiles / plan.grid.cols >= parts && sums <= most_sums ? Order::parts
            : values <= std::max(most_values, sums) && plan.filter_channel_blocks() >= fewest_blocks
                ? Order::channels
                : Order::points;
  }

  void run() const {
    switch (order) {
      case Order::parts:
        return weights_by_parts(plan, parts);
      case Order::channels:
        return weights_by_channels(plan);
      case Order::points:
        return weights_by_points(plan);
    }
  }

  void describe(ConvPlan& to) const {
    to.tile_rows = plan.tile.out_h;
    to.tile_columns = plan.tile.out_w;
    to.threads = plan.threads;
    name_blocks(to, {{"channels", plan.width},
                     {"filters", order == Order::channels ? plan.filters_of_block() : s.F},
                     {"partial sums", order == Order::parts ? parts : 1}});
  }

 private:
  enum class Order { parts, channels, points };
  TileGradient<T> s;
  TileGradientPlan<T> plan;
  Index parts;
  Order order;
};

}  // namespace cnnlib::CNNLIB_ISA
