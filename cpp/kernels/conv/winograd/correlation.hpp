// Convolutions by Winograd's minimal filtering: transformed tiles of the input times transformed filters.
#pragma once

#include "kernels/conv/method.hpp"
#include "kernels/conv/winograd/cuts.hpp"
#include "kernels/conv/winograd/point_products.hpp"
#include "kernels/conv/winograd/staged_runs.hpp"
#include "kernels/conv/winograd/tiles.hpp"
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
  static constexpr Index lanes = Simd<T>::size, most_tiles = 4 * MR;  // of a block
  static constexpr Index least_tiles = MR / 2;  // of a task that is worth reading a panel of filters
  static constexpr Index least_points = 4;      // of a task

 public:
  // One copy for packing, running and explaining.
  [[gnu::noinline]] WinogradCorrelation(const CorrelationTile<T>& method, const TileProblem<T>& problem,
                                        const PointCut& own_cut)
      : tile(method), p(problem), cut(own_cut) {
    block = block_of_tiles();
    // Small blocks read filters that no cache near the core holds too often.
    const bool far_filters = panels * panel_size * Index(sizeof(T)) > l2_for_blocks();
    whole = few_tiles || (threads > 1 && ((far_filters && block < MR) || !keep_busy(blocks(), threads)));
    if (whole) cut_whole_input();
    packs_by_panel = whole && !p.prepacked && groups == 1 && point_groups == 1;
    chunk = packs_by_panel && block == grid.count ? chunk_of_channels() : channel_blocks;
    if (packs_by_panel) filter_stride = chunk * lanes * width + lanes;
  }

  Index packed_size() const { return packs_by_panel ? 0 : checked_product(panels, panel_size); }

  void pack(T* packed) const {
    if (packs_by_panel) return;
    const ScratchArray<T, ThreadReserved> taps(threads, filter_taps<T>(p.taps()));
    parallel_grid({panels, vectors, channel_blocks}, threads, [&](Index panel, Index v, Index q, int slot) {
      transform_filters(panel, v, q, taps[slot], packed + panel * panel_size);
    });
  }

  void run(const T* packed) const {
    const ScratchOf<Memory> scratch(*this);
    whole ? run_whole(scratch, packed) : run_by_block(scratch, packed);
  }

  void describe(ConvExplanation& to) const {
    fill_in(to, {tile.h.outs, tile.w.outs}, threads,
            {{"tiles", block},
             {"channels", chunk * lanes},
             {"filters", width},
             {"input transformed whole", whole},
             {"tasks of the products", whole ? panels * groups * point_groups : blocks()}});
    to.scratch_bytes = bytes_of<Memory>(*this);
  }

 private:
  Index blocks() const { return ceil_div(grid.count, block); }

  // Vectors of a panel of filters: a single one where there are few filters, or where threads that take
  // panels of few tiles would have none. Of filters that are kept it follows from their number alone.
  Index panel_vectors() const {
    constexpr double gain = 1.4;  // the products of single vectors take up to twice as long
    if (cut.kept_vectors == 1 || p.prepacked || !few_tiles) return cut.kept_vectors;
    const int most = tile_threads(grid.count * tile.points(), p.C, p.F);
    return splits_for(ceil_div(p.F, NR<T>), tile_vectors, most, gain) > 1 ? 1 : tile_vectors;
  }

  // Tiles whose transforms stay in the second-level cache.
  Index block_of_tiles() const {
    Index tiles = l2_for_blocks() / (tile.points() * (channels + width) * Index(sizeof(T))) / MR * MR;
    tiles = std::clamp<Index>(tiles, MR, most_tiles);
    Index count = ceil_div(grid.count, tiles);
    // Two blocks a thread where these fill half of a tile's rows, and none left over for one thread alone.
    if (threads > 1) count = std::max(count, std::min<Index>(2 * threads, grid.count / least_tiles));
    while (count > threads && !keep_busy(count, threads)) ++count;
    return ceil_div(grid.count, count);
  }

  // Tasks are panels of filters by groups of tiles, whose products are transformed where they are made, and
  // of points, which part the panel that groups of tiles would each read whole.
  void cut_whole_input() {
    // A task of some tiles or points reads filters that another thread packed, which takes as long as their
    // products with 8 tiles.
    const double gain = p.prepacked ? 1.05 : std::min(2.1, 1.15 + 8.0 / double(grid.count));
    const Index most_groups = std::max<Index>(1, grid.count / least_tiles);
    const Index most_point_groups = std::max<Index>(1, tile.points() / least_points);
    const Index wanted = splits_for(panels, most_groups, threads, gain);
    // Products are written and read again; of the filters every group but the first reads a copy.
    const bool by_points = 2 * grid.count < (wanted - 1) * channels;
    if (by_points) point_groups = splits_for(panels, most_point_groups, threads, gain);
    const Index tiles = ceil_div(
        grid.count, by_points ? splits_for(panels * point_groups, most_groups, threads, gain) : wanted);
    block = even_part(tiles, most_tiles);
    blocks_of_group = ceil_div(tiles, block);
    groups = ceil_div(blocks(), blocks_of_group);
    if (!by_points) point_groups = splits_for(panels * groups, most_point_groups, threads, gain);
  }

  // Blocks of channels whose filters a thread packs and then passes over all tiles, from a cache: from memory
  // they come twice as fast in one run.
  Index chunk_of_channels() const {
    const Index part = cut.blocks_of_sum, bytes = tile.filters() * lanes * width * Index(sizeof(T));
    return std::min(channel_blocks, std::max<Index>(l2_for_blocks() / 2 / bytes / part, 1) * part);
  }

  Index tiles_at_a_time() const { return whole ? grid.count : block; }  // that are transformed
  // Between points, a cache line more than needed: at a multiple of 4096 bytes the points of a tile would
  // meet in one set of the first-level cache.
  Index value_stride() const { return channels * tiles_at_a_time() + lanes; }
  Index product_stride() const { return width * block + lanes; }
  Index product_size() const { return tile.points() * product_stride(); }  // of a block

  struct Memory {
    const WinogradCorrelation& m;
    Layout& layout;
    bool in_tasks = m.point_groups == 1;  // outputs are written where products are made
    int packers = m.packs_by_panel ? m.threads : 0;
    ThreadReserved<T> filters{layout, packers, m.tile.filters() * m.filter_stride};
    ThreadReserved<T> taps{layout, packers, filter_taps<T>(m.p.taps())};
    ThreadReserved<T> staged{layout, m.threads, m.staged_size};
    ThreadReserved<Index> places{layout, m.threads, m.tiles_at_a_time()};
    ThreadReserved<T> values{layout, m.whole ? 1 : m.threads,
                             checked_product(m.tile.points(), m.value_stride())};
    ThreadReserved<T> products{layout, in_tasks ? m.threads : 0, m.product_size()};
    Reserved<T> all_products{
        layout, in_tasks ? 0 : checked_product(checked_product(m.panels, m.blocks()), m.product_size())};
  };

  // Many tiles: every thread takes blocks of them, whose transforms stay in its second-level cache while
  // all filters pass over them.
  void run_by_block(const ScratchOf<Memory>& scratch, const T* packed) const {
    const Index count = blocks();
    parallel_for(count, threads, [&](Index task, int slot) {
      const Range own = range_of(grid.count, task, count);
      T* values = scratch->values[slot];
      T* products = scratch->products[slot];
      for (Index q = 0; q < channel_blocks; ++q) transform(scratch, slot, q, own, own, values);
      for (Index panel = 0; panel < panels; ++panel) {
        multiply(own, {0, channel_blocks}, {0, tile.points()}, values, packed + panel * panel_size, products);
        write(own, panel, products);
      }
    });
  }

  // All tiles are transformed first. Then a task takes a panel of filters for a group of tiles; where it has
  // some of the points alone, outputs are written in a loop of their own. Filters that nobody has packed are
  // transformed by the task, and never leave its cache.
  void run_whole(const ScratchOf<Memory>& scratch, const T* packed) const {
    transform_input(scratch);
    const bool in_tasks = point_groups == 1;
    const auto products_at = [&](Index panel, Index b) {
      return scratch->all_products.data() + (panel * blocks() + b) * product_size();
    };
    const auto tiles_of = [&](Index b) -> Range {
      return {b * block, std::min(grid.count, (b + 1) * block)};
    };
    parallel_grid({panels, groups, point_groups}, threads,
                  [&](Index panel, Index group, Index part, int slot) {
                    const Index last_block = std::min(blocks(), (group + 1) * blocks_of_group);
                    for (Index q = 0; q < channel_blocks; q += chunk) {
                      const Range terms{q, std::min(channel_blocks, q + chunk)};
                      const T* filters = packed + panel * panel_size;
                      if (packs_by_panel) filters = transform_panel(scratch, slot, panel, terms);
                      for (Index b = group * blocks_of_group; b < last_block; ++b) {
                        const Range own = tiles_of(b);
                        T* products = in_tasks ? scratch->products[slot] : products_at(panel, b);
                        multiply(own, terms, range_of(tile.points(), part, point_groups),
                                 scratch->values[0] + own.first * channels, filters, products);
                        if (in_tasks && terms.last == channel_blocks) write(own, panel, products);
                      }
                    }
                  });
    if (in_tasks) return;
    const Index ranges = splits_for(panels * blocks(), std::max<Index>(1, block / least_tiles), threads);
    parallel_grid({panels, blocks(), ranges}, threads, [&](Index panel, Index b, Index range, int) {
      const Range all = tiles_of(b), own = range_of(all.last - all.first, range, ranges);
      write({all.first + own.first, all.first + own.last}, panel, products_at(panel, b) + own.first * width);
    });
  }

  // Blocks of channels and, where these are too few for the threads, ranges of tiles.
  void transform_input(const ScratchOf<Memory>& scratch) const {
    const Index ranges = splits_for(channel_blocks, ceil_div(grid.count, least_tiles), threads);
    parallel_grid({channel_blocks, ranges}, threads, [&](Index q, Index range, int slot) {
      transform(scratch, slot, q, {0, grid.count}, range_of(grid.count, range, ranges), scratch->values[0]);
    });
  }

  // values[point][panel of tiles][c block][tile][c] of `tiles` for one block of channels. Blocks of tiles are
  // cut into panels, so that a product reads a panel in one run. Tiles `own` alone are transformed.
  void transform(const ScratchOf<Memory>& scratch, int slot, Index q, Range tiles, Range own,
                 T* values) const {
    Index* const places = scratch->places[slot];
    for (Index i = tiles.first + (own.first - tiles.first) / block * block; i < own.last; i += block) {
      const Panels tile_panels(std::min(block, tiles.last - i));
      for (Index panel = 0; panel < tile_panels.count; ++panel)
        for (Index t = 0; t < tile_panels.rows(panel); ++t)
          if (const Index at = i + tile_panels.first(panel) + t; at >= own.first && at < own.last)
            places[at - own.first] = (i - tiles.first + tile_panels.first(panel)) * channels +
                                     (q * tile_panels.rows(panel) + t) * lanes;
    }
    StagedRuns<T> runs{tile, grid, p, p.x, p.x_image, scratch->staged[slot], p.channel_block(tile, lanes, q)};
    grid.each_run(own.first, own.last, [&](Index image, Index row, Index col, Index count, Index at) {
      const T* rows = runs.stage(image, row, col, count);
      tile.transform_inputs(grid, col, count, rows, values, TilePlaces{0, places + at}, value_stride());
    });
  }

  // Vector v of a panel's filters, block q of channels, to a panel that begins at `to`.
  void transform_filters(Index panel, Index v, Index q, T* taps, T* to) const {
    tile.transform_filters(p, panel * width + v * lanes, q, taps, to + v * lanes, width, filter_stride);
  }
  // Some channel blocks of a panel's filters, of a thread.
  const T* transform_panel(const ScratchOf<Memory>& scratch, int slot, Index panel, Range terms) const {
    T* const filters = scratch->filters[slot];
    for (Index v = 0; v < vectors; ++v)
      for (Index q = terms.first; q < terms.last; ++q)
        transform_filters(panel, v, q, scratch->taps[slot], filters - terms.first * lanes * width);
    return filters;
  }

  // Multiplies a block of tiles with one panel of filters at some points, in the order of their filters, or
  // adds the products of channel blocks `terms` to those before. `values` begin with the block's first tile,
  // `filters` with the first of these terms; `products` is [point][tile][filter].
  void multiply(Range tiles, Range terms, Range points, const T* values, const T* filters,
                T* products) const {
    const Panels tile_panels(tiles.last - tiles.first);
    const Index part = cut.blocks_of_sum;
    const auto at = [&](Index point, Index panel, Index q) {
      return values + point * value_stride() + tile_panels.first(panel) * channels +
             q * tile_panels.rows(panel) * lanes;
    };
    // Where several panels of tiles share the filters of a part, the first ones prefetch the next part's, a
    // line for every channel. With one panel the prefetch would arrive too late.
    const Index lines =
        tile_panels.count > 1 ? ceil_div(width, line_values<T>) : 0;  // of a channel's filters
    Index number = 0;
    tile.each_point([&](Index point, Index filter, bool) {
      if (const Index k = number++; k < points.first || k >= points.last) return;
      for (Index q = terms.first; q < terms.last; q += part) {
        const Index count = std::min(part, terms.last - q);
        const T* own = filters + filter * filter_stride + (q - terms.first) * lanes * width;
        for (Index i = 0; i < tile_panels.count; ++i) {
          const T* a = at(point, i, q);
          const T* next = i + 1 < tile_panels.count ? at(point, i + 1, q)
                          : q + part < terms.last   ? at(point, 0, q + part)
                                                    : at(point + 1, 0, terms.first);
          const T* later = i < lines ? own + count * lanes * (width + i * line_values<T>) : a;
          const Index rows = tile_panels.rows(i);
          const auto kernel = vectors == 1 ? point_kernel<T, 1>(rows) : point_kernel<T, tile_vectors>(rows);
          kernel(count, a, own, products + point * product_stride() + tile_panels.first(i) * width, q > 0,
                 next, later);
        }
      }
    });
  }

  // Writes the outputs of some tiles and one panel of filters.
  void write(Range tiles, Index panel, const T* products) const {
    for (Index v = 0; v < vectors && panel * width + v * lanes < p.F; ++v)
      grid.each_run(tiles.first, tiles.last, [&](Index image, Index row, Index col, Index count, Index at) {
        tile.write_outputs(p, grid, products + at * width + v * lanes, width, product_stride(), count, image,
                           row, col, panel * width + v * lanes);
      });
  }

  const CorrelationTile<T>& tile;
  TileProblem<T> p;
  TileGrid grid = p.grid(tile);
  // The input's transform is smaller than the filters'.
  bool few_tiles = tile.points() * grid.count <= tile.filters() * p.F;
  const PointCut& cut;
  Index channel_blocks = cut.channel_blocks;
  Index vectors = panel_vectors();  // of a panel of filters
  FilterPanel<T> filter_panel{tile, vectors, channel_blocks};
  Index width = filter_panel.width;
  Index panels = ceil_div(p.F, width);
  Index channels = channel_blocks * lanes;  // filled up to whole vectors
  Index filter_stride = filter_panel.stride, panel_size = filter_panel.size;
  int threads = tile_threads(grid.count * tile.points(), channels, panels* width);
  Index staged_size = (tile.h.ins * grid.most_width(tile.w.step, tile.w.ins) + lanes) * lanes;
  Index block;  // tiles
  bool whole;   // the input is transformed before anything is multiplied
  Index groups = 1, blocks_of_group = 1, point_groups = 1;  // of the tasks of a whole input
  bool packs_by_panel;
  Index chunk;  // blocks of channels whose filters pass over all tiles at a time
};

}  // namespace cnnlib::CNNLIB_ISA
