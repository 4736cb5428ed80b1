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
  const GradientSizes<T>& sizes;
  Index room;
  Layout& layout;
  Reserved<T> x{layout, sizes.x_size(room)}, y{layout, sizes.y_size(room)};
  ThreadReserved<T> staged{layout, sizes.threads, sizes.staged_size};
  Reserved<Index> offset{layout, 2 * room};

  TransformedTiles<T> tiles() const {
    fill_offsets(offset.data(), room, Simd<T>::size);
    fill_offsets(offset.data() + room, room, tile_lanes<T>);
    return {room, x.data(), y.data(), offset.data()};
  }
  // Tasks are blocks of channels and of filters, cut into ranges of tiles where these are too few.
  void transform(Index begin, Index end, const TransformedTiles<T>& to) const {
    constexpr Index least_tiles = 8;
    const Index blocks = sizes.x_blocks + sizes.filter_blocks, count = end - begin;
    // Blocks of channels and of filters take unlike times, so that a thread needs a few tasks.
    const Index most = std::max<Index>(1, count / least_tiles),
                ranges = splits_for(blocks, most, 4 * sizes.threads);
    parallel_grid({blocks, ranges}, sizes.threads, [&](Index q, Index range, int slot) {
      const Range own = range_of(count, range, ranges);
      sizes.transform(q, begin + own.first, begin + own.last, staged[slot],
                      to.from(own.first, sizes.filters));
    });
  }
};

// All threads transform a chunk of tiles, then each multiplies some points of all of them.
template <class T>
class GradientByPoints {
 public:
  explicit GradientByPoints(const GradientSizes<T>& of) : sizes(of) {}

  void run() const {
    const ScratchOf<Memory> scratch(*this);
    const TransformedTiles<T> tiles = scratch->shared.tiles();
    T* sums = scratch->sums.data();
    for (Index begin = 0; begin < sizes.grid.count; begin += chunk) {
      const Index end = std::min(sizes.grid.count, begin + chunk);
      scratch->shared.transform(begin, end, tiles);
      // The filters of many points are the last ones, and begin.
      const auto multiply = [&](Index at, Index panel, Index part, int) {
        const Range own = range_of(sizes.s.F, part, row_parts);
        multiply_points(tiles, end - begin, sizes.tile.filters() - 1 - at, panel, own.first,
                        own.last - own.first, begin > 0, sums);
      };
      parallel_grid({sizes.tile.filters(), sizes.panels, row_parts}, sizes.threads, multiply);
    }
    sizes.finish(sums, 1);
  }

  std::size_t scratch_bytes() const { return bytes_of<Memory>(*this); }

 private:
  struct Memory {
    const GradientByPoints& m;
    Layout& layout;
    SharedTiles<T> shared{m.sizes, m.chunk, layout};
    Reserved<T> sums{layout, m.sizes.sum_size()};
  };

  // The products of all points with one filter point, for one panel of channels and filters [f, f + rows).
  void multiply_points(const TransformedTiles<T>& tiles, Index count, Index filter, Index panel, Index f,
                       Index rows, bool add, T* sums) const {
    const Index first = sizes.tile.first_point(filter);
    Index point = -1;  // a point is multiplied when the next one is known
    const auto multiply_before = [&](Index next) {
      if (point >= 0)
        sizes.multiply(tiles, count, point, panel, f, rows, add || point != first,
                       sums + filter * sizes.sum_stride + (panel * sizes.s.F + f) * sizes.width, next);
      point = next;
    };
    sizes.tile.each_point_of(filter / sizes.tile.filters_w, filter % sizes.tile.filters_w,
                             [&](Index next, bool) { multiply_before(next); });
    multiply_before(filter > 0 ? sizes.tile.first_point(filter - 1) : -1);
  }

  static constexpr Index chunk_bytes = 8 << 20;
  const GradientSizes<T>& sizes;
  Index chunk = even_part(sizes.grid.count, sizes.tiles_in(chunk_bytes));
  // Of the filters: at a stride a third of the points has one filter point, so that its task takes longest.
  Index row_parts = std::clamp<Index>(sizes.threads / 4, 1, std::max<Index>(1, sizes.s.F / (2 * max_rows)));
};

