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
// The steps stand in gradient_steps.hpp; here are three orders of them. The order of every sum depends on the
// shape alone, whatever the number of threads.
#pragma once

#include "kernels/conv/winograd/gradient_steps.hpp"
#include "machine/processor.hpp"
#include "threads/grid.hpp"

namespace cnnlib::CNNLIB_ISA {

// Transforms that all threads make and then read.
template <class T>
struct SharedTiles {
  Reserved<T> x, y;
  ThreadReserved<T> staged;
  Reserved<Index> offset;

  SharedTiles(const TileGradientPlan<T>& plan, Index room, Layout& layout) {
    x = layout.array<T>(plan.x_size(room));
    y = layout.array<T>(plan.y_size(room));
    staged = layout.per_thread<T>(plan.threads, plan.staged_size);
    offset = layout.array<Index>(2 * room);
  }

  TransformedTiles<T> tiles(Index room, void* scratch) const {
    fill_offsets(offset.in(scratch), room, Simd<T>::size);
    fill_offsets(offset.in(scratch) + room, room, tile_lanes<T>);
    return {room, x.in(scratch), y.in(scratch), offset.in(scratch)};
  }
  // Tasks are blocks of channels and of filters, cut into ranges of tiles where these are too few.
  void transform(const TileGradientPlan<T>& plan, Index begin, Index end, const TransformedTiles<T>& to,
                 void* scratch) const {
    constexpr Index least_tiles = 8;
    const Index blocks = plan.x_blocks + plan.filter_blocks, count = end - begin;
    // Blocks of channels and of filters take unlike times, so that a thread needs a few tasks.
    const Index most = std::max<Index>(1, count / least_tiles),
                ranges = splits_for(blocks, most, 4 * plan.threads);
    parallel_for(blocks * ranges, plan.threads, [&](Index task, int slot) {
      const Index first = count * (task % ranges) / ranges, last = count * (task % ranges + 1) / ranges;
      plan.transform(task / ranges, begin + first, begin + last, staged.of(scratch, slot),
                     to.from(first, plan.filters));
    });
  }
};

// All threads transform a chunk of tiles, then each multiplies some points of all of them.
template <class T>
class GradientByPoints {
 public:
  explicit GradientByPoints(const TileGradientPlan<T>& tile_plan) : plan(tile_plan) {}

  void run() const {
    Layout layout;
    const Memory memory(*this, layout);
    const Scratch scratch(layout.bytes());
    const TransformedTiles<T> tiles = memory.shared.tiles(chunk, scratch.data());
    T* sums = memory.sums.in(scratch.data());
    for (Index begin = 0; begin < plan.grid.count; begin += chunk) {
      const Index end = std::min(plan.grid.count, begin + chunk);
      memory.shared.transform(plan, begin, end, tiles, scratch.data());
      // The filters of many points are the last ones, and begin.
      parallel_for(plan.tile.filters() * plan.panels * row_parts, plan.threads, [&](Index task, int) {
        const Index part = task % row_parts, at = task / row_parts;
        const Index first = plan.s.F * part / row_parts, last = plan.s.F * (part + 1) / row_parts;
        multiply_points(tiles, end - begin, plan.tile.filters() - 1 - at / plan.panels, at % plan.panels,
                        first, last - first, begin > 0, sums);
      });
    }
    plan.finish(sums, 1);
  }

  std::size_t scratch_bytes() const { return bytes_of<Memory>(*this); }

 private:
  struct Memory {
    SharedTiles<T> shared;
    Reserved<T> sums;
    Memory(const GradientByPoints& m, Layout& layout)
        : shared(m.plan, m.chunk, layout), sums(layout.array<T>(m.plan.sum_size())) {}
  };

  // The products of all points with one filter point, for one panel of channels and filters [f, f + rows).
  void multiply_points(const TransformedTiles<T>& tiles, Index count, Index filter, Index panel, Index f,
                       Index rows, bool add, T* sums) const {
    const Index first = plan.tile.first_point(filter);
    Index point = -1;  // a point is multiplied when the next one is known
    const auto multiply_before = [&](Index next) {
      if (point >= 0)
        plan.multiply(tiles, count, point, panel, f, rows, add || point != first,
                      sums + filter * plan.sum_stride + (panel * plan.s.F + f) * plan.width, next);
      point = next;
    };
    plan.tile.each_point_of(filter / plan.tile.filters_w, filter % plan.tile.filters_w,
                            [&](Index next, bool) { multiply_before(next); });
    multiply_before(filter > 0 ? plan.tile.first_point(filter - 1) : -1);
  }

