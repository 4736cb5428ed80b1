// dw whose vector lanes are channels and whose rows are filters: panels of dout are packed once for all
// channels, and every block of positions is added to the result itself:
//
//   dw[f, c, a, b] += sum over positions p of a block of dout[f, p] * x[c, p shifted by tap (a, b)]
//
//   packed[group][panel of filters][position][filter]     staged[group][lane block][position of x][lane]
//
//                              lane blocks of channels ->
//                            +---------+---------+---------+
//   panels of filters   p0   |  tiles of a run   |         |    a run of lane blocks takes panel after panel
//                            +---------+---------+---------+    of dout from the cache
//                       p1   |         |         |         |
//                            +---------+---------+---------+
#pragma once

#include "kernels/conv/bias_gradient.hpp"
#include "kernels/conv/weight_gradient/cuts.hpp"
#include "threads/grid.hpp"

namespace cnnlib::CNNLIB_ISA {

// For one block of output positions:
//
//   staged[image][position of x][lane]                   packed[panel of filters][position][filter]
//
//            x(c0) x(c1) x(c2) ..                                     d(f0) d(f1) ..
//     (0, 0)   .     .     .                              (0, 0)        .     .
//     (0, 1)   .     .     .                              (0, 1)        .     .
//     ..     a tap is one constant offset of positions    ..

// Channels [c0, c0 + width) of a group of image i of a block, zero where there are none. `line_buffer` has
// room for a staged row of each.
template <class T>
void stage_channels(const WeightGradient<T>& g, const PositionBlock& block, Index i, Index group, Index c0,
                    Index width, const T* x, T* line_buffer, T* staged) {
  const Staging& s = g.staging;
  const Index channels = std::min(width, g.C - c0), plane = g.H * g.W;
  const T* planes = x + (((block.first_image + i) * g.s.groups + group) * g.C + c0) * plane;
  staged += i * s.channel_size * width;
  s.each_row(block.oh, block.ow, g.H, g.W, [&](Index to, Index line, Index start, const Inside& inside) {
    T* dst = staged + to * width;
    if (line < 0 || channels < width || inside.first > 0 || inside.last < s.width)
      std::memset(dst, 0, s.pitch * width * sizeof(T));
    const Index count = inside.last - inside.first;
    if (line < 0 || count <= 0) return;
    const T* src = planes + line * g.W + start + inside.first * s.stride_w;
    dst += inside.first * width;
    if (s.stride_w == 1) return transpose(src, plane, channels, count, dst, width);
    for (Index c = 0; c < channels; ++c)
      copy_strided(src + c * plane, count, s.stride_w, planes + channels * plane, line_buffer + c * count);
    transpose(line_buffer, count, channels, count, dst, width);
  });
}

// Where the staged positions of a block begin, `width` values each.
template <class T>
void staged_positions(const WeightGradient<T>& g, const PositionBlock& block, Index width, Index* offset) {
  for (Index image = 0; image < block.images; ++image)
    for (Index i = 0; i < block.rows; ++i)
      for (Index j = 0; j < block.cols; ++j)
        *offset++ = (image * g.staging.channel_size + i * g.staging.pitch + j) * width;
}

// Filters [f, f + height) of dout, a panel of the matrix kernel.
template <class T>
void pack_filters(const WeightGradient<T>& g, const PositionBlock& block, Index group, Index f, Index height,
                  const T* dout, T* packed) {
  const bool in_one_run = block.cols == g.OW;  // rows lie one after the other
  const Index runs = in_one_run ? 1 : block.rows, length = block.image_positions() / runs;
  Index left = block.positions();
  for (Index i = 0; i < block.images; ++i) {
    const T* grad = g.dout_of(dout, block, block.first_image + i, group, f);
    for (Index r = 0; r < runs; ++r, packed += length * height) {
      left -= length;
      for (Index m = height; m < 2 * height;
           ++m)  // the next panel's rows, too short for the processor to guess
        prefetch(grad + m * g.OH * g.OW + r * g.OW, length);
      pack_panel<T>([&](Index m) { return grad + m * g.OH * g.OW + r * g.OW; }, height, length, packed, left);
    }
  }
}

// Panels of filters and lane blocks of a result, in every group.
struct WeightsPart {
  Range panels, lane_blocks;
};

// dw of a part, by threads that share what they stage and pack.
template <class T>
class SharedPanelsPart {
  static constexpr Index size = Simd<T>::size;
  static constexpr Index most_columns = 288;                     // taps * lanes of a run of lane blocks,
  static constexpr Index most_staged = (512 << 10) / sizeof(T);  // and its staged values
  static constexpr Index tasks_of_thread = 8;