// Each thread transforms and multiplies tiles of its own, and nothing leaves its cache but the sums of a
// part. There are at most as many parts as rows of tiles.
template <class T>
class GradientByParts {
 public:
  GradientByParts(const GradientSizes<T>& of, Index part_count) : sizes(of), parts(part_count) {
    constexpr Index chunk_bytes = 1 << 20;
    const Index most = sizes.tiles_in(chunk_bytes), cols = sizes.grid.cols;
    chunk = cols <= most ? even_part(ceil_div(rows, parts), most / cols) * cols : most;
    // A task that shares its tiles with others transforms some of their values again.
    constexpr double gain = 1.25;
    panel_parts = splits_for(parts, sizes.panels, sizes.threads, gain);
    filter_parts = splits_for(parts * panel_parts, sizes.filter_blocks, sizes.threads, gain);
  }

  void run() const {
    const ScratchOf<Memory> scratch(*this);
    T* sums = scratch->sums.data();
    Index* offset = scratch->offset.data();
    fill_offsets(offset, chunk, Simd<T>::size);
    const auto add = [&](Index part, Index panel_part, Index filter_part, int slot) {
      const TransformedTiles<T> tiles{chunk, scratch->x[slot], scratch->y[slot], offset};
      const Block block{range_of(sizes.panels, panel_part, panel_parts),
                        range_of(sizes.filter_blocks, filter_part, filter_parts)};
      add_part(part, block, tiles, scratch->staged[slot], sums + part * sizes.sum_size());
    };
    parallel_grid({parts, panel_parts, filter_parts}, sizes.threads, add);
    sizes.finish(sums, parts);
  }

  std::size_t scratch_bytes() const { return bytes_of<Memory>(*this); }

 private:
  struct Memory {
    const GradientByParts& m;
    Layout& layout;
    ThreadReserved<T> x{layout, m.sizes.threads, m.sizes.x_size(m.chunk)};
    ThreadReserved<T> y{layout, m.sizes.threads, m.sizes.y_size(m.chunk)};
    ThreadReserved<T> staged{layout, m.sizes.threads, m.sizes.staged_size};
    Reserved<T> sums{layout, checked_product(m.parts, m.sizes.sum_size())};
    Reserved<Index> offset{layout, m.chunk};
  };

  struct Block {            // of the result
    Range panels, filters;  // panels of channels, and blocks of filters
  };

  void add_part(Index part, const Block& block, const TransformedTiles<T>& tiles, T* staged, T* sums) const {
    const Range own = range_of(rows, part, parts);
    const Index first = own.first * sizes.grid.cols, last = own.last * sizes.grid.cols;
    const Index f = block.filters.first * Simd<T>::size,
                filters = std::min(sizes.s.F, block.filters.last * Simd<T>::size) - f;
    for (Index begin = first; begin < last; begin += chunk) {
      const Index end = std::min(last, begin + chunk);
      const Index last_x = std::min(sizes.x_blocks, block.panels.last * sizes.vectors);
      for (Index q = block.panels.first * sizes.vectors; q < last_x; ++q)
        sizes.transform(q, begin, end, staged, tiles);
      for (Index q = block.filters.first; q < block.filters.last; ++q)
        sizes.transform(sizes.x_blocks + q, begin, end, staged, tiles);
      sizes.tile.each_point([&](Index point, Index filter, bool start) {
        for (Index panel = block.panels.first; panel < block.panels.last; ++panel)
          sizes.multiply(tiles, end - begin, point, panel, f, filters, begin > first || !start,
                         sums + filter * sizes.sum_stride + (panel * sizes.s.F + f) * sizes.width);
      });
    }
  }

  const GradientSizes<T>& sizes;
  Index parts, rows = sizes.grid.count / sizes.grid.cols;  // of tiles
  Index panel_parts, filter_parts;                         // of the tasks of a part
  Index chunk;                                             // whole rows of tiles, where they fit
};

// All threads transform all tiles, then each takes some channels and filters, whose sums stay in its cache.
template <class T>
class GradientByChannels {
  static constexpr Index lanes = Simd<T>::size;

