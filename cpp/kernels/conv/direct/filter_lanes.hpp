// Implicit GEMM whose vector lanes are filters: output positions are the rows of a tile, so that rows of an
// image that fit no vector waste nothing. Finished tiles are transposed when they are stored.
//
//   packed[group][chunk of channels][panel of filters][kind of columns][a][c][b][filter of the panel]
//
//              k = (a, c, b) ->                           filters ->
//   positions  x x x x x x x   broadcast from         k   w w w w w w w w | w w w w w w w w
//   (rows)     x x x x x x x   input at offset k      |   two vectors of a panel
#pragma once

#include "kernels/conv/direct/block_input.hpp"
#include "kernels/conv/direct/cuts.hpp"
#include "kernels/conv/direct/implicit_gemm.hpp"
#include "kernels/conv/prefetch_ahead.hpp"
#include "machine/processor.hpp"
#include "threads/grid.hpp"

namespace cnnlib::CNNLIB_ISA {

// The weights of filters [first, first + filters) and channels [c0, c0 + channels) of a group, to
// packed[kind of columns][a][c][b][width], zero where there is no filter. `turned` is scratch.
template <class T>
void pack_lanes(const Correlation<T>& p, Index group, Index first, Index filters, Index width, Index c0,
                Index channels, T* turned, T* packed) {
  const Index taps = p.taps();
  const T* w = p.w + group * p.w_group + first * p.w_filter + c0 * p.w_channel;
  if (filters < width)
    for (Index k = 0; k < channels * taps; ++k)
      std::fill(packed + k * width + filters, packed + (k + 1) * width, T(0));
  const bool in_order = p.weights_in_order();
  if (in_order && p.rows.count == 1) return transpose(w, p.w_filter, filters, channels * taps, packed, width);
  if (in_order) transpose(w, p.w_filter, filters, channels * taps, turned, width);
  for (Index c = 0; c < channels; ++c, w += p.w_channel) {
    const T* from = w;  // [tap][filter]
    const Index step = p.w_filter > 1 ? width : 1;
    if (in_order) {
      from = turned + c * taps * width;
    } else if (p.w_filter > 1) {
      transpose_freely(w, p.w_filter, filters, p.w_filter, p.w_end, turned, width);
      from = turned;
    }
    pack_taps(p, [=](Index tap) { return from + tap * step; }, filters, channels, c, channels, width, packed);
  }
}

// The taps [first, last) of the vertical axis that read row `oh` of the output from inside the image.
struct RowsInside {
  Index first = 0, last;
  RowsInside(const TapAxis& taps, Index oh, Index H) : last(taps.count) {
    const auto outside = [&](Index a) {
      const Index line = oh * taps.stride + taps.at[a];
      return line < 0 || line >= H;
    };
    while (first < last && outside(first)) ++first;
    while (last > first && outside(last - 1)) --last;
  }
};

// The method; its blocks' input stays in the second-level cache for all filters, and the weights of a panel
// of filters and a chunk of channels in the first-level cache for all tiles.
template <class T>
class FilterLanes {
  static constexpr Index lanes = Simd<T>::size;

 public:
  using Cut = FilterCut<T>;
  static Cut cut_of(const Correlation<T>& p) { return filter_cut(p); }

  // One copy for packing, running and explaining.
  [[gnu::noinline]] FilterLanes(const Correlation<T>& correlation, const Cut& own_cut)
      : p(correlation), cut(own_cut) {
    choose_blocks();
    panels = Panels(vectors, panel_vectors);
    width = panel_vectors * lanes;
    positions = staging.rows * staging.cols;
    blocks = row_blocks * col_blocks;
    turned_size = (p.weights_in_order() ? p.rows.count > 1 ? channels * taps : 0
                   : p.w_filter > 1     ? p.w_filter + lanes
                                        : 0) *
                  width;
    packs_by_panel = choose_packing();
    const bool far_input = double(p.N * p.H * p.W) * double(p.C * sizeof(T)) > l2_for_blocks();
    panels_at_once = far_input ? most_panels_at_once : 1;
    while (panels_at_once > 1 && !keep_busy(p.groups * ceil_div(panels.count, panels_at_once), threads))
      --panels_at_once;
  }