 public:
  // `gradient` lives as long as this.
  SharedPanelsPart(const WeightGradient<T>& gradient, const WeightsPart& weights_part, int most_threads)
      : g(gradient), part(weights_part), threads(most_threads) {
    // With few taps several lane blocks take a panel while it is in the cache.
    const Index lane_blocks_of_run =
        std::clamp<Index>(std::min(most_columns / row_size, most_staged / staged_size), 1, lane_blocks);
    runs = ceil_div(lane_blocks, lane_blocks_of_run);
    // Whole runs, whose input the thread that needs it stages itself; parts of the filters, which share it,
    // where runs would leave threads idle.
    const Index tasks = g.s.groups * runs;
    filter_parts =
        keep_busy(tasks, threads) ? 1 : std::clamp<Index>(tasks_of_thread * threads / tasks, 1, own_panels);
  }

  // Sums over some blocks of positions.
  void run(const GradientOperands<T>& o, Range blocks) const {
    const ScratchOf<Memory> scratch(*this);
    for (Index i = blocks.first; i < blocks.last; ++i) {
      const PositionBlock block = g.block(i);
      staged_positions(g, block, lanes, scratch->offset.data());
      prepare(scratch, block, o);
      const auto add = [&](Index group, Index run, Index filter_part, int slot) {
        add_run(scratch->work(slot), block, group, run, filter_part, i > blocks.first, o);
      };
      parallel_grid({g.s.groups, runs, filter_parts}, threads, add);
    }
  }

  std::size_t scratch_bytes() const { return bytes_of<Memory>(*this); }

 private:
  struct Work {  // of one thread
    T *packed, *staged;
    Index* offset;
    T *line, *tile;
  };
  struct Memory {
    const SharedPanelsPart& m;
    Layout& layout;
    Reserved<T> packed{layout,
                       checked_product(m.g.s.groups * m.own_filters(), m.g.positions.most_positions())};
    Reserved<T> staged{layout, checked_product(m.g.s.groups * m.lane_blocks, m.staged_size)};
    Reserved<Index> offset{layout, m.g.positions.most_positions()};
    ThreadReserved<T> line{layout, m.threads, m.lanes * m.g.staging.pitch};
    ThreadReserved<T> tile{layout, m.threads, (MR + 1) * m.row_size + m.lanes * size};
    Work work(int slot) const {
      return {packed.data(), staged.data(), offset.data(), line[slot], tile[slot]};
    }
  };

  // Packs dout of a block of positions, and stages x where several tasks share it.
  void prepare(const ScratchOf<Memory>& scratch, const PositionBlock& block,
               const GradientOperands<T>& o) const {
    const Index shared = filter_parts > 1 ? lane_blocks * block.images : 0;
    parallel_grid({shared + own_panels, g.s.groups}, threads, [&](Index at, Index group, int slot) {
      const Work work = scratch->work(slot);
      if (at < shared) return stage(work, block, at % block.images, group, at / block.images, o.x);
      const Index panel = part.panels.first + at - shared;
      pack_filters(g, block, group, panels.first(panel), panels.rows(panel), o.dout,
                   packed_panel(work, block.positions(), group, panel));
    });
  }

  Index own_filters() const { return panels.first(part.panels.last) - panels.first(part.panels.first); }
  T* packed_panel(const Work& work, Index positions, Index group, Index panel) const {
    return work.packed +
           (group * own_filters() + panels.first(panel) - panels.first(part.panels.first)) * positions;
  }
  Index first_channel(Index lane_block) const { return (part.lane_blocks.first + lane_block) * lanes; }
  T* staged_block(const Work& work, Index group, Index lane_block) const {
    return work.staged + (group * lane_blocks + lane_block) * staged_size;
  }
  void stage(const Work& work, const PositionBlock& block, Index image, Index group, Index lane_block,
             const T* x) const {
    stage_channels(g, block, image, group, first_channel(lane_block), lanes, x, work.line,
                   staged_block(work, group, lane_block));
  }

