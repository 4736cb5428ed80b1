// Implicit GEMM whose vector lanes are output positions: filters are the rows of a tile, and the columns of
// its "matrix" are read from the staged input, where each tap is a constant offset.
//
//   packed[group][chunk of channels][panel of filters][kind of columns][c, a, b][row of the panel]
//
//            k = (c, a, b) ->                        positions ->
//   filters  w w w w w w w        input at offset k  x x x x x x x x | x x x x x x x x
//   (rows)   w w w w w w w   *                       two vectors of a tile
#pragma once

#include "kernels/conv/direct/block_input.hpp"
#include "kernels/conv/direct/cuts.hpp"
#include "kernels/conv/direct/implicit_gemm.hpp"
#include "kernels/conv/direct/vector_cover.hpp"
#include "kernels/gemm/micro_kernel.hpp"
#include "machine/processor.hpp"
#include "threads/grid.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
class PixelLanes {
  static constexpr Index lanes = Simd<T>::size;

 public:
  using Cut = PixelCut<T>;
  static Cut cut_of(const Correlation<T>& p) {
    const ScratchArray<Index> memory(Staging::memory_size(p.rows.count, p.cols.count));
    Staging staging{p.rows, p.cols, memory.data()};
    return pixel_cut(p, staging);
  }

  // One copy for packing, running and explaining.
  [[gnu::noinline]] PixelLanes(const Correlation<T>& correlation, const Cut& own_cut)
      : p(correlation), cut(own_cut) {
    choose_blocks();
    // Rows of channels that lie apart in x are too far from each other for the hardware prefetcher, and on
    // more pages than the TLB holds. Tiles of the first panel of filters prefetch what the next ones read.
    // Input of many channels that no near cache holds is also packed for the other panels, and all panels
    // prefetch what the next block reads.
    constexpr Index many_channels = 48;
    constexpr double far_input_bytes = 4 << 20;
    const double input_bytes = double(p.N * p.OH * p.OW) * double(p.C * sizeof(T));
    copies = in_place && vectors_for(panels.rows(panels.count - 1)) == tile_vectors && p.C >= many_channels &&
             panels.count / filter_parts > 1 && input_bytes >= far_input_bytes;
  }

  Index packed_size() const { return checked_product(p.groups * p.F, p.C * taps); }

  // Those of several classes of dx lie in no such order that they could be copied in one run.
  void pack(T* packed) const {
    constexpr Index padded = round_up(MR, lanes);
    const bool turn = p.w_filter > 1 && !p.weights_in_order();
    const ScratchArray<T, ThreadReserved> turned(threads, turn ? (p.w_filter + lanes) * padded : 0);
    // A part's panels in a run.
    parallel_grid(
        {p.groups, panels.count, chunks}, threads, [&](Index group, Index panel, Index chunk, int slot) {
          const Index rows = panels.rows(panel), f = panels.first(panel);
          const Index c0 = chunk * channels, count = channels_of(chunk);
          T* to = packed + packed_at(group, chunk, panel);
          const T* w = p.w + group * p.w_group + f * p.w_filter;
          if (p.weights_in_order())
            pack_panel<T>([&](Index m) { return w + m * p.w_filter + c0 * taps; }, rows, count * taps, to);
          else
            pack_by_tap(w + c0 * p.w_channel, rows, count, turn ? turned[slot] : nullptr, to);
        });
  }

  void run(const T* packed) const {
    const ScratchOf<Memory> scratch(*this);
    fill_offsets(scratch->offset.data());
    for (int slot = 0; slot < threads; ++slot)
      *scratch->cover[slot] = {scratch->source[slot], scratch->first[slot], scratch->ranges[slot]};
    for (Index c = 0; copies && c < channels; ++c) scratch->run_offset.data()[c] = c * NR<T>;
    parallel_grid({blocks(), filter_parts}, threads, [&](Index block, Index part, int slot) {
      Worker worker{*this,
                    p,
                    packed,
                    scratch->offset.data(),
                    scratch->run_offset.data(),
                    scratch->staged[slot],
                    scratch->run[slot],
                    scratch->tile[slot],
                    *scratch->cover[slot]};
      worker.block(block, range_of(panels.count, part, filter_parts));
    });
  }

