// The weights' gradient by Winograd's method, as the adjoint of the forward pass:
//
//   dw = G' [ sum over tiles of (A dy A') . (B' d B) ] G
//
//   x[point][c block][tile][c]   y[point][tile][filter]   sums[filter point][panel of channels][f][c]
//
//              tiles ->                 channels (lanes) ->
//   filters    y(f0) y(f0) ..        x(c0) x(c1) .. | ..     tile 0      one such product for every point;
//   (rows)     y(f1) y(f1) ..    *   x(c0) x(c1) .. | ..     tile 1      points with the same filter point
//              ..                    ..                      ..          add up
//
// The order of every sum depends on the shape alone, whatever the number of threads.
#pragma once

#include "kernels/conv/bias_gradient.hpp"
#include "kernels/conv/method.hpp"
#include "kernels/conv/winograd/staged_runs.hpp"
#include "kernels/conv/winograd/tile_choice.hpp"
#include "kernels/gemm/micro_kernel.hpp"
#include "machine/processor.hpp"

namespace cnnlib::CNNLIB_ISA {

// dw of a group. Images of x and of dout begin x_image and dout_image values apart.
template <class T>
struct TileGradient : TileShape {
  const T *x = nullptr, *dout = nullptr;
  Index x_image = groups * C * H * W, dout_image = groups * F * OH * OW;
  T* dw = nullptr;

  explicit TileGradient(const ConvShape& s) : TileShape(s) {}
  void set_operands(const GradientOperands<T>& o, Index group) {
    x = o.x + group * C * H * W;
    dout = o.dout + group * F * OH * OW;
    dw = o.dw + group * F * C * taps();
  }
};

// dw by Winograd's method, in the order of its cut, a group after the other.
template <class T>
class WinogradWeightGradient {
  static constexpr Index lanes = Simd<T>::size;

 public:
  struct Cut {
    TileShape shape;  // of a group
    const GradientTile<T>& tile;
    TileSums<T> sums{shape, tile};
    TileCut tiles = tile_cut(shape, tile, sums);
  };
  static Cut cut_of(const ConvRequest& r) {
    return {TileShape(r.shape),
            *with_tile<T, false>(r, [](auto chosen) { return &gradient_tile<T, decltype(chosen)>; })};
  }

  // `shape` and the cut live as long as this.
  [[gnu::noinline]] WinogradWeightGradient(const ConvShape& shape, const Cut& own_cut, bool, bool)
      : all_groups(shape), tile(own_cut.tile), s(shape), sum(own_cut.sums), cut(own_cut.tiles) {
    schedule();
  }

  void run(const GradientOperands<T>& o) {
    if (o.dw != nullptr) {
      const ScratchOf<Memory> scratch(*this);
      for (Index t = 0; t < room; ++t) {
        scratch->offset.data()[t] = t * lanes;
        scratch->offset.data()[room + t] = t * NR<T>;
      }
      for (Index group = 0; group < s.groups; ++group) {
        s.set_operands(o, group);
        run_group(scratch);
      }
    }
    bias_gradient(all_groups, o);
  }

  void describe(ConvExplanation& to) const {
    fill_in(to, {tile.h.outs, tile.w.outs}, threads,
            {{"channels", width}, {"filters", filters_of_task}, {"partial sums", cut.parts}});
    to.scratch_bytes = std::max(bytes_of<Memory>(*this), bias_gradient_bytes(all_groups));
  }

 private:
  // Transformed tiles, of threads or of all.
  struct Tiles {
    T *x, *y;
    const Index* offset;  // of tiles of one vector, then of tiles of two
  };
  struct Memory {
    const WinogradWeightGradient& m;
    Layout& layout;
    int copies = m.cut.order == TileOrder::parts ? m.threads : 1;
    ThreadReserved<T> x{layout, copies, checked_product(m.tile.points(), m.x_stride())};
    ThreadReserved<T> y{layout, copies, checked_product(m.tile.points(), m.y_stride())};
    ThreadReserved<T> staged{layout, m.threads, m.staged_size};
    Reserved<Index> offset{layout, 2 * m.room};
    ThreadReserved<T> sums{layout, m.cut.order == TileOrder::channels ? m.threads : 1, m.sums_size()};

