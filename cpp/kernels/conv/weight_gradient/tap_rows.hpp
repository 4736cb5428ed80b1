// dw of few channels with filters in the vector lanes. The rows of a tile are neighbouring columns of the
// kernel, which read neighbouring values of the image: this is only staged, its columns as they lie at any
// stride. dout is packed once for all taps. db is one more row, of ones.
//
//   staged[channel][row][column]             packed[panel of filters][position][filter]
//
//              positions p ->                       filters (lanes) ->
//   columns    x(p)     x(p') ..             d(f0) d(f1) .. | d(f16) ..      position p
//   (rows)     x(p + 1) x(p' + 1) ..     *   d(f0) d(f1) .. | d(f16) ..      position p'
//              x(p + 2) x(p' + 2) ..         ..
//
//   sums[part][group][panel of filters][c, a, b and the row of ones][filter of the panel]
#pragma once

#include "kernels/conv/direct/position_tile.hpp"
#include "kernels/conv/prefetch_ahead.hpp"
#include "kernels/conv/weight_gradient/cuts.hpp"
#include "threads/grid.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
class TapRows {
  static constexpr Index lanes = Simd<T>::size;

 public:
  using Cut = PositionBlocks;
  static Cut cut_of(const ConvRequest& r) { return tap_row_cut<T>(r.shape); }

  [[gnu::noinline]] TapRows(const ConvShape& s, const Cut& cut, bool with_dw, bool with_db)
      : g(s), makes_db(with_db) {
    g.positions = cut;
    parts = g.positions.parts;
    pairs = with_dw ? g.C * g.taps : 0;
    threads = threads_for(g.work() * (with_dw ? 1 : 1.0 / double(g.C * g.taps)));
    height = (g.positions.rows - 1) * s.stride_h + (s.KH - 1) * s.dilation_h + 1;
    pitch = (g.positions.cols - 1) * s.stride_w + s.KW;
    packed_size = (g.positions.most_positions() + lanes) * width;
    sum_count = (pairs + makes_db) * vectors * lanes;
  }

  void run(const GradientOperands<T>& o) const {
    const ScratchOf<Memory> scratch(*this);
    const Index groups = g.s.groups;
    parallel_grid({parts, groups}, threads, [&](Index part, Index group, int slot) {
      const Work work{scratch->staged[slot], scratch->packed[slot], scratch->offset[slot],
                      scratch->sums.data() + (part * groups + group) * sum_count};
      const Range own = g.positions.blocks_of(part);
      for (Index i = own.first; i < own.last; ++i) add(work, group, i, own, o);
    });
    finish(scratch->sums.data(), o.dw, o.db);
  }

  void describe(ConvExplanation& to) const {
    fill_in(
        to, {g.s.KW, width}, threads,
        {{"output rows", g.positions.rows}, {"output columns", g.positions.cols}, {"partial sums", parts}});
    to.scratch_bytes = bytes_of<Memory>(*this);
  }

 private:
  struct Memory {
    const TapRows& m;
    Layout& layout;
    ThreadReserved<T> staged{layout, m.threads, m.g.C * m.height * m.pitch};
    ThreadReserved<T> packed{layout, m.threads, m.panels.count * m.packed_size};
    ThreadReserved<Index> offset{layout, m.threads, m.g.positions.most_positions()};
    Reserved<T> sums{layout, checked_product(m.parts, m.g.s.groups* m.sum_count)};
  };
  struct Work {
    T *staged, *packed;
    Index* offset;
    T* sums;
  };
  Index filters_of(Index panel) const { return panels.rows(panel) * lanes; }
  Index sums_before(Index panel) const { return panels.first(panel) * lanes * (pairs + makes_db); }

  // Adds block i of the output positions to the sums of a part, or starts them.
  void add(const Work& work, Index group, Index i, Range own, const GradientOperands<T>& o) const {
    const PositionBlock block = g.block(i);  // of one image
    if (pairs > 0) stage(work, block, group, o.x);
    pack(work, block, group, o.dout);
    PrefetchAhead next;
    if (i + 1 < own.last) {
      const PositionBlock after = g.block(i + 1);
      next = {g.dout_of(o.dout, after, after.first_image, group, 0), g.F, g.OH * g.OW,
              (after.rows - 1) * g.OW + after.cols, panels.count * g.C * g.s.KH};
    }
    for (Index panel = 0; panel < panels.count; ++panel)
      multiply(work, block.positions(), panel, i > own.first, next.after(panel * g.C * g.s.KH));
  }