  void describe(ConvExplanation& to) const {
    fill_in(to, {panels.rows(0), vectors_for(panels.rows(0)) * lanes}, threads,
            {{"output rows", staging.rows},
             {"output columns", staging.cols},
             {"channels", channels},
             {"filters", panels.rows(0)},
             {"parts of the filters", filter_parts}});
    to.scratch_bytes = bytes_of<Memory>(*this);
  }

 private:
  // Schedules the cut's chunks in blocks that stay in the caches: staged input takes half of the second
  // level.
  void choose_blocks() {
    constexpr Index longest_bytes = 8 << 10;  // of a row whose channels are streamed
    const Index staged_bytes = std::min<Index>(caches().l2 / 2, 256 << 10);
    threads = threads_for(p.work());
    const Index wanted = 2 * threads;  // blocks, two for every thread
    Index rows = 1, most_columns = cut.columns;
    if (cut.streamed)
      most_columns = std::clamp<Index>(p.N * p.OH * p.OW / wanted, cut.columns, longest_bytes / sizeof(T));
    Index cols = even_part(p.OW, most_columns, lanes);
    const auto bytes = [&](Index r) {
      staging.set_block(r, cols, 1, lanes);
      return double(channels) * staging.channel_size * sizeof(T);
    };
    while (in_place && cols > 2 * NR<T> && bytes(1) > staged_bytes)
      cols = even_part(p.OW, ceil_div(cols, 2), lanes);
    while (rows < p.OH && bytes(std::min(2 * rows, p.OH)) <= staged_bytes) rows = std::min(2 * rows, p.OH);
    // Enough blocks for all threads, as long as a block fills a tile's lanes.
    const Index images = p.N * p.groups * ceil_div(p.OW, cols);
    if (threads > 1)
      while (rows > 1 && images * ceil_div(p.OH, rows) < wanted && rows / 2 * cols >= NR<T>) rows /= 2;
    rows = even_part(p.OH, rows);
    staging.set_block(rows, cols, 1, lanes);
    row_blocks = ceil_div(p.OH, rows);
    col_blocks = ceil_div(p.OW, cols);
    const Index blocks = images * row_blocks;
    filter_parts = blocks >= wanted || threads == 1 ? 1 : std::min(panels.count, ceil_div(wanted, blocks));
    if (filter_parts < panels.count && !keep_busy(blocks * filter_parts, threads)) ++filter_parts;
  }

  Index channels_of(Index chunk) const { return cut.sum.count(chunk); }
  Index packed_at(Index group, Index chunk, Index panel) const {
    return ((group * p.C + chunk * channels) * p.F + panels.first(panel) * channels_of(chunk)) * taps;
  }

  // [kind of columns][c, a, b][row] of `count` channels from w on.
  void pack_by_tap(const T* w, Index rows, Index count, T* turned, T* to) const {
    constexpr Index padded = round_up(MR, lanes);
    for (Index c = 0; c < count; ++c, w += p.w_channel) {
      if (turned != nullptr) transpose_freely(w, p.w_filter, rows, p.w_filter, p.w_end, turned, padded);
      const auto from = [=](Index tap) { return turned != nullptr ? turned + tap * padded : w + tap; };
      pack_taps(p, from, rows, count, c * p.rows.count, 1, rows, to);
    }
  }

  // Block i of output positions, in the order in which they are worked off.
  Index blocks_of_group() const { return row_blocks * col_blocks; }
  Index blocks() const { return p.N * p.groups * blocks_of_group(); }
  Index group_of(Index i) const { return i / blocks_of_group() % p.groups; }
  Index image_of(Index i) const { return i / blocks_of_group() / p.groups; }
  Index oh_of(Index i) const { return i % blocks_of_group() / col_blocks * staging.rows; }
  Index ow_of(Index i) const { return i % col_blocks * staging.cols; }
  // The channels of a block from c0 on, where tiles read them where they lie.
  const T* input_of(Index i, Index c0) const {
    return p.x + image_of(i) * p.x_image + (group_of(i) * p.C + c0) * p.x_plane +
           (oh_of(i) + p.rows.at[0]) * p.x_row + ow_of(i) + p.cols.at[0];
  }