    Tiles tiles(int slot = 0) const { return {x[slot], y[slot], offset.data()}; }
  };
  // Between points, a cache line more than needed: at a multiple of 4096 bytes the points of a tile would
  // meet in one set of the first-level cache.
  Index x_stride() const { return channels * room + lanes; }
  Index y_stride() const { return filters * room + lanes; }
  Index sums_size() const {
    return cut.order == TileOrder::channels ? tile.filters() * filter_step()
                                            : checked_product(cut.parts, sum.size);
  }

  // Cuts what the threads share into tasks.
  void schedule() {
    switch (cut.order) {
      case TileOrder::points:
        // At a stride a third of the points has one filter point, so that its task takes longest.
        filter_parts = std::clamp<Index>(threads / 4, 1, std::max<Index>(1, s.F / (2 * MR)));
        break;
      case TileOrder::parts: {
        // A task that shares its tiles with others transforms some of their values again.
        constexpr double gain = 1.25;
        panel_parts = splits_for(cut.parts, panels, threads, gain);
        filter_parts = splits_for(cut.parts * panel_parts, filter_blocks, threads, gain);
        break;
      }
      case TileOrder::channels: {
        // As many filters as the cache holds sums of, or fewer where tasks are too few for the threads.
        constexpr Index least_rows = 4;
        const Index most = sum.filters_of_block(l2_for_blocks() / 2);
        const Index tasks = panels * ceil_div(s.F, most);
        filters_of_task = ceil_div(most, splits_for(tasks, std::max<Index>(1, most / least_rows), threads));
      }
    }
  }

  void run_group(const ScratchOf<Memory>& scratch) const {
    if (cut.order == TileOrder::channels) return run_by_channels(scratch);
    cut.order == TileOrder::parts ? run_by_parts(scratch) : run_by_points(scratch);
    T* sums = scratch->sums[0];
    parallel_for(s.F, threads, [&](Index f, int) {
      for (Index q = 0; q < x_blocks; ++q)
        write(f, q, sums + sum.at(0, q / vectors, f) + q % vectors * lanes, sum.stride, cut.parts, sum.size);
    });
  }

  // All threads transform a chunk of tiles, then each multiplies some points of all of them.
  void run_by_points(const ScratchOf<Memory>& scratch) const {
    for (Index begin = 0; begin < grid.count; begin += room) {
      const Index count = std::min(room, grid.count - begin);
      transform_by_all(scratch, begin, count);
      // The filters of many points are the last ones, and begin.
      parallel_grid({tile.filters(), panels, filter_parts}, threads,
                    [&](Index at, Index panel, Index part, int) {
                      multiply_points(scratch, count, tile.filters() - 1 - at, panel,
                                      range_of(s.F, part, filter_parts), begin > 0);
                    });
    }
  }

  // The products of all points with one filter point, for one panel of channels and some filters.
  void multiply_points(const ScratchOf<Memory>& scratch, Index count, Index filter, Index panel, Range rows,
                       bool add) const {
    const Index first = tile.first_point(filter);
    Index point = -1;  // a point is multiplied when the next one is known
    const auto multiply_before = [&](Index next) {
      if (point >= 0)
        multiply(scratch->tiles(), count, point, panel, rows, add || point != first,
                 scratch->sums[0] + sum.at(filter, panel, rows.first), next);
      point = next;
    };
    tile.each_point_of(filter / tile.w.filters, filter % tile.w.filters,
                       [&](Index next, bool) { multiply_before(next); });
    multiply_before(filter > 0 ? tile.first_point(filter - 1) : -1);
  }

  // Each thread transforms and multiplies tiles of its own, and nothing leaves its cache but the sums of a
  // part.
  void run_by_parts(const ScratchOf<Memory>& scratch) const {
    parallel_grid({cut.parts, panel_parts, filter_parts}, threads,
                  [&](Index part, Index panel_part, Index filter_part, int slot) {
                    add_part(scratch, slot, part, range_of(panels, panel_part, panel_parts),
                             range_of(filter_blocks, filter_part, filter_parts));
                  });
  }

