// 1x1 kernels as a matrix product of packed panels: filters are the rows of a tile, output positions its
// lanes. A panel of positions is a tile wide and stays in the first-level cache for all filters of a block,
// which come from the second level. What is left of each image beside whole panels fills panels with that of
// the other images, so that no lane goes empty on planes of 7x7 or 14x14.
//
//   weights[group][chunk of channels][panel of filters][c][row of the panel]
//   positions[panel][c][lane]
//
//   image 0: | panel 0 | panel 1 |r|    image 1: | panel 2 | panel 3 |r|    ..    | r r r .. |
#pragma once

#include "kernels/conv/direct/cuts.hpp"
#include "kernels/conv/direct/implicit_gemm.hpp"
#include "kernels/gemm/micro_kernel.hpp"
#include "machine/processor.hpp"

namespace cnnlib::CNNLIB_ISA {

// How the positions of a batch fill panels of `width`.
struct PanelFilling {
  Index images, plane, width;

  Index whole() const { return plane / width; }  // panels of an image
  Index rest() const { return plane % width; }
  Index whole_panels() const { return images * whole(); }
  Index count() const { return whole_panels() + ceil_div(images * rest(), width); }
  bool is_whole(Index panel) const { return panel < whole_panels(); }
  Index filled(Index panel) const {
    return is_whole(panel) ? width : std::min(width, images * rest() - (panel - whole_panels()) * width);
  }

  // body(lane, positions, image, first position) for the runs that a panel consists of.
  template <class Body>
  void each_run(Index panel, const Body& body) const {
    if (is_whole(panel)) return body(Index{0}, width, panel / whole(), panel % whole() * width);
    const Index first = (panel - whole_panels()) * width, end = first + filled(panel);
    for (Index at = first; at < end;) {
      const Index position = at % rest(), count = std::min(rest() - position, end - at);
      body(at - first, count, at / rest(), whole() * width + position);
      at += count;
    }
  }
};

// The smaller operand is packed for all threads; each of them packs blocks of the larger one when their turn
// comes, while they are in its cache.
template <class T>
class PositionPanels {
  static constexpr Index lanes = Simd<T>::size, width = NR<T>;

 public:
  using Cut = SumCut;
  static Cut cut_of(const Correlation<T>& p) { return position_cut(p); }

  [[gnu::noinline]] PositionPanels(const Correlation<T>& correlation, const Cut& cut)
      : p(correlation), sum(cut) {
    choose_blocks();
  }

  // None where blocks of filters are packed when their turn comes.
  Index packed_size() const { return by_filters && !p.prepacked ? 0 : checked_product(p.groups * p.F, p.C); }

  void pack(T* packed) const {
    if (packed_size() == 0) return;
    parallel_grid({p.groups, panels.count, chunks}, threads, [&](Index group, Index panel, Index chunk, int) {
      pack_filters(group, chunk, panel, packed + packed_at(group, chunk, panel));
    });
  }

  void run(const T* packed) const {
    const ScratchOf<Memory> scratch(*this);
    Index* offset = scratch->offset.data();
    for (Index c = 0; c < channels; ++c) offset[c] = c * width;
    if (by_filters) pack_all_positions(scratch->positions.data());
    parallel_grid({p.groups, (by_filters ? filter_blocks : position_blocks).count}, threads,
                  [&](Index group, Index block, int slot) {
                    multiply_block(scratch, group, block, packed_size() > 0 ? packed : nullptr, slot);
                  });
  }

  void describe(ConvExplanation& to) const {
    fill_in(to, {panels.rows(0), width}, threads,
            {{"positions", (by_filters ? filling.count() : position_blocks.rows(0)) * width},
             {"channels", channels},
             {"filters", std::min(p.F, filter_blocks.rows(0) * panels.rows(0))},
             {"packed by block of filters", by_filters}});
    to.scratch_bytes = bytes_of<Memory>(*this);
  }

 private:
  void choose_blocks() {
    threads = threads_for(p.work());
    by_filters = filling.count() * width <= p.F;
    // A block of either operand takes a quarter of the second level.
    const Index block_bytes = l2_for_blocks() / 4, row_bytes = channels * Index(sizeof(T));
    filter_blocks = Panels(panels.count, std::max<Index>(1, block_bytes / (row_bytes * MR)));
    position_blocks = Panels(filling.count(), std::max<Index>(1, block_bytes / (row_bytes * width)));
    Panels& tasks = by_filters ? filter_blocks : position_blocks;
    tasks = even_tasks(by_filters ? panels.count : filling.count(), tasks.count);
  }