  // Adds a block of positions to dw, or starts it, for a run of lane blocks and a part of the filters.
  void add_run(const Work& work, const PositionBlock& block, Index group, Index run, Index filter_part,
               bool add, const GradientOperands<T>& o) const {
    const Range blocks = range_of(lane_blocks, run, runs),
                own = range_of(own_panels, filter_part, filter_parts);
    if (filter_parts == 1)
      for (Index lane_block = blocks.first; lane_block < blocks.last; ++lane_block)
        for (Index image = 0; image < block.images; ++image)
          stage(work, block, image, group, lane_block, o.x);
    for (Index panel = own.first; panel < own.last; ++panel)
      for (Index lane_block = blocks.first; lane_block < blocks.last; ++lane_block)
        add_tiles(work, block.positions(), group, lane_block, part.panels.first + panel, add, o.dw);
  }

  // The same for one lane block and one panel.
  void add_tiles(const Work& work, Index K, Index group, Index lane_block, Index panel, bool add,
                 T* dw) const {
    const Index rows = panels.rows(panel), f = group * g.F + panels.first(panel);
    const Index c0 = first_channel(lane_block), channels = std::min(lanes, g.C - c0);
    const T* staged = staged_block(work, group, lane_block);
    // Vector v of a row of products is of tap v / vectors_of_tap.
    const Index vectors_of_tap = ceil_div(channels, size);
    const auto multiply = [&](Index first, Index vectors, TileKernel<T> kernel, T* to, Index step,
                              bool add_to_it) {
      const T* source[most_vectors];
      Target<T> target;
      for (Index v = 0; v < vectors; ++v) {
        const Index tap = (first + v) / vectors_of_tap, lane = (first + v) % vectors_of_tap * size;
        source[v] = staged + g.tap_offset(tap) * lanes + lane;
        target.to[v] = to + tap * lanes + lane;
      }
      target.step = step;
      target.add = add_to_it;
      kernel(K, packed_panel(work, K, group, panel), rows, work.offset, source, target);
    };
    T* to = dw + (f * g.C + c0) * g.taps;
    if (g.taps == 1 && channels == lanes)
      return multiply(0, vectors_of_tap, kernel_of(rows, vectors_of_tap), to, g.C, add);
    const Index all = g.taps * vectors_of_tap;
    // Few filters leave registers for more taps.
    for (Index v = 0, some; v < all; v += some) {
      some = all - v >= vectors_for(rows) ? vectors_for(rows) : std::min<Index>(tile_vectors, all - v);
      multiply(v, some, kernel_of(rows, some), work.tile, row_size, false);
    }
    for (Index m = 0; m < rows; ++m, to += g.C * g.taps)
      add_row(work.tile + m * row_size, channels, add, work.tile + MR * row_size, to);
  }

  static TileKernel<T> kernel_of(Index rows, Index vectors) {
    return vectors == 1              ? packed_tile_kernel<T, 1>(rows)
           : vectors == tile_vectors ? packed_tile_kernel<T>(rows)
                                     : wide_tile_kernel<T>(rows);
  }

  // to[c][tap] (+)= row[tap][lane], for the channels of a lane block.
  void add_row(const T* row, Index channels, bool add, T* transposed, T* to) const {
    if (g.taps > 1) {
      pack_panel<T>([&](Index t) { return row + t * lanes; }, g.taps, channels, transposed, 2 * size);
      row = transposed;
    }
    if (add)
      add_to(to, row, channels * g.taps);
    else
      std::copy_n(row, channels * g.taps, to);
  }