  // Adds up a part for some panels of channels and blocks of filters.
  void add_part(const ScratchOf<Memory>& scratch, int slot, Index part, Range of_panels, Range blocks) const {
    const Tiles tiles = scratch->tiles(slot);
    T* sums = scratch->sums[0] + part * sum.size;
    const Range own = range_of(tile_rows, part, cut.parts),
                rows{blocks.first * lanes, std::min(s.F, blocks.last * lanes)};
    const Index first = own.first * grid.cols, last = own.last * grid.cols;
    const Index last_x = std::min(x_blocks, of_panels.last * vectors);
    for (Index begin = first; begin < last; begin += room) {
      const Index end = std::min(last, begin + room);
      for (Index q = of_panels.first * vectors; q < last_x; ++q)
        transform(q, begin, end, scratch->staged[slot], tiles);
      for (Index q = blocks.first; q < blocks.last; ++q)
        transform(x_blocks + q, begin, end, scratch->staged[slot], tiles);
      tile.each_point([&](Index point, Index filter, bool start) {
        for (Index panel = of_panels.first; panel < of_panels.last; ++panel)
          multiply(tiles, end - begin, point, panel, rows, begin > first || !start,
                   sums + sum.at(filter, panel, rows.first));
      });
    }
  }

  // All threads transform all tiles, then each takes some channels and filters, whose sums stay in its cache.
  void run_by_channels(const ScratchOf<Memory>& scratch) const {
    transform_by_all(scratch, 0, grid.count);
    parallel_grid({panels, ceil_div(s.F, filters_of_task)}, threads, [&](Index panel, Index block, int slot) {
      T* sums = scratch->sums[slot];
      const Range rows{block * filters_of_task, std::min((block + 1) * filters_of_task, s.F)};
      tile.each_point([&](Index point, Index filter, bool start) {
        multiply(scratch->tiles(), grid.count, point, panel, rows, !start, sums + filter * filter_step());
      });
      for (Index f = rows.first; f < rows.last; ++f, sums += width)
        for (Index v = 0; v < vectors && panel * vectors + v < x_blocks; ++v)
          write(f, panel * vectors + v, sums + v * lanes, filter_step(), 1, 0);
    });
  }
  Index filter_step() const { return filters_of_task * width + lanes; }

  // Tasks are blocks of channels and of filters, cut into ranges of tiles where these are too few.
  void transform_by_all(const ScratchOf<Memory>& scratch, Index begin, Index count) const {
    constexpr Index least_tiles = 8;
    const Index blocks = x_blocks + filter_blocks;
    // Blocks of channels and of filters take unlike times, so that a thread needs a few tasks.
    const Index most = std::max<Index>(1, count / least_tiles),
                ranges = splits_for(blocks, most, 4 * threads);
    parallel_grid({blocks, ranges}, threads, [&](Index q, Index range, int slot) {
      const Range own = range_of(count, range, ranges);
      transform(q, begin + own.first, begin + own.last, scratch->staged[slot], scratch->tiles(), own.first);
    });
  }

  // Transforms block q of the channels, or of the filters behind them, of tiles [begin, end), the first of
  // which is number `first` of those in `to`.
  void transform(Index q, Index begin, Index end, T* staged, const Tiles& to, Index first = 0) const {
    StagedRuns<T> runs{tile, grid, s, s.x, s.x_image, staged, s.channel_block(tile, lanes, q)};
    grid.each_run(begin, end, [&](Index image, Index row, Index col, Index count, Index number) {
      const Index at = first + number;
      if (q < x_blocks) {
        const T* rows = runs.stage(image, row, col, count);
        tile.transform_inputs(grid, col, count, rows, to.x + (q * room + at) * lanes, TilePlaces{lanes},
                              x_stride());
      } else {
        const Index f = (q - x_blocks) * lanes;
        stage_patch(s.dout + image * s.dout_image + f * s.OH * s.OW, s.F - f, s.OH, s.OW, grid.top(row),
                    s.dilation_h, grid.left(col), tile.h.outs,
                    grid.run_width(col, count, tile.w.outs, tile.w.outs),
                    s.dout + (s.N - 1) * s.dout_image + s.F * s.OH * s.OW, staged);
        tile.transform_gradients(grid, col, count, staged, to.y + at * filters + f, TilePlaces{filters},
                                 y_stride());
      }
    });
  }

