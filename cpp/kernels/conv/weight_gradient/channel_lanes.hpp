// dw whose vector lanes are channels, so that a tap is a shift of the staged image, and whose rows are
// filters:
//
//   dw[f, c, a, b] = sum over positions p of dout[f, p] * x[c, p shifted by tap (a, b)]
//
//   sums[part][group][channel block][lane block][panel of filters][tap][filter][lane]
//
//                positions ->                  channels (lanes) ->
//   filters   d(f0) d(f0) d(f0) ..           x(c0) x(c1) .. | .. x(c15)    position p of a tap
//   (rows)    d(f1) d(f1) d(f1) ..     *     x(c0) x(c1) .. | .. x(c15)    position p + 1
//              packed, see channels_last.hpp        staged: two vectors of a tile
//
// A lane block is what a tile has of lanes, and a channel block is some of them that share the packed dout.
#pragma once

#include "kernels/conv/weight_gradient/channels_last.hpp"
#include "threads/grid.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
class ChannelLanes {
  static constexpr Index size = Simd<T>::size;
  static constexpr Index block_positions = 256;  // whose packed dout stays in the first-level cache
  static constexpr Index most_columns = 288;     // taps * lanes that share it
  static constexpr Index most_tasks =
      16;  // of the first loop, by way of partial sums, before filters are parted

 public:
  explicit ChannelLanes(const ConvShape& s) : g(s) {
    g.set_blocks(PositionBlocks::choose(s.N, g.OH, g.OW, block_positions));
    g.positions.set_parts(most_tasks / (s.groups * channel_blocks));
    filter_parts = pieces_for(tasks(), panels.count, threads);
  }

  void run(const WeightGradientOperands<T>& o) const {
    if (o.dw == nullptr) return;
    Layout layout;
    const Memory memory(*this, layout);
    const Scratch scratch(layout.bytes());
    T* sums = memory.sums.in(scratch.data());
    parallel_for(tasks() * filter_parts, threads, [&](Index number, int slot) {
      const Index filter_part = number % filter_parts, task = number / filter_parts;
      const Work work{memory.staged.of(scratch.data(), slot), memory.packed.of(scratch.data(), slot),
                      memory.line.of(scratch.data(), slot), memory.offset.of(scratch.data(), slot),
                      sums + task * sum_size};
      const Index channel_block = task % channel_blocks, group = task / channel_blocks % g.s.groups;
      const Index part = task / channel_blocks / g.s.groups, first = g.positions.first_block(part);
      for (Index block = first; block < g.positions.first_block(part + 1); ++block)
        add_block(work, g.block(block), group, channel_block, filter_part, block > first, o);
    });
    parallel_for(g.s.groups * lane_blocks * panels.count, threads, [&](Index task, int) {
      write(task / panels.count / lane_blocks, task / panels.count % lane_blocks, task % panels.count, sums,
            o.dw);
    });
  }

  void describe(ConvPlan& plan) const {
    plan.tile_rows = panels.rows(0);
    plan.tile_columns = lanes;
    plan.threads = threads;
    g.positions.describe(plan);
    Layout layout;
    const Memory memory(*this, layout);
    plan.scratch_bytes = layout.bytes();
  }

 private:
  struct Memory {
    ThreadPiece<T> staged, packed, line;
    ThreadPiece<Index> offset;
    Piece<T> sums;
    Memory(const ChannelLanes& m, Layout& layout) {
      const PositionBlocks& positions = m.g.positions;
      const Staging& staging = m.g.staging;
      staged = layout.per_thread<T>(m.threads, positions.images * staging.channel_size * m.width);
      packed = layout.per_thread<T>(m.threads, m.g.F * positions.most_positions());
      line = layout.per_thread<T>(m.threads, m.width * staging.pitch);
      offset = layout.per_thread<Index>(m.threads, positions.most_positions());
      sums = layout.array<T>(checked_product(m.tasks(), m.sum_size));
    }
  };
  struct Work {  // of one task
    T *staged, *packed, *line;
    Index* offset;
    T* sums;
  };

  Index tasks() const { return g.positions.parts * g.s.groups * channel_blocks; }