  struct Memory {
    const PixelLanes& m;
    Layout& layout;
    Index vectors = VectorCover::most_vectors(m.staging.rows, m.staging.cols, m.staging.pitch, lanes);
    Reserved<Index> offset{layout, m.channels * m.taps}, run_offset{layout, m.copies ? m.channels : 0};
    ThreadReserved<T> staged{layout, m.threads,
                             m.in_place ? 0 : m.channels * m.staging.channel_size + 2 * NR<T>};
    ThreadReserved<T> run{layout, m.threads, m.copies ? vectors * lanes * m.channels : 0};
    ThreadReserved<T> tile{layout, m.threads, m.p.kinds() * tile_size<T>};
    ThreadReserved<Index> source{layout, m.threads, vectors}, first{layout, m.threads, vectors + 1};
    ThreadReserved<LaneRange> ranges{layout, m.threads, vectors * 2 + m.staging.rows};
    ThreadReserved<VectorCover> cover{layout, m.threads, 1};
  };

  // offset[kind of columns][c][a][b], the second kind after all channels of the first
  void fill_offsets(Index* offset) const {
    for (Index kind = 0; kind < p.kinds(); ++kind)
      for (Index c = 0; c < channels; ++c)
        for (Index a = 0; a < p.rows.count; ++a)
          for (Index k = 0; k < p.taps_of(kind); ++k)
            *offset++ = in_place ? c * p.x_plane
                                 : c * staging.channel_size + staging.tap_offset(a, p.first_tap(kind) + k);
  }

  // One thread's work on a block.
  struct Worker {
    const PixelLanes& m;
    const Correlation<T>& p;
    const T* packed;
    const Index *offset, *run_offset;
    T *staged, *run, *tile;
    VectorCover& cover;
    // Of the block at hand.
    Index group = 0, columns_left = 0, chunk = 0, channels = 0;
    Range panels{};
    const T *input = nullptr, *next = nullptr;
    T* out = nullptr;

    // The outputs of a block for some panels of the filters.
    void block(Index at, Range own_panels) {
      const Index oh = m.oh_of(at), ow = m.ow_of(at), image = m.image_of(at);
      group = m.group_of(at);
      columns_left = p.columns - 2 * ow;
      panels = own_panels;
      cover.set_block(std::min(m.staging.rows, p.OH - oh), std::min(m.staging.cols, p.OW - ow),
                      m.in_place ? p.x_row : m.staging.pitch, lanes, p.out_row, p.out_col,
                      m.channels * m.taps, m.in_place, m.chunks == 1 && !p.epilogue.add);
      out = p.out + image * p.out_image + group * p.F * p.out_plane + oh * p.out_row + ow * p.out_col;
      for (chunk = 0; chunk < m.chunks; ++chunk) {
        const Index c0 = chunk * m.channels;
        channels = m.channels_of(chunk);
        if (m.in_place)
          find_input(at, c0);
        else
          stage_input(image, oh, ow, c0);
        for (Index panel = panels.first; panel < panels.last; ++panel) multiply_panel(panel);
      }
    }

    void find_input(Index at, Index c0) {
      input = next = m.input_of(at, c0);
      if (m.copies && chunk + 1 < m.chunks)
        next = m.input_of(at, c0 + m.channels);
      else if (m.copies && at + 1 < m.blocks() && m.filter_parts == 1)
        next = m.input_of(at + 1, 0);
    }
    void stage_input(Index image, Index oh, Index ow, Index c0) {
      const T* x = p.x + image * p.x_image + (group * p.C + c0) * p.x_plane;
      stage_block(p, m.staging, x, channels, oh, ow, staged);
      // Lanes without an output read on: whatever old bits lie there may be denormal, and slow.
      std::fill_n(staged + channels * m.staging.channel_size, 2 * NR<T>, T(0));
      input = staged;
    }

    // What the tiles of a panel of filters have in common.
    struct PanelWork {
      Index rows, filter;  // the first
      const T* filters;
      bool from_run;
      Target<T> whole;  // of a tile whose every lane is an output
    };
    PanelWork work_on(Index panel) const {
      const Index rows = m.panels.rows(panel), f = m.panels.first(panel);
      PanelWork work{
          rows, f, packed + m.packed_at(group, chunk, panel), m.copies && panel > panels.first, {}};
      work.whole.step = p.out_plane;
      work.whole.add = chunk > 0 || p.epilogue.add;
      if (chunk == 0 && p.epilogue.bias != nullptr) work.whole.bias = p.epilogue.bias + group * p.F + f;
      if (chunk == m.chunks - 1) work.whole.activation = p.epilogue.activation;
      const Index parts = panels.last - panels.first;  // of the channels that the panels' tiles prefetch
      if (m.copies)
        work.whole.fetch = {next, offset + channels * (panel - panels.first) / parts, parts, nullptr};
      return work;
    }