  // None where each panel is packed when its turn comes.
  Index packed_size() const {
    return packs_by_panel ? 0 : checked_product(p.groups * vectors * lanes, p.C * taps);
  }

  void pack(T* packed) const {
    if (packs_by_panel) return;
    const ScratchArray<T, ThreadReserved> turned(threads, turned_size);
    // A part's panels in a run.
    parallel_grid({p.groups, panels.count, chunks}, threads,
                  [&](Index group, Index panel, Index chunk, int slot) {
                    pack_panel_of(group, chunk, panel, turned[slot], packed + packed_at(group, chunk, panel));
                  });
  }

  void run(const T* packed) const {
    const ScratchArray<Index> memory(2 * channels * taps);
    Index* offset = memory.data();
    fill_offsets(offset);
    packs_by_panel ? run_by_panel(offset) : run_by_block(offset, packed);
  }

  void describe(ConvExplanation& to) const {
    fill_in(to, {widest_tile(p.OW, staging.cols), width}, threads,
            {{"output rows", staging.rows},
             {"output columns", staging.cols},
             {"channels", channels},
             {"filters", width},
             {"parts of the filters", filter_parts},
             {"packed by panel", packs_by_panel}});
    Layout packing;
    if (!packs_by_panel) packing.add(static_cast<std::size_t>(turned_size), sizeof(T), threads);
    to.scratch_bytes = packs_by_panel ? bytes_of<PanelMemory>(*this)
                                      : std::max(bytes_of<BlockMemory>(*this), packing.bytes());
  }

 private:
  void choose_blocks() {
    constexpr Index most_positions = FilterCut<T>::most_positions;
    const Index staged_bytes = l2_for_blocks() / 2;
    threads = threads_for(p.work());
    Index cols = even_part(p.OW, most_positions), rows = 1;
    const auto fits = [&](Index r, Index c) {
      staging.set_block(r, c, 1, lanes);
      return r * c <= most_positions && double(p.C) * staging.channel_size * sizeof(T) <= staged_bytes;
    };
    while (cols > MR && !fits(1, cols)) cols = even_part(p.OW, ceil_div(cols, 2));
    while (rows < p.OH && fits(std::min(2 * rows, p.OH), cols)) rows = std::min(2 * rows, p.OH);
    const auto panel_now = [&] {
      return p.prepacked ? cut.kept_panel : cut.panel_for(vectors, p.OW, even_part(p.OW, cols));
    };
    // Two tasks for every thread: parts of the filters, which read the same input, where the weights are the
    // larger operand; else, or where parts of one panel each are too few, smaller blocks, as long as these
    // are worth loading a panel.
    const auto count = [&] { return p.N * p.groups * ceil_div(p.OW, cols) * ceil_div(p.OH, rows); };
    const Index wanted = threads > 1 ? 2 * threads : 1;
    const auto too_few = [&] {
      return (count() < wanted && rows * cols >= 8 * MR && p.F * taps < p.N * p.OH * p.OW) ||
             (threads > 1 && count() * Panels(vectors, panel_now()).count < threads && rows * cols >= 2 * MR);
    };
    while (too_few()) {
      Index& longer = rows > 1 ? rows : cols;
      longer = ceil_div(longer, 2);
    }
    rows = even_part(p.OH, rows);
    cols = even_part(p.OW, cols);
    staging.set_block(rows, cols, 1, lanes);
    row_blocks = ceil_div(p.OH, rows);
    col_blocks = ceil_div(p.OW, cols);
    panel_vectors = panel_now();
    filter_parts = std::min(Panels(vectors, panel_vectors).count, ceil_div(wanted, count()));
  }

