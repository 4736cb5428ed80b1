// Convolutions by Winograd's minimal filtering: transformed tiles of the input times transformed filters.
#pragma once

#include "kernels/conv/method.hpp"
#include "kernels/conv/winograd/steps.hpp"
#include "machine/processor.hpp"

namespace cnnlib::CNNLIB_ISA {

// A correlation by Winograd's method. The filters are transformed beforehand,
//
//   packed[panel of filters][filter point][c][filter of the panel]
//
// or, where a thread takes a panel for all tiles and nobody keeps these, panel by panel when their turn
// comes. The input is transformed block by block, each by the thread that multiplies it with all filters, or
// whole: where it is smaller than the filters, or its blocks are too few for the threads.
template <class T>
class WinogradCorrelation {
  static constexpr Index lanes = Simd<T>::size, most_tiles = 4 * max_rows;  // of a block
  static constexpr Index least_tiles = max_rows / 2;  // of a task that is worth reading a panel of filters
  static constexpr Index least_points = 4;            // of a task

 public:
  WinogradCorrelation(const CorrelationTile<T>& method, const TileProblem<T>& problem)
      : p(problem), sizes{method, p}, panel_size(method.filters() * sizes.filter_stride) {
    block = block_of_tiles();
    // Small blocks read filters that no cache near the core holds too often.
    const bool far_filters = sizes.panels * panel_size * Index(sizeof(T)) > l2_for_blocks();
    whole = few_tiles(method, p) ||
            (sizes.threads > 1 && ((far_filters && block < max_rows) || !keep_busy(blocks(), sizes.threads)));
    if (whole) cut_whole_input();
    packs_by_panel = whole && !p.prepacked && groups == 1 && point_groups == 1;
  }

  Index packed_size() const { return packs_by_panel ? 0 : checked_product(sizes.panels, panel_size); }

  void pack(T* packed) const {
    if (packs_by_panel) return;
    const ScratchArray<T, ThreadReserved> taps(sizes.threads, filter_taps<T>(p.taps()));
    const auto transform = [&](Index panel, Index v, Index q, int slot) {
      sizes.tile.transform_filters(p, panel * sizes.width + v * lanes, q, taps[slot],
                                   packed + panel * panel_size + v * lanes, sizes.width, sizes.filter_stride);
    };
    parallel_grid({sizes.panels, sizes.vectors, sizes.channel_blocks}, sizes.threads, transform);
  }

  void run(const T* packed) const { whole ? run_whole(packed) : run_by_block(packed); }

  void describe(ConvPlan& plan) const {
    fill_in(plan, {sizes.tile.out_h, sizes.tile.out_w}, sizes.threads,
            {{"tiles", block},
             {"channels", whole ? chunk_of_channels() * lanes : sizes.channels},
             {"filters", sizes.width},
             {"input transformed whole", whole},
             {"tasks of the products", whole ? sizes.panels * groups * point_groups : blocks()}});
    plan.scratch_bytes = whole ? bytes_of<WholeMemory>(*this) : bytes_of<BlockMemory>(*this);
  }

 private:
  Index blocks() const { return ceil_div(sizes.grid.count, block); }

  // Tiles whose transforms stay in the second-level cache.
  Index block_of_tiles() const {
    Index tiles = l2_for_blocks() /
                  (sizes.tile.points() * (sizes.channels + sizes.width) * Index(sizeof(T))) / max_rows *
                  max_rows;
    tiles = std::clamp<Index>(tiles, max_rows, most_tiles);
    const Index count = sizes.grid.count;
    Index blocks = ceil_div(count, tiles);
    // Two blocks a thread where these fill half of a tile's rows, and none left over for one thread alone.
    if (sizes.threads > 1) blocks = std::max(blocks, std::min<Index>(2 * sizes.threads, count / least_tiles));
    while (blocks > sizes.threads && !keep_busy(blocks, sizes.threads)) ++blocks;
    return ceil_div(count, blocks);
  }