  // So many panels in at least so many blocks, as many for each thread, and two for each where they are not
  // too small then to make use of what they read of the other operand.
  Panels even_tasks(Index count, Index least) const {
    constexpr Index fewest = 6;
    if (threads == 1) return Panels(count, ceil_div(count, least));
    const Index wanted = ceil_div(2 * threads, p.groups);
    const Index blocks = std::max(least, std::min(wanted, count / fewest));
    Panels tasks(0);
    tasks.count = std::clamp<Index>(round_up(blocks * p.groups, threads) / p.groups, 1, count);
    tasks.height = count / tasks.count;
    tasks.longer = count % tasks.count;
    return tasks;
  }

  Index channels_of(Index chunk) const { return sum.count(chunk); }
  Index packed_at(Index group, Index chunk, Index panel) const {
    return (group * p.C + chunk * channels) * p.F + panels.first(panel) * channels_of(chunk);
  }

  void pack_filters(Index group, Index chunk, Index panel, T* to) const {
    using S = Simd<T>;
    const Index rows = panels.rows(panel), count = channels_of(chunk), padded = round_up(rows, lanes);
    const T* w = p.w + group * p.w_group + panels.first(panel) * p.w_filter + chunk * channels * p.w_channel;
    if (p.w_filter > 1 || p.w_channel == 1)
      return pack_panel<T>([&](Index m) { return w + m * p.w_filter; }, rows, count, to);
    for (Index c = 0; c < count; ++c, w += p.w_channel) {
      // What a vector holds beyond the panel is overwritten by the next channel.
      const bool whole = w + padded <= p.w_end && c * rows + padded <= count * rows;
      for (Index m = 0; whole && m < rows; m += lanes) S::store(to + c * rows + m, S::load(w + m));
      if (!whole) std::copy_n(w, rows, to + c * rows);
    }
  }

  // Panels [first, last), one after the other.
  void pack_positions(Index group, Index chunk, Index first, Index last, T* to) const {
    const Index size = channels_of(chunk) * width;
    const T* x = p.x + (group * p.C + chunk * channels) * p.x_plane;
    for (Index panel = first; panel < last;) {
      if (filling.is_whole(panel)) {
        const Index image = panel / filling.whole(), end = std::min(last, (image + 1) * filling.whole());
        pack_whole(x + image * p.x_row + panel % filling.whole() * width, channels_of(chunk), end - panel,
                   to);
        to += (end - panel) * size;
        panel = end;
      } else {
        pack_rest(x, channels_of(chunk), panel, to);
        to += size;
        ++panel;
      }
    }
  }

  // Neighbouring panels of an image: reads in long runs, of which processors guess the next lines.
  void pack_whole(const T* from, Index count, Index neighbours, T* to) const {
    using S = Simd<T>;
    for (Index c = 0; c < count; ++c, from += p.x_plane, to += width) {
      if (c + 1 < count) prefetch(from + p.x_plane, neighbours * width);
      for (Index panel = 0; panel < neighbours; ++panel)
        for (Index v = 0; v < width; v += lanes)
          S::store(to + panel * count * width + v, S::load(from + panel * width + v));
    }
  }

  void pack_rest(const T* x, Index count, Index panel, T* to) const {
    std::fill_n(to, count * width, T(0));
    filling.each_run(panel, [&](Index lane, Index positions, Index image, Index position) {
      const T* from = x + image * p.x_row + position;
      for (Index c = 0; c < count; ++c, from += p.x_plane)
        for (Index i = 0; i < positions; ++i) to[c * width + lane + i] = from[i];
    });
  }

  struct Memory {
    const PositionPanels& m;
    Layout& layout;
    Reserved<Index> offset{layout, m.channels};
    Reserved<T> positions{
        // of all images
        layout, m.by_filters ? checked_product(m.p.groups * m.p.C, m.filling.count() * width) : 0};
    ThreadReserved<T> block{
        layout, m.threads,
        (m.by_filters ? m.filter_blocks.rows(0) * MR : m.position_blocks.rows(0) * width) * m.channels};
    ThreadReserved<T> tile{layout, m.threads, tile_size<T>};
  };