  const WeightGradient<T>& g;
  WeightsPart part;
  int threads;
  Panels panels{g.F};
  Index own_panels = part.panels.last - part.panels.first;
  Index lanes = g.channel_lanes(), lane_blocks = part.lane_blocks.last - part.lane_blocks.first;
  Index staged_size = g.positions.images * g.staging.channel_size * lanes;  // of a lane block
  Index row_size = g.taps * lanes;  // of a filter's products with a lane block, [tap][lane]
  Index runs, filter_parts;
};

// A small result is summed in parts of the positions, whose number follows from the shape. A task is a part
// or, where parts are too few for the threads, some rows or columns of one.
template <class T>
class SharedPanels {
 public:
  using Cut = PositionBlocks;
  static Cut cut_of(const ConvRequest& r) { return shared_panel_cut<T>(r.shape); }

  [[gnu::noinline]] SharedPanels(const ConvShape& s, const Cut& cut, bool, bool) : g(s) {
    g.set_blocks(cut);
    const PositionBlocks& blocks = g.positions;
    in_turn = blocks.parts == 1 || (threads == 1 && blocks.parts == blocks.blocks);
    by_filters = g.C * g.staging.channel_size <= g.F * g.positions.rows * g.positions.cols;
    // Each task of a part stages the input, or packs dout, anew.
    constexpr double gain = 1.15;
    tasks = in_turn ? 1
                    : splits_for(g.positions.parts, (by_filters ? all.panels : all.lane_blocks).last, threads,
                                 gain);
  }

  void run(const GradientOperands<T>& o) const {
    if (o.dw != nullptr && in_turn) SharedPanelsPart<T>(g, all, threads).run(o, {0, g.positions.blocks});
    if (o.dw != nullptr && !in_turn) run_in_parts(o);
    bias_gradient(g.s, o);
  }

  void describe(ConvExplanation& to) const {
    const PositionBlocks& blocks = g.positions;
    fill_in(to, {panels.rows(0), g.channel_lanes()}, threads,
            {{"images", blocks.images},
             {"output rows", blocks.rows},
             {"output columns", blocks.cols},
             {"partial sums", blocks.parts}});
    to.scratch_bytes = std::max(dw_scratch_bytes(), bias_gradient_bytes(g.s));
  }

 private:
  std::size_t dw_scratch_bytes() const {
    if (in_turn) return SharedPanelsPart<T>(g, all, threads).scratch_bytes();
    const Index at_once = std::min<Index>(threads, g.positions.parts * tasks);
    std::size_t most = 0;
    for (Index i = 0; i < tasks; ++i)
      most = std::max(most, SharedPanelsPart<T>(g, weights_of(i), 1).scratch_bytes());
    return at_once * most + ScratchArray<T>::bytes(checked_product(g.positions.parts, result_size));
  }

  void run_in_parts(const GradientOperands<T>& o) const {
    const PositionBlocks& positions = g.positions;
    const ScratchArray<T> memory(checked_product(positions.parts, result_size));
    T* sums = memory.data();
    each_on_its_own(positions.parts * tasks, threads, [&](Index task) {
      const Index i = task / tasks;
      GradientOperands<T> own = o;
      own.dw = sums + i * result_size;
      SharedPanelsPart<T>(g, weights_of(task % tasks), 1).run(own, positions.blocks_of(i));
    });
    constexpr Index grain = 1024;
    parallel_ranges(result_size, grain, double(positions.parts), [&](Index begin, Index end) {
      std::copy(sums + begin, sums + end, o.dw + begin);
      for (Index i = 1; i < positions.parts; ++i)
        add_to(o.dw + begin, sums + i * result_size + begin, end - begin);
    });
  }

  WeightsPart weights_of(Index i) const {
    WeightsPart of = all;
    Range& own = by_filters ? of.panels : of.lane_blocks;
    own = range_of(own.last, i, tasks);
    return of;
  }

  WeightGradient<T> g;
  int threads = threads_for(g.work());
  Index result_size = g.s.F * g.C * g.taps;
  Panels panels{g.F};
  WeightsPart all{{0, panels.count}, {0, ceil_div(g.C, g.channel_lanes())}};
  bool in_turn;     // blocks are added to the result itself: the same sums as parts of one block each
  bool by_filters;  // tasks of a part are panels of filters, not lane blocks
  Index tasks;      // of a part of the positions
};

}  // namespace cnnlib::CNNLIB_ISA