  // Whether to pack weights panel by panel, each for all positions, rather than all beforehand. The sums of
  // the panels at hand have to fit the second-level cache. Input that is copied has to be smaller than the
  // weights. Input has to fit that cache too, to be smaller than the weights, or to be read less often by
  // panels than weights by blocks. And panels, the last of which may be narrower, have to keep every thread
  // busy.
  bool choose_packing() const {
    const Index all_positions = p.N * blocks * positions;
    constexpr Index most_positions = 2048, most_input = (1 << 20) / sizeof(T);
    // A thread on its own may have others beside it that stage as much. Larger weights than staged input are
    // read once so.
    const Index most_staged =
        std::max((threads > 1 ? 8 << 20 : 3 << 20) / Index(sizeof(T)), p.groups * p.F * p.C * taps);
    return !p.prepacked && chunks > 1 && all_positions <= most_positions &&
           (input.size() == 0 || p.F * taps > p.N * p.H * p.W) &&
           p.N * p.groups * blocks * input.size() <= most_staged &&
           (all_positions * p.groups * p.C <= most_input || all_positions < p.F * taps ||
            positions < width * taps) &&
           keep_busy(p.groups * panels.count, threads) && keep_busy(p.groups * vectors, threads);
  }

  Index channels_of(Index chunk) const { return cut.sum.count(chunk); }
  Index weights_size() const { return channels * taps * width; }    // of a packed panel
  Index sum_size() const { return positions * p.kinds() * width; }  // of a block and a panel
  Index packed_at(Index group, Index chunk, Index panel) const {
    return ((group * p.C + chunk * channels) * vectors + panels.first(panel) * channels_of(chunk)) * lanes *
           taps;
  }
  void pack_panel_of(Index group, Index chunk, Index panel, T* turned, T* to) const {
    const Index first = panels.first(panel) * lanes, size = panels.rows(panel) * lanes;
    pack_lanes(p, group, first, std::min(size, p.F - first), size, chunk * channels, channels_of(chunk),
               turned, to);
  }

  // offset[chunk, or the last one][kind of columns][a][c][b]
  void fill_offsets(Index* offset) const {
    for (const Index count : {channels, p.C - (chunks - 1) * channels})
      for (Index kind = 0; kind < p.kinds(); ++kind)
        for (Index a = 0; a < p.rows.count; ++a)
          for (Index c = 0; c < count; ++c)
            for (Index k = 0; k < p.taps_of(kind); ++k) *offset++ = input.offset(c, a, p.first_tap(kind) + k);
  }

  // A block of output positions.
  struct Block {
    Index group, oh, ow, rows;
    Panels columns;  // in tiles
    const T* base;   // of its input
    T* out;

    Index tiles() const { return rows * columns.count; }
  };

  // Block number `at` of an image, its input in `staged` if it has to be copied.
  Block block_of(Index group, Index image, Index at, T* staged) const {
    const Index oh = at / col_blocks * staging.rows, ow = at % col_blocks * staging.cols;
    Block block{group,
                oh,
                ow,
                std::min(staging.rows, p.OH - oh),
                Panels(std::min(staging.cols, p.OW - ow)),
                p.x + image * p.x_image + group * p.C * p.x_plane,
                p.out + image * p.out_image + group * p.F * p.out_plane + oh * p.out_row + ow * p.out_col};
    block.base = input.stage(block.base, oh, ow, staged);
    return block;
  }

  // The weights before they are packed, of the next chunk, or of the panel so many later.
  PrefetchAhead raw_weights(Index group, Index chunk, Index panel, Index at_once, Index tiles) const {
    if (chunk == chunks) {
      chunk = 0;
      panel += at_once;
    }
    if (panel >= panels.count) return {};
    const Index first = panels.first(panel) * lanes,
                filters = std::min(panels.rows(panel) * lanes, p.F - first);
    const T* w = p.w + group * p.w_group + first * p.w_filter + chunk * channels * p.w_channel;
    if (p.w_filter > p.w_channel) return {w, filters, p.w_filter, channels_of(chunk) * p.w_channel, tiles};
    return {w, channels_of(chunk), p.w_channel, filters * p.w_filter, tiles};
  }