  // Of all positions, [group][chunk][panel][c][lane].
  Index positions_at(Index group, Index chunk, Index panel) const {
    return ((group * p.C + chunk * channels) * filling.count() + panel * channels_of(chunk)) * width;
  }
  void pack_all_positions(T* all) const {
    parallel_grid({p.groups, chunks, position_blocks.count}, threads,
                  [&](Index group, Index chunk, Index block, int) {
                    const Index first = position_blocks.first(block);
                    pack_positions(group, chunk, first, position_blocks.first(block + 1),
                                   all + positions_at(group, chunk, first));
                  });
  }

  // A block of the larger operand times the smaller one. `packed` null: packs the block's filters.
  void multiply_block(const ScratchOf<Memory>& scratch, Index group, Index block, const T* packed,
                      int slot) const {
    T* own = scratch->block[slot];
    const Range filters = by_filters ? Range{block, block + 1} : Range{0, filter_blocks.count};
    const Index begin = by_filters ? 0 : position_blocks.first(block),
                end = by_filters ? filling.count() : position_blocks.first(block + 1);
    for (Index chunk = 0; chunk < chunks; ++chunk) {
      const T* positions = by_filters ? scratch->positions.data() + positions_at(group, chunk, 0) : own;
      if (!by_filters) pack_positions(group, chunk, begin, end, own);
      for (Index i = filters.first; i < filters.last; ++i) {
        const Index first = filter_blocks.first(i), last = filter_blocks.first(i + 1);
        const T* weights = packed != nullptr ? packed + packed_at(group, chunk, first) : own;
        for (Index panel = first; packed == nullptr && panel < last; ++panel)
          pack_filters(group, chunk, panel,
                       own + (panels.first(panel) - panels.first(first)) * channels_of(chunk));
        for (Index panel = begin; panel < end; ++panel)
          multiply(group, chunk, panel, positions + (panel - begin) * channels_of(chunk) * width, first, last,
                   weights, scratch->offset.data(), scratch->tile[slot]);
      }
    }
  }

  // A panel of positions times panels [first, last) of the filters, whose weights lie one after the other.
  void multiply(Index group, Index chunk, Index panel, const T* positions, Index first, Index last,
                const T* weights, const Index* offset, T* tile) const {
    const Index count = channels_of(chunk);
    const Index vectors = ceil_div(filling.filled(panel), lanes);
    const T* source[tile_vectors] = {positions, positions + lanes};
    const bool add = chunk > 0 || p.epilogue.add, whole = filling.is_whole(panel);
    T* out = p.out + group * p.F * p.out_plane;
    for (Index i = first; i < last; ++i) {
      const Index rows = panels.rows(i), f = panels.first(i);
      T* to = out + f * p.out_plane;
      auto target = Target<T>::rows(tile, static_cast<int>(vectors));
      target.add = add;
      if (chunk == 0 && p.epilogue.bias != nullptr) target.bias = p.epilogue.bias + group * p.F + f;
      if (chunk == chunks - 1) target.activation = p.epilogue.activation;
      if (whole) {
        filling.each_run(panel, [&](Index, Index, Index image, Index position) {
          for (Index v = 0; v < tile_vectors; ++v)
            target.to[v] = to + image * p.out_row + position + v * lanes;
        });
        target.step = p.out_plane;
      } else if (add) {
        copy_runs<false>(panel, rows, to, tile, target.step);
      }
      const auto kernel = vectors == 1 ? tile_kernel<T, 1>(rows) : tile_kernel<T>(rows);
      kernel(count, weights, rows, offset, source, target);
      if (!whole) copy_runs<true>(panel, rows, to, tile, target.step);
      weights += rows * count;
    }
  }

  // Between a tile and the planes that its runs of positions belong to.
  template <bool to_planes>
  void copy_runs(Index panel, Index rows, T* planes, T* tile, Index step) const {
    filling.each_run(panel, [&](Index lane, Index positions, Index image, Index position) {
      T* plane = planes + image * p.out_row + position;
      T* row = tile + lane;
      for (Index m = 0; m < rows; ++m, plane += p.out_plane, row += step)
        for (Index i = 0; i < positions; ++i)
          if constexpr (to_planes)
            plane[i] = row[i];
          else
            row[i] = plane[i];
    });
  }

  Correlation<T> p;
  const SumCut& sum;
  PanelFilling filling{p.OH, p.OW, width};
  Panels panels{p.F};
  bool by_filters;
  Index channels = sum.size, chunks = sum.chunks;
  Panels filter_blocks{0}, position_blocks{0};  // of panels
  int threads;
};

}  // namespace cnnlib::CNNLIB_ISA