  // The rows and columns of x that a block of positions reads, zero outside the image, and where each
  // position's begin.
  void stage(const Work& work, const PositionBlock& block, Index group, const T* x) const {
    const ConvShape& s = g.s;
    const T* planes = x + (block.first_image * s.groups + group) * g.C * g.H * g.W;
    const Index top = block.oh * s.stride_h - s.pad_top, left = block.ow * s.stride_w - s.pad_left;
    const Inside inside(left, 1, g.W, pitch);
    for (Index c = 0; c < g.C; ++c)
      for (Index i = 0; i < height; ++i) {
        T* to = work.staged + (c * height + i) * pitch;
        const bool outside = top + i < 0 || top + i >= g.H;
        std::fill_n(to, outside ? pitch : inside.first, T(0));
        if (outside) continue;
        const T* row = planes + (c * g.H + top + i) * g.W + left;
        std::copy(row + inside.first, row + inside.last, to + inside.first);
        std::fill(to + inside.last, to + pitch, T(0));
      }
    Index* offset = work.offset;
    for (Index r = 0; r < block.rows; ++r)
      for (Index j = 0; j < block.cols; ++j) *offset++ = r * s.stride_h * pitch + j * s.stride_w;
  }

  void pack(const Work& work, const PositionBlock& block, Index group, const T* dout) const {
    const Index plane = g.OH * g.OW;
    const T* end = dout + g.s.N * g.s.F * plane;
    for (Index panel = 0; panel < panels.count; ++panel) {
      const Index f = panels.first(panel) * lanes, size = filters_of(panel);
      const T* grad = g.dout_of(dout, block, block.first_image, group, f);
      T* to = work.packed + panel * packed_size;
      const Index runs = block.cols == g.OW ? 1 : block.rows, length = block.positions() / runs;
      for (Index r = 0; r < runs; ++r)
        transpose_freely(grad + r * g.OW, plane, std::min(size, g.F - f), length, end, to + r * length * size,
                         size);
    }
  }

  // Adds the products of K positions to the sums of a panel of filters, or starts them.
  void multiply(const Work& work, Index K, Index panel, bool add, const PrefetchAhead& next) const {
    const Index size = filters_of(panel);
    const T* packed = work.packed + panel * packed_size;
    T* sum = work.sums + sums_before(panel);
    const auto kernel = position_kernel<T>(g.s.KW, panels.rows(panel));
    for (Index c = 0; c < g.C && pairs > 0; ++c)
      for (Index a = 0; a < g.s.KH; ++a) {
        next.part(c * g.s.KH + a);
        kernel(K, work.staged + (c * height + a * g.s.dilation_h) * pitch, work.offset, packed, sum, size,
               add, nullptr, 0);
        sum += g.s.KW * size;
      }
    if (makes_db) sum_columns(packed, K, size, add, sum);
  }

  // total[f] (+)= the sum over k < K of packed[k][f].
  static void sum_columns(const T* packed, Index K, Index size, bool add, T* total) {
    using S = Simd<T>;
    for (Index f = 0; f < size; f += lanes) {
      auto even = S::zero(), odd = S::zero();
      for (Index k = 0; k < K; k += 2) {
        even = S::add(even, S::load(packed + k * size + f));
        if (k + 1 < K) odd = S::add(odd, S::load(packed + (k + 1) * size + f));
      }
      const auto sum = S::add(even, odd);
      S::store(total + f, add ? S::add(S::load(total + f), sum) : sum);
    }
  }

  // dw and db, as far as they are wanted, from the sums of the parts.
  void finish(T* sums, T* dw, T* db) const {
    const Index groups = g.s.groups, rows = pairs + makes_db;
    const int most = threads_for(double(parts * groups * sum_count));
    parallel_grid({groups, panels.count}, most, [&](Index group, Index panel, int) {
      const Index f = panels.first(panel) * lanes, size = filters_of(panel);
      const Index filters = std::min(size, g.F - f);
      T* sum = sums + group * sum_count + sums_before(panel);
      for (Index part = 1; part < parts; ++part) add_to(sum, sum + part * groups * sum_count, rows * size);
      if (pairs > 0) transpose(sum, size, pairs, filters, dw + (group * g.F + f) * pairs, pairs);
      if (db != nullptr) std::copy_n(sum + pairs * size, filters, db + group * g.F + f);
    });
  }

  WeightGradient<T> g;
  bool makes_db;
  Index vectors = ceil_div(g.F, lanes);    // of the filters
  Panels panels = tap_row_panels<T>(g.s);  // of vectors
  Index width = panels.rows(0) * lanes;    // of the widest panel
  Index parts, pairs;
  int threads;
  Index height, pitch;  // of a staged channel
  Index packed_size, sum_count;
};

}  // namespace cnnlib::CNNLIB_ISA