  // A chunk of channels of a panel of filters, its weights and what comes next.
  struct Step {
    Index panel, chunk;
    const T* weights;
    bool scattered;  // input that tiles prefetch for the next ones
    PrefetchAhead ahead;
  };

  // Adds the products of a step to the sums of a block, and writes them after the last chunk.
  void multiply(const Block& block, const Step& step, const Index* offset, T* sum) const {
    const Index size = panels.rows(step.panel) * lanes, f = panels.first(step.panel) * lanes;
    const Index count = channels_of(step.chunk);
    const bool last_chunk = step.chunk == chunks - 1;
    // Tiles of two vectors prefetch something themselves: of scattered input, what the next ones read, else
    // the run of weights that comes next, line by line, as a processor would wait for many at once.
    const bool two = panels.rows(step.panel) == tile_vectors, scattered = step.scattered && two;
    const bool in_tiles = two && !scattered && p.kinds() == 1 && step.ahead.contiguous();
    const T* bias = p.epilogue.from(block.group * p.F + f).bias;
    offset += last_chunk && chunks > 1 ? channels * taps : 0;
    for (Index i = 0, tile = 0; i < block.rows; ++i) {
      const RowsInside inside(p.rows, block.oh + i, p.H);
      for (Index s = 0; s < block.columns.count; ++s, ++tile) {
        const Index j = block.columns.first(s), rows = block.columns.rows(s);
        const auto kernel = in_tiles    ? position_kernel<T, tile_vectors, Prefetch::fetch>(rows)
                            : scattered ? position_kernel<T, tile_vectors, Prefetch::next>(rows)
                                        : position_kernel<T>(rows, panels.rows(step.panel));
        std::pair<const T*, Index> later{nullptr, 0};  // and its lines
        if (in_tiles)
          later = step.ahead.template run<T>(tile);
        else
          step.ahead.part(tile);
        const T* from = input.at(block.base, i, j, step.chunk * channels);
        Index before = 0;  // products of other kinds
        for (Index kind = 0; kind < p.kinds(); ++kind) {
          const Index each = count * p.taps_of(kind), skipped = before + inside.first * each;
          const Index K = (inside.last - inside.first) * each;
          kernel(K, from, offset + skipped, step.weights + skipped * size, sum + kind * size,
                 p.kinds() * size, step.chunk > 0, later.first,
                 later.second > 0 ? std::max(K / later.second, Index{1}) : K);
          before += p.rows.count * each;
        }
        if (last_chunk) {
          T* out = block.out + f * p.out_plane + i * p.out_row + j * p.out_col;
          const Index positions = p.kinds() == 1 ? rows : std::min(2 * rows, p.columns - 2 * (block.ow + j));
          write_positions(
              p, [=](Index position, Index filter) { return Simd<T>::load(sum + position * size + filter); },
              positions, std::min(size, p.F - f), bias, [](const T* place) { return place; }, out);
        }
        if (chunks > 1) sum += rows * p.kinds() * size;
      }
    }
  }

  struct BlockMemory {
    const FilterLanes& m;
    Layout& layout;
    ThreadReserved<T> staged{layout, m.threads, m.input.size()};
    ThreadReserved<T> sum{layout, m.threads, (m.chunks > 1 ? m.positions : MR) * m.p.kinds() * m.width};
  };