  // Tasks are panels of filters by groups of tiles, whose products are transformed where they are made, and
  // of points, which part the panel that groups of tiles would each read whole.
  void cut_whole_input() {
    const int threads = sizes.threads;
    // A task of some tiles or points reads filters that another thread packed, which takes as long as their
    // products with 8 tiles.
    const double gain = p.prepacked ? 1.05 : std::min(2.1, 1.15 + 8.0 / double(sizes.grid.count));
    const Index most_groups = std::max<Index>(1, sizes.grid.count / least_tiles);
    const Index most_point_groups = std::max<Index>(1, sizes.tile.points() / least_points);
    const Index wanted = splits_for(sizes.panels, most_groups, threads, gain);
    // Products are written and read again; of the filters every group but the first reads a copy.
    const bool by_points = 2 * sizes.grid.count < (wanted - 1) * sizes.channels;
    if (by_points) point_groups = splits_for(sizes.panels, most_point_groups, threads, gain);
    const Index tiles =
        ceil_div(sizes.grid.count,
                 by_points ? splits_for(sizes.panels * point_groups, most_groups, threads, gain) : wanted);
    block = even_part(tiles, most_tiles);
    blocks_of_group = ceil_div(tiles, block);
    groups = ceil_div(blocks(), blocks_of_group);
    if (!by_points) point_groups = splits_for(sizes.panels * groups, most_point_groups, threads, gain);
  }

  struct BlockMemory {
    const WinogradCorrelation& m;
    Layout& layout;
    const WinogradSizes<T>& s = m.sizes;
    ThreadReserved<T> staged{layout, s.threads, s.staged_size};
    ThreadReserved<Index> places{layout, s.threads, m.block};
    ThreadReserved<T> values{layout, s.threads, s.tile.points() * s.value_stride(m.block)};
    ThreadReserved<T> products{layout, s.threads, m.product_size()};
  };

  // Many tiles: every thread takes blocks of them, whose transforms stay in its second-level cache while
  // all filters pass over them.
  void run_by_block(const T* packed) const {
    const ScratchOf<BlockMemory> scratch(*this);
    const Index count = blocks();
    parallel_for(count, sizes.threads, [&](Index task, int slot) {
      const auto [begin, end] = range_of(sizes.grid.count, task, count);
      T* values = scratch->values[slot];
      T* products = scratch->products[slot];
      for (Index q = 0; q < sizes.channel_blocks; ++q)
        sizes.transform(begin, end, block, q, begin, end, scratch->staged[slot], values, block,
                        scratch->places[slot]);
      for (Index panel = 0; panel < sizes.panels; ++panel) {
        sizes.multiply(begin, end, 0, sizes.channel_blocks, sizes.all_points(), values, block,
                       packed + panel * panel_size, sizes.filter_stride, products, block);
        sizes.write(begin, end, panel, products, block);
      }
    });
  }

  // Blocks of channels whose filters pass over all tiles at a time, where one block has all of these. What is
  // packed comes from memory, twice as fast in one run.
  Index chunk_of_channels() const {
    const Index cache_bytes = l2_for_blocks() / 2;  // for filters
    if (!packs_by_panel || block < sizes.grid.count) return sizes.channel_blocks;
    const Index part = sizes.channel_blocks_of_sum();
    const Index bytes = sizes.tile.filters() * lanes * sizes.width * Index(sizeof(T));
    return std::min(sizes.channel_blocks, std::max<Index>(cache_bytes / bytes / part, 1) * part);
  }

  Index product_size() const { return sizes.tile.points() * sizes.product_stride(block); }  // of a block

  struct WholeMemory {
    const WinogradCorrelation& m;
    Layout& layout;
    const WinogradSizes<T>& s = m.sizes;
    Index tiles = s.grid.count;
    bool in_tasks = m.point_groups == 1;  // outputs are written where products are made
    ThreadReserved<T> filters{layout, s.threads, m.packs_by_panel ? s.tile.filters() * m.panel_stride() : 0};
    ThreadReserved<T> taps{layout, s.threads, m.packs_by_panel ? filter_taps<T>(m.p.taps()) : 0};
    ThreadReserved<T> staged{layout, s.threads, s.staged_size};
    ThreadReserved<Index> places{layout, s.threads, tiles};
    Reserved<T> values{layout, checked_product(s.tile.points(), s.value_stride(tiles))};
    ThreadReserved<T> products{layout, s.threads, in_tasks ? m.product_size() : 0};
    Reserved<T> all_products{
        layout, in_tasks ? 0 : checked_product(checked_product(s.panels, m.blocks()), m.product_size())};
  };
  Index panel_stride() const { return chunk_of_channels() * lanes * sizes.width + lanes; }