    void multiply_panel(Index panel) {
      PanelWork work = work_on(panel);
      const Index rows = work.rows, wide = vectors_for(rows);
      const auto kernel = work.from_run ? tile_kernel<T, tile_vectors, Prefetch::fetch>(rows)
                          : m.copies    ? tile_kernel<T, tile_vectors, Prefetch::pack>(rows)
                          : m.in_place && panel == panels.first ? wide_tile_kernel<T, Prefetch::next>(rows)
                                                                : wide_tile_kernel<T>(rows);
      for (Index v = 0; v < cover.vectors; v += wide) {
        if (wide == tile_vectors && v + 1 == cover.vectors)  // a last vector on its own
          return multiply_tile_at(tile_kernel<T, 1>(rows), work, v, 1);
        multiply_tile_at(kernel, work, v, wide);
      }
    }

    // The products of `count` vectors from v on.
    void multiply_tile_at(TileKernel<T> kernel, PanelWork& work, Index v, Index count) {
      const T* source[most_vectors];
      for (Index u = 0; u < count; ++u) source[u] = input + cover.source[std::min(v + u, cover.vectors - 1)];
      const Index* at = offset;
      Fetch<T>& fetch = work.whole.fetch;
      if (m.copies && count == tile_vectors) {
        fetch.next = next + cover.source[v];
        fetch.packed = run + v * lanes * channels;
        if (work.from_run) {
          at = run_offset;
          for (Index u = 0; u < count; ++u) source[u] = fetch.packed + u * lanes;
        }
      }
      const Index K = channels * m.taps;
      if (p.out_col == 1 && cover.whole(v, count, lanes)) {
        T* to = out + work.filter * p.out_plane;
        for (Index u = 0; u < count; ++u) work.whole.to[u] = to + cover.ranges[cover.first[v + u]].to;
        return kernel(K, work.filters, work.rows, at, source, work.whole);
      }
      auto target = Target<T>::rows(tile, count);
      target.fetch = fetch;
      if (p.kinds() == 2) return multiply_pairs(kernel, work, v, count, source, target);
      kernel(K, work.filters, work.rows, at, source, target);
      each_range(v, count, [&](Index u, const LaneRange& range) {
        store_lanes(p, tile + u * lanes, count * lanes, work.rows, group * p.F + work.filter, range,
                    chunk == 0, chunk == m.chunks - 1, out + work.filter * p.out_plane);
      });
    }

    // A tile of even columns and one of odd ones.
    void multiply_pairs(TileKernel<T> kernel, const PanelWork& work, Index v, Index count,
                        const T* const* source, Target<T> target) {
      const Index rows = work.rows, f = work.filter;
      const Index even = channels * p.rows.count * p.even_taps;
      kernel(even, work.filters, rows, offset, source, target);
      for (Index u = 0; u < count; ++u) target.to[u] += tile_size<T>;
      kernel(channels * m.taps - even, work.filters + even * rows, rows,
             offset + m.channels * p.rows.count * p.even_taps, source, target);
      each_range(v, count, [&](Index u, const LaneRange& range) {
        store_pairs(p, tile + u * lanes, tile + tile_size<T> + u * lanes, count * lanes, rows,
                    group * p.F + f, range, columns_left - range.to % p.out_row, chunk == 0,
                    chunk == m.chunks - 1, out + f * p.out_plane);
      });
    }

    template <class Body>
    void each_range(Index v, Index count, const Body& body) const {
      for (Index u = 0; u < count && v + u < cover.vectors; ++u)
        for (Index s = cover.first[v + u]; s < cover.first[v + u + 1]; ++s) body(u, cover.ranges[s]);
    }
  };

  Correlation<T> p;
  const Cut& cut;
  ScratchArray<Index> axis_memory{Staging::memory_size(p.rows.count, p.cols.count)};
  Staging staging{p.rows, p.cols, axis_memory.data()};
  Panels panels{p.F};
  Index taps = p.taps();
  bool in_place = cut.in_place, copies;
  Index channels = cut.sum.size, chunks = cut.sum.chunks;
  Index row_blocks, col_blocks, filter_parts;
  int threads;
};

}  // namespace cnnlib::CNNLIB_ISA