  // Every thread takes blocks, or parts of the filters for them; all weights are packed.
  void run_by_block(const Index* offset, const T* packed) const {
    const ScratchOf<BlockMemory> scratch(*this);
    const auto multiply_block = [&](Index image, Index group, Index at, Index part, int slot) {
      const Block block = block_of(group, image, at, scratch->staged[slot]);
      const Range own = range_of(panels.count, part, filter_parts);
      const Index first = own.first * chunks, last = own.last * chunks;
      for (Index i = first; i < last; ++i) {
        const Index panel = i / chunks, chunk = i % chunks, next = i + 1;
        PrefetchAhead ahead;
        if (next < last)
          ahead = {packed + packed_at(group, next % chunks, next / chunks), 1, 0,
                   channels * taps * panels.rows(panel) * lanes, block.tiles()};
        multiply(block,
                 {panel, chunk, packed + packed_at(group, chunk, panel),
                  input.scattered() && i < first + chunks, ahead},
                 offset, scratch->sum[slot]);
      }
    };
    parallel_grid({p.N, p.groups, blocks, filter_parts}, threads, multiply_block);
  }

  struct PanelMemory {
    const FilterLanes& m;
    Layout& layout;
    Index images = m.p.N * m.blocks;
    ThreadReserved<T> weights{layout, m.threads, m.panels_at_once * m.weights_size()};
    ThreadReserved<T> turned{layout, m.threads, m.turned_size};
    Reserved<T> staged{layout, checked_product(m.p.groups * images, m.input.size())};
    ThreadReserved<T> sum{layout, m.threads, m.panels_at_once * images * m.sum_size()};
    Reserved<Block> blocks{layout, m.p.groups * images};
  };

  // All input is staged, then every thread packs panels of filters, whose weights never leave its cache: a
  // few at once, so that input which no cache near the core holds is read less often.
  void run_by_panel(const Index* offset) const {
    const Index images = p.N * blocks;  // blocks of a group
    const ScratchOf<PanelMemory> scratch(*this);
    Block* all = scratch->blocks.data();
    parallel_for(p.groups * images, input.size() > 0 ? threads : 1, [&](Index task, int) {
      all[task] = block_of(task / images, task % images / blocks, task % blocks,
                           scratch->staged.data() + task * input.size());
    });
    const Index tasks = ceil_div(panels.count, panels_at_once);
    parallel_grid({p.groups, tasks}, threads, [&](Index group, Index task, int slot) {
      const Range own = range_of(panels.count, task, tasks);
      const Index first = own.first, count = own.last - first;
      T *weights = scratch->weights[slot], *sum = scratch->sum[slot];
      Index tiles = 0;
      for (Index i = 0; i < images; ++i) tiles += all[group * images + i].tiles();
      Step steps[most_panels_at_once];
      for (Index chunk = 0; chunk < chunks; ++chunk) {
        for (Index k = 0; k < count; ++k) {
          T* to = weights + k * weights_size();
          pack_panel_of(group, chunk, first + k, scratch->turned[slot], to);
          steps[k] = {first + k, chunk, to, false, raw_weights(group, chunk + 1, first + k, count, tiles)};
        }
        for (Index i = 0; i < images; ++i) {
          const Block& block = all[group * images + i];
          for (Index k = 0; k < count; ++k) {
            multiply(block, steps[k], offset, sum + (k * images + i) * sum_size());
            steps[k].ahead = steps[k].ahead.after(block.tiles());
          }
        }
      }
    });
  }

  Correlation<T> p;
  const Cut& cut;
  ScratchArray<Index> axis_memory{Staging::memory_size(p.rows.count, p.cols.count)};
  Staging staging{p.rows, p.cols, axis_memory.data()};
  BlockInput<T> input{p, staging};
  Panels panels{0};
  Index taps = p.taps();
  Index row_blocks, col_blocks, filter_parts, blocks;  // the last of an image
  Index vectors = cut.vectors, panel_vectors, width;   // of all filters; of a panel, and its filters
  Index channels = cut.sum.size, chunks = cut.sum.chunks;
  Index positions, turned_size;
  bool packs_by_panel;
  static constexpr Index most_panels_at_once = 4;
  Index panels_at_once;
  int threads;
};

}  // namespace cnnlib::CNNLIB_ISA