  static constexpr Index chunk_bytes = 8 << 20;
  const TileGradientPlan<T>& plan;
  Index chunk = even_part(plan.grid.count, plan.tiles_in(chunk_bytes));
  // Of the filters: at a stride a third of the points has one filter point, so that its task takes longest.
  Index row_parts = std::clamp<Index>(plan.threads / 4, 1, std::max<Index>(1, plan.s.F / (2 * max_rows)));
};

// Each thread transforms and multiplies tiles of its own, and nothing leaves its cache but the sums of a
// part. There are at most as many parts as rows of tiles.
template <class T>
class GradientByParts {
 public:
  GradientByParts(const TileGradientPlan<T>& tile_plan, Index part_count)
      : plan(tile_plan), parts(part_count) {
    constexpr Index chunk_bytes = 1 << 20;
    const Index most = plan.tiles_in(chunk_bytes), cols = plan.grid.cols;
    chunk = cols <= most ? even_part(ceil_div(rows, parts), most / cols) * cols : most;
    // A task that shares its tiles with others transforms some of their values again.
    constexpr double gain = 1.25;
    panel_parts = splits_for(parts, plan.panels, plan.threads, gain);
    filter_parts = splits_for(parts * panel_parts, plan.filter_blocks, plan.threads, gain);
  }

  void run() const {
    Layout layout;
    const Memory memory(*this, layout);
    const Scratch scratch(layout.bytes());
    T* sums = memory.sums.in(scratch.data());
    Index* offset = memory.offset.in(scratch.data());
    fill_offsets(offset, chunk, Simd<T>::size);
    parallel_for(parts * panel_parts * filter_parts, plan.threads, [&](Index task, int slot) {
      const TransformedTiles<T> tiles{chunk, memory.x.of(scratch.data(), slot),
                                      memory.y.of(scratch.data(), slot), offset};
      const Index panel_part = task / filter_parts % panel_parts, filter_part = task % filter_parts,
                  part = task / filter_parts / panel_parts;
      const Block block{panel_part * plan.panels / panel_parts, (panel_part + 1) * plan.panels / panel_parts,
                        filter_part * plan.filter_blocks / filter_parts,
                        (filter_part + 1) * plan.filter_blocks / filter_parts};
      add_part(part, block, tiles, memory.staged.of(scratch.data(), slot), sums + part * plan.sum_size());
    });
    plan.finish(sums, parts);
  }

  std::size_t scratch_bytes() const { return bytes_of<Memory>(*this); }

 private:
  struct Memory {
    ThreadReserved<T> x, y, staged;
    Reserved<T> sums;
    Reserved<Index> offset;
    Memory(const GradientByParts& m, Layout& layout) {
      x = layout.per_thread<T>(m.plan.threads, m.plan.x_size(m.chunk));
      y = layout.per_thread<T>(m.plan.threads, m.plan.y_size(m.chunk));
      staged = layout.per_thread<T>(m.plan.threads, m.plan.staged_size);
      sums = layout.array<T>(checked_product(m.parts, m.plan.sum_size()));
      offset = layout.array<Index>(m.chunk);
    }
  };

  struct Block {  // of the result: panels of channels, and blocks of filters
    Index first_panel, last_panel, first_filters, last_filters;
  };

  void add_part(Index part, const Block& block, const TransformedTiles<T>& tiles, T* staged, T* sums) const {
    const Index first = rows * part / parts * plan.grid.cols,
                last = rows * (part + 1) / parts * plan.grid.cols;
    const Index f = block.first_filters * Simd<T>::size,
                filters = std::min(plan.s.F, block.last_filters * Simd<T>::size) - f;
    for (Index begin = first; begin < last; begin += chunk) {
      const Index end = std::min(last, begin + chunk);
      const Index last_x = std::min(plan.x_blocks, block.last_panel * plan.vectors);
      for (Index q = block.first_panel * plan.vectors; q < last_x; ++q)
        plan.transform(q, begin, end, staged, tiles);
      for (Index q = block.first_filters; q < block.last_filters; ++q)
        plan.transform(plan.x_blocks + q, begin, end, staged, tiles);
      plan.tile.each_point([&](Index point, Index filter, bool start) {
        for (Index panel = block.first_panel; panel < block.last_panel; ++panel)
          plan.multiply(tiles, end - begin, point, panel, f, filters, begin > first || !start,
                        sums + filter * plan.sum_stride + (panel * plan.s.F + f) * plan.width);
      });
    }
  }

  const TileGradientPlan<T>& plan;
  Index parts, rows = plan.grid.count / plan.grid.cols;  // of tiles
  Index panel_parts, filter_parts;                       // of the tasks of a part
  Index chunk;                                           // whole rows of tiles, where they fit
};

// All threads transform all tiles, then each takes some channels and filters, whose sums stay in its cache.
template <class T>
class GradientByChannels {
  static constexpr Index lanes = Simd<T>::size;

 public:
  explicit GradientByChannels(const TileGradientPlan<T>& tile_plan) : plan(tile_plan) {}