  // Adds the products of a block of positions to the sums of a channel block and a part of the filters, or
  // starts them.
  void add_block(const Work& work, const PositionBlock& block, Index group, Index channel_block,
                 Index filter_part, bool add, const WeightGradientOperands<T>& o) const {
    const Index first_panel = filter_part * panels.count / filter_parts,
                last_panel = (filter_part + 1) * panels.count / filter_parts;
    const Index K = block.positions(), c0 = channel_block * width;
    stage_channels(g, block, group, c0, width, o.x, work.line, work.staged);
    staged_positions(g, block, width, work.offset);
    for (Index panel = first_panel; panel < last_panel; ++panel)
      pack_filters(g, block, group, panels.first(panel), panels.rows(panel), o.dout,
                   work.packed + panels.first(panel) * K);
    for (Index lane_block = 0; lane_block < lane_blocks_of_task; ++lane_block) {
      const bool half_empty = g.C - c0 <= lane_block * lanes + size;  // of two vectors
      for (Index panel = first_panel; panel < last_panel; ++panel)
        multiply(work, K, lane_block, panel, half_empty, add);
    }
  }

  // All taps of one lane block and one panel of filters.
  void multiply(const Work& work, Index K, Index lane_block, Index panel, bool half_empty, bool add) const {
    const Index rows = panels.rows(panel), f = panels.first(panel);
    const T* staged = work.staged + lane_block * lanes;
    T* sums = work.sums + (lane_block * g.F + f) * g.taps * lanes;
    // A tile has two vectors of a tap or, where there are few channels, one of each of two taps.
    const Index taps_of_tile = tile_vectors / vectors, tap_of_vector = taps_of_tile - 1;
    const Index lanes_of_vector = vectors == 1 ? 0 : size;
    for (Index tap = 0; tap < g.taps; tap += taps_of_tile) {
      const Index count =
          vectors > 1 ? (half_empty ? 1 : tile_vectors) : std::min(taps_of_tile, g.taps - tap);
      const T* source[tile_vectors];
      Target<T> target;
      for (Index v = 0; v < count; ++v) {
        const Index t = tap + v * tap_of_vector, lane = v * lanes_of_vector;
        source[v] = staged + g.tap_offset(t) * width + lane;
        target.to[v] = sums + t * rows * lanes + lane;
      }
      target.step = lanes;
      target.add = add;
      channel_kernel<T>(rows, count)(K, work.packed + f * K, rows, work.offset, source, target);
    }
  }

  // dw of one lane block and one panel of filters, from the sums of all parts.
  void write(Index group, Index lane_block, Index panel, T* sums, T* dw) const {
    const Index rows = panels.rows(panel), f = panels.first(panel);
    T* sum = sums + (group * channel_blocks + lane_block / lane_blocks_of_task) * sum_size +
             (lane_block % lane_blocks_of_task * g.F + f) * g.taps * lanes;
    g.positions.add_parts(sum, g.s.groups * channel_blocks * sum_size, rows * g.taps * lanes);
    const Index c0 = lane_block * lanes, channels = std::min(lanes, g.C - c0);
    for (Index m = 0; m < rows; ++m)
      for (Index c = 0; c < channels; ++c)
        for (Index t = 0; t < g.taps; ++t)
          dw[((group * g.F + f + m) * g.C + c0 + c) * g.taps + t] = sum[(t * rows + m) * lanes + c];
  }

  WeightGradient<T> g;
  int threads = threads_for(g.work());
  Panels panels{g.F};
  Index vectors = g.C <= size ? 1 : tile_vectors, lanes = vectors * size;  // of a lane block
  Index lane_blocks = ceil_div(g.C, lanes);
  Index lane_blocks_of_task =
      even_part(lane_blocks, std::clamp<Index>(most_columns / (g.taps * lanes), 1, lane_blocks));
  Index channel_blocks = ceil_div(lane_blocks, lane_blocks_of_task), width = lane_blocks_of_task * lanes;
  Index sum_size = g.F * g.taps * width;  // of all filters
  Index filter_parts;
};

}  // namespace cnnlib::CNNLIB_ISA