  // All tiles are transformed first. Then a task takes a panel of filters for a group of tiles; where it has
  // some of the points alone, outputs are written in a loop of their own.
  void run_whole(const T* packed) const {
    const ScratchOf<WholeMemory> scratch(*this);
    T* values = scratch->values.data();
    transform_input(scratch);
    if (packs_by_panel) return pack_and_multiply(scratch);
    const auto products_at = [&](Index panel, Index b) {
      return scratch->all_products.data() + (panel * blocks() + b) * product_size();
    };
    const auto multiply = [&](Index panel, Index group, Index part, int slot) {
      const Index last = std::min(blocks(), (group + 1) * blocks_of_group);
      for (Index b = group * blocks_of_group; b < last; ++b) {
        const Index begin = b * block, end = std::min(sizes.grid.count, begin + block);
        T* products = point_groups > 1 ? products_at(panel, b) : scratch->products[slot];
        sizes.multiply(begin, end, 0, sizes.channel_blocks, range_of(sizes.tile.points(), part, point_groups),
                       values + begin * sizes.channels, sizes.grid.count, packed + panel * panel_size,
                       sizes.filter_stride, products, block);
        if (point_groups == 1) sizes.write(begin, end, panel, products, block);
      }
    };
    parallel_grid({sizes.panels, groups, point_groups}, sizes.threads, multiply);
    if (point_groups == 1) return;
    const Index ranges =
        splits_for(sizes.panels * blocks(), std::max<Index>(1, block / least_tiles), sizes.threads);
    parallel_grid({sizes.panels, blocks(), ranges}, sizes.threads,
                  [&](Index panel, Index b, Index range, int) {
                    const Index begin = b * block, tiles = std::min(block, sizes.grid.count - begin);
                    const Range own = range_of(tiles, range, ranges);
                    sizes.write(begin + own.first, begin + own.last, panel,
                                products_at(panel, b) + own.first * sizes.width, block);
                  });
  }

  // Blocks of channels and, where these are too few for the threads, ranges of tiles.
  void transform_input(const ScratchOf<WholeMemory>& scratch) const {
    const Index count = sizes.grid.count;
    const Index ranges = splits_for(sizes.channel_blocks, ceil_div(count, least_tiles), sizes.threads);
    parallel_grid({sizes.channel_blocks, ranges}, sizes.threads, [&](Index q, Index range, int slot) {
      const Range own = range_of(count, range, ranges);
      sizes.transform(0, count, block, q, own.first, own.last, scratch->staged[slot], scratch->values.data(),
                      count, scratch->places[slot]);
    });
  }

  // Every thread takes panels of filters, whose transforms never leave its cache.
  void pack_and_multiply(const ScratchOf<WholeMemory>& scratch) const {
    const Index count = sizes.grid.count, chunk = chunk_of_channels();
    const T* values = scratch->values.data();
    parallel_for(sizes.panels, sizes.threads, [&](Index panel, int slot) {
      T* own = scratch->filters[slot];
      T* products = scratch->products[slot];
      for (Index first = 0; first < sizes.channel_blocks; first += chunk) {
        const Index last = std::min(sizes.channel_blocks, first + chunk);
        transform_panel(panel, first, last, scratch->taps[slot], own - first * lanes * sizes.width);
        for (Index begin = 0; begin < count; begin += block) {
          const Index end = std::min(count, begin + block);
          sizes.multiply(begin, end, first, last, sizes.all_points(), values + begin * sizes.channels, count,
                         own, panel_stride(), products, block);
          if (last == sizes.channel_blocks) sizes.write(begin, end, panel, products, block);
        }
      }
    });
  }

  // Channel blocks [first, last) of a panel's filters, to where block 0 would begin.
  void transform_panel(Index panel, Index first, Index last, T* taps, T* to) const {
    for (Index v = 0; v < sizes.vectors; ++v)
      for (Index q = first; q < last; ++q)
        sizes.tile.transform_filters(p, panel * sizes.width + v * lanes, q, taps, to + v * lanes, sizes.width,
                                     panel_stride());
  }

  TileProblem<T> p;
  WinogradSizes<T> sizes;
  Index panel_size, block;  // values of a packed panel; tiles of a block
  bool whole;               // the input is transformed before anything is multiplied
  Index groups = 1, blocks_of_group = 1, point_groups = 1;  // of the tasks of a whole input
  bool packs_by_panel;
};

}  // namespace cnnlib::CNNLIB_ISA