  // Adds the products of the first `count` tiles at one point, for one panel of channels and some filters, to
  // sums[filter][c], or starts them. Where there is a `next` point, its values are prefetched meanwhile.
  void multiply(const Tiles& tiles, Index count, Index point, Index panel, Range rows, bool add, T* sums,
                Index next = -1) const {
    const Index x_step = x_stride(), y_step = y_stride();
    const T* source[tile_vectors];
    for (int v = 0; v < vectors; ++v)  // a last vector without channels repeats the one before
      source[v] = tiles.x + point * x_step + std::min(panel * vectors + v, x_blocks - 1) * lanes * room;
    const Index tiles_of_sum = cut.tiles_of_sum;
    const Panels row_panels(rows.last - rows.first);
    const bool prefetches = next >= 0 && vectors == tile_vectors && count <= tiles_of_sum;
    const Index* steps = tiles.offset + room;
    for (Index i = 0; i < row_panels.count; ++i) {
      const Index f = row_panels.first(i), height = row_panels.rows(i);
      auto target = Target<T>::rows(sums + f * width, vectors);
      target.add = add;
      const auto kernel = vectors == 1 ? packed_tile_kernel<T, 1>(height)
                          : prefetches ? tile_kernel<T, tile_vectors, Prefetch::fetch>(height)
                                       : packed_tile_kernel<T>(height);
      if (prefetches && i == 0) {  // x, and for the other panels of filters y, in steps of two vectors
        target.fetch = {source[0] + (next - point) * x_step, steps, 1, nullptr};
      } else if (prefetches) {
        const Index share = std::max<Index>(count * filters / width / (row_panels.count - 1), 1);
        target.fetch = {tiles.y + next * y_step + (i - 1) * share * width, steps,
                        std::max<Index>(count / share, 1), nullptr};
      }
      const T* y = tiles.y + point * y_step + rows.first + f;
      for (Index t = 0; t < count; t += tiles_of_sum, target.add = true)
        kernel(std::min(tiles_of_sum, count - t), y + t * filters, filters, tiles.offset + t, source, target);
    }
  }

  // dw of filter f and block q of channels from its sums, `step` apart, of `count` parts `part_step` apart.
  void write(Index f, Index q, const T* sums, Index step, Index count, Index part_step) const {
    const ChannelBlock block = s.channel_block(tile, lanes, q);
    const TapPlaces places{block.rows, block.columns, s.KW, s.taps()};
    tile.write_taps(sums, step, count, part_step, std::min(lanes, s.C - block.c0), places,
                    s.dw + (f * s.C + block.c0) * s.taps() + block.tap_h * s.KW + block.tap_w);
  }

  const ConvShape& all_groups;
  const GradientTile<T>& tile;
  TileGradient<T> s;  // of the group at hand
  TileGrid grid = s.grid(tile);
  Index tile_rows = grid.count / grid.cols;
  const TileSums<T>& sum;
  const TileCut& cut;
  Index x_blocks = sum.channel_blocks, vectors = sum.vectors, width = sum.width, panels = sum.panels,
        channels = sum.channels, filter_blocks = sum.filter_blocks, filters = sum.filters, room = cut.room;
  int threads = tile_threads(grid.count * tile.points(), channels, s.F);
  Index staged_size = (tile.h.ins * grid.most_width(tile.w.step, tile.w.ins) + lanes) * lanes;
  Index panel_parts = 1, filter_parts = 1;  // of the tasks for some of the tiles
  Index filters_of_task = s.F;
};

}  // namespace cnnlib::CNNLIB_ISA