 public:
  explicit GradientByChannels(const GradientSizes<T>& of) : sizes(of) {}

  void run() const {
    const ScratchOf<Memory> scratch(*this);
    const TransformedTiles<T> tiles = scratch->shared.tiles();
    scratch->shared.transform(0, sizes.grid.count, tiles);
    const Index row_blocks = ceil_div(sizes.s.F, rows);
    parallel_grid({sizes.panels, row_blocks}, sizes.threads, [&](Index panel, Index block, int slot) {
      write_block(tiles, panel, block * rows, scratch->sums[slot]);
    });
  }

  std::size_t scratch_bytes() const { return bytes_of<Memory>(*this); }

 private:
  struct Memory {
    const GradientByChannels& m;
    Layout& layout;
    SharedTiles<T> shared{m.sizes, m.sizes.grid.count, layout};
    ThreadReserved<T> sums{layout, m.sizes.threads, m.sizes.tile.filters() * m.filter_step};
  };

  // dw of a panel of channels and a block of filters from `first` on.
  void write_block(const TransformedTiles<T>& tiles, Index panel, Index first, T* sums) const {
    const Index filters = std::min(rows, sizes.s.F - first);
    sizes.tile.each_point([&](Index point, Index filter, bool start) {
      sizes.multiply(tiles, sizes.grid.count, point, panel, first, filters, !start,
                     sums + filter * filter_step);
    });
    for (Index f = 0; f < filters; ++f)
      for (Index v = 0; v < sizes.vectors && panel * sizes.vectors + v < sizes.x_blocks; ++v)
        sizes.write(first + f, panel * sizes.vectors + v, sums + f * sizes.width + v * lanes, filter_step, 1,
                    0);
  }

  // As many as the cache holds, or fewer where these tasks are too few for the threads.
  Index filters_of_task() const {
    constexpr Index least_rows = 4;
    const Index most = sizes.filters_of_block(l2_for_blocks() / 2);
    const Index tasks = sizes.panels * ceil_div(sizes.s.F, most);
    return ceil_div(most, splits_for(tasks, std::max<Index>(1, most / least_rows), sizes.threads));
  }

  const GradientSizes<T>& sizes;
  Index rows = filters_of_task(), filter_step = rows * sizes.width + lanes;
};

// dw by Winograd's method, in one of three orders. Their sums differ in order, so that only the shape
// chooses.
template <class T>
class WinogradWeightGradient {
 public:
  WinogradWeightGradient(const GradientTile<T>& tile, const TileGradient<T>& gradient)
      : s(gradient), sizes{tile, s} {
    constexpr Index fewest_parts = 4, most_parts = 16, most_sums = 640 << 10, fewest_blocks = 8,
                    few_tiles = 96, block_bytes = 512 << 10;
    const Index tiles = sizes.grid.count, sums = sizes.sum_size() * Index(sizeof(T));
    const Index blocks = sizes.panels * ceil_div(s.F, sizes.filters_of_block(block_bytes));
    const Index tiles_of_part = 32 + sums / 2560;  // which take several times as long as adding up their sums
    // A power of two: the usual numbers of threads share it evenly, and need not split parts.
    const Index rows = tiles / sizes.grid.cols;  // of tiles, of which a part has some
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
    fill_in(to, {sizes.tile.out_h, sizes.tile.out_w}, sizes.threads,
            {{"channels", sizes.width},
             {"filters", order == Order::channels ? sizes.filters_of_block(l2_for_blocks() / 2) : s.F},
             {"partial sums", order == Order::parts ? parts : 1}});
    in_order([&](const auto& method) { to.scratch_bytes = method.scratch_bytes(); });
  }

 private:
  enum class Order { parts, channels, points };

  template <class Body>
  void in_order(const Body& body) const {
    switch (order) {
      case Order::parts: return body(GradientByParts<T>(sizes, parts));
      case Order::channels: return body(GradientByChannels<T>(sizes));
      case Order::points: return body(GradientByPoints<T>(sizes));
    }
  }

  TileGradient<T> s;
  GradientSizes<T> sizes;
  Index parts;
  Order order;
};

}  // namespace cnnlib::CNNLIB_ISA