  void run() const {
    Layout layout;
    const Memory memory(*this, layout);
    const Scratch scratch(layout.bytes());
    const TransformedTiles<T> tiles = memory.shared.tiles(plan.grid.count, scratch.data());
    memory.shared.transform(plan, 0, plan.grid.count, tiles, scratch.data());
    const Index row_blocks = ceil_div(plan.s.F, rows);
    parallel_for(plan.panels * row_blocks, plan.threads, [&](Index task, int slot) {
      write_block(tiles, task / row_blocks, task % row_blocks * rows, memory.sums.of(scratch.data(), slot));
    });
  }

  std::size_t scratch_bytes() const { return bytes_of<Memory>(*this); }

 private:
  struct Memory {
    SharedTiles<T> shared;
    ThreadReserved<T> sums;
    Memory(const GradientByChannels& m, Layout& layout)
        : shared(m.plan, m.plan.grid.count, layout),
          sums(layout.per_thread<T>(m.plan.threads, m.plan.tile.filters() * m.filter_step)) {}
  };

  // dw of a panel of channels and a block of filters from `first` on.
  void write_block(const TransformedTiles<T>& tiles, Index panel, Index first, T* sums) const {
    const Index filters = std::min(rows, plan.s.F - first);
    plan.tile.each_point([&](Index point, Index filter, bool start) {
      plan.multiply(tiles, plan.grid.count, point, panel, first, filters, !start,
                    sums + filter * filter_step);
    });
    for (Index f = 0; f < filters; ++f)
      for (Index v = 0; v < plan.vectors && panel * plan.width + v * lanes < plan.s.C; ++v)
        plan.write(first + f, panel * plan.width + v * lanes, sums + f * plan.width + v * lanes, filter_step,
                   1, 0);
  }

  // As many as the cache holds, or fewer where these tasks are too few for the threads.
  Index filters_of_task() const {
    constexpr Index least_rows = 4;
    const Index most = plan.filters_of_block(l2_for_blocks() / 2);
    const Index tasks = plan.panels * ceil_div(plan.s.F, most);
    return ceil_div(most, splits_for(tasks, std::max<Index>(1, most / least_rows), plan.threads));
  }

  const TileGradientPlan<T>& plan;
  Index rows = filters_of_task(), filter_step = rows * plan.width + lanes;
};

// dw by Winograd's method, in one of three orders. Their sums differ in order, so that only the shape
// chooses.
template <class T>
class WinogradWeightGradient {
 public:
  WinogradWeightGradient(const GradientTile<T>& tile, const TileGradient<T>& gradient)
      : s(gradient), plan(tile, s) {
    constexpr Index fewest_parts = 4, most_parts = 16, most_sums = 640 << 10, fewest_blocks = 8,
                    few_tiles = 96, block_bytes = 512 << 10;
    const Index tiles = plan.grid.count, sums = plan.sum_size() * Index(sizeof(T));
    const Index blocks = plan.panels * ceil_div(s.F, plan.filters_of_block(block_bytes));
    const Index tiles_of_part = 32 + sums / 2560;  // which take several times as long as adding up their sums
    // A power of two: the usual numbers of threads share it evenly, and need not split parts.
    const Index rows = tiles / plan.grid.cols;  // of tiles, of which a part has some
    parts = fewest_parts;
    while (2 * parts <= std::min(most_parts, rows) && parts * tiles_of_part <= tiles) parts *= 2;
    order = tiles >= tiles_of_part && rows >= parts && sums <= most_sums ? Order::parts
            : tiles < few_tiles && blocks >= fewest_blocks               ? Order::channels
                                                                         : Order::points;
  }

  void run() const {
    in_order([](const auto& method) { method.run(); });
  }

  void describe(ConvPlan& to) const {
    to.tile_rows = plan.tile.out_h;
    to.tile_columns = plan.tile.out_w;
    to.threads = plan.threads;
    name_blocks(to, {{"channels", plan.width},
                     {"filters", order == Order::channels ? plan.filters_of_block(l2_for_blocks() / 2) : s.F},
                     {"partial sums", order == Order::parts ? parts : 1}});
    in_order([&](const auto& method) { to.scratch_bytes = method.scratch_bytes(); });
  }

 private:
  enum class Order { parts, channels, points };

  template <class Body>
  void in_order(const Body& body) const {
    switch (order) {
      case Order::parts:
        return body(GradientByParts<T>(plan, parts));
      case Order::channels:
        return body(GradientByChannels<T>(plan));
      case Order::points:
        return body(GradientByPoints<T>(plan));
    }
  }

  TileGradient<T> s;
  TileGradientPlan<T> plan;
  Index parts;
  Order order;
};

}  // namespace cnnlib::CNNLIB_ISA
