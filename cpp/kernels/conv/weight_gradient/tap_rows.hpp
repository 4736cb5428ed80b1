// dw with the columns of a kernel as the rows of a tile and filters as its vector lanes: neighbouring columns
// read neighbouring input, which is only staged, never packed. Makes db on the way:
//
//   dw[f, c, a, b] = sum over positions p = (n, i, j) of
//                    dout[n, f, i, j] * x[n, c, i * stride_h + a * dilation_h - pad_top, j * stride_w + b -
//                    pad_left]
//   db[f]          = sum over positions p of dout[p, f]
//
//   staged[image][channel][row][column]          grads[panel of filters][position][filter]
//
//              positions ->                         filters (lanes) ->
//   columns    x(p)   x(p')   x(p'') ..        d(f0) d(f1) .. | d(f16) ..     position p
//   (rows)     x(p+1) x(p'+1) x(p''+1) ..   *  d(f0) d(f1) .. | d(f16) ..     position p'
//              x(p+2) x(p'+2) x(p''+2) ..      packed
//
//   sums[part][group][panel of filters][c, a, b][filter of the panel]
#pragma once

#include "kernels/conv/direct/position_tile.hpp"
#include "kernels/conv/weight_gradient/blocks.hpp"

namespace cnnlib::CNNLIB_ISA {

// totals[f] += the sum over k < K of grads[k][f], for `width` filters.
template <class T>
void add_columns(const T* grads, Index K, Index width, double* totals) {
  using S = Simd<T>;
  for (Index f = 0; f < width; f += S::size) {
    auto even = S::zero(), odd = S::zero();
    Index k = 0;
    for (; k + 2 <= K; k += 2) {
      even = S::add(even, S::load(grads + k * width + f));
      odd = S::add(odd, S::load(grads + (k + 1) * width + f));
    }
    if (k < K) even = S::add(even, S::load(grads + k * width + f));
    T sums[S::size];
    S::store(sums, S::add(even, odd));
    for (Index i = 0; i < S::size; ++i) totals[f + i] += sums[i];
  }
}

template <class T>
class TapRows {
  static constexpr Index lanes = Simd<T>::size;
  static constexpr Index grad_bytes = 32 << 10;  // of a panel of filters in a block
  static constexpr Index most_tasks = 16;        // of the first loop, by way of partial sums

 public:
  explicit TapRows(const ConvShape& s) : g(s) {
    g.set_blocks(PositionBlocks::choose(s.N, g.OH, g.OW, grad_bytes / (width * Index(sizeof(T)))));
    g.positions.set_parts(most_tasks / s.groups);
    // The staged region keeps the columns as they lie, whatever the stride.
    height = (g.positions.rows - 1) * s.stride_h + (s.KH - 1) * s.dilation_h + 1;
    pitch = (g.positions.cols - 1) * s.stride_w + s.KW;
    image_size = g.C * height * pitch;
    grad_size = (g.positions.most_positions() + lanes) * width;
  }

  void run(const WeightGradientOperands<T>& o) const {
    Layout layout;
    const Memory memory(*this, layout);
    const Scratch scratch(layout.bytes());
    T* sums = memory.sums.in(scratch.data());
    double* bias_sums = memory.bias_sums.in(scratch.data());
    std::fill_n(bias_sums, tasks() * filters, 0.0);
    parallel_for(tasks(), threads, [&](Index task, int slot) {
      const Work work{memory.staged.of(scratch.data(), slot), memory.grads.of(scratch.data(), slot),
                      memory.offset.of(scratch.data(), slot), sums + task * sum_size,
                      bias_sums + task * filters};
      add_part(work, task / g.s.groups, task % g.s.groups, o);
    });
    parallel_for(g.s.groups * panels.count, threads, [&](Index task, int) {
      const Index group = task / panels.count, panel = task % panels.count;
      if (o.dw != nullptr) write_weights(group, panel, sums, o.dw);
      if (o.db != nullptr) write_bias(group, panel, bias_sums, o.db);
    });
  }

  void describe(ConvPlan& plan) const {
    plan.tile_rows = columns.rows(0);
    plan.tile_columns = width;
    plan.threads = threads;
    g.positions.describe(plan);
    Layout layout;
    const Memory memory(*this, layout);
    plan.scratch_bytes = layout.bytes();
  }

 private:
  struct Memory {
    ThreadPiece<T> staged, grads;
    ThreadPiece<Index> offset;
    Piece<T> sums;
    Piece<double> bias_sums;
    Memory(const TapRows& m, Layout& layout) {
      const PositionBlocks& positions = m.g.positions;
      staged = layout.per_thread<T>(m.threads, positions.images * m.image_size);
      grads = layout.per_thread<T>(m.threads, m.panels.count * m.grad_size);
      offset = layout.per_thread<Index>(m.threads, positions.most_positions());
      sums = layout.array<T>(checked_product(m.tasks(), m.sum_size));
      bias_sums = layout.array<double>(m.tasks() * m.filters);
    }
  };
  struct Work {  // of one task
    T *staged, *grads;
    Index* offset;
    T* sums;
    double* bias_sums;
  };

  // Prefetches dout of a block, a share of the filters with every product of the block before.
  class NextBlock {
   public:
    NextBlock() = default;
    NextBlock(const TapRows& m, const PositionBlock& block, Index group, const T* dout)
        : next(m.g.dout_of(dout, block, block.first_image, group, 0)),
          plane(m.g.OH * m.g.OW),
          values((block.rows - 1) * m.g.OW + block.cols),
          F(m.g.F),
          products(m.panels.count * m.g.C * m.g.s.KH * m.columns.count) {}

    void prefetch_share() {
      const Index begin = product * F / products, end = ++product * F / products;
      for (Index f = begin; f < end; ++f) prefetch<2>(next + f * plane, values);
    }

   private:
    const T* next = nullptr;
    Index plane = 0, values = 0, F = 0, products = 1, product = 0;
  };

  Index tasks() const { return g.positions.parts * g.s.groups; }
  Index filters_of(Index panel) const { return panels.rows(panel) * lanes; }

  // The sums of a part of the positions.
  void add_part(const Work& work, Index part, Index group, const WeightGradientOperands<T>& o) const {
    const Index first = g.positions.first_block(part), last = g.positions.first_block(part + 1);
    for (Index i = first; i < last; ++i) {
      const PositionBlock block = g.block(i);
      if (o.dw != nullptr) stage(work, block, group, o.x);
      pack(work, block, group, o.dout);
      NextBlock next = i + 1 < last ? NextBlock(*this, g.block(i + 1), group, o.dout) : NextBlock();
      for (Index panel = 0; panel < panels.count; ++panel) {
        if (o.db != nullptr)
          add_columns(work.grads + panel * grad_size, block.positions(), filters_of(panel),
                      work.bias_sums + panels.first(panel) * lanes);
        if (o.dw != nullptr) multiply(work, block.positions(), panel, i > first, next);
      }
    }
  }

  // What a block of positions reads of x, and where.
  void stage(const Work& work, const PositionBlock& block, Index group, const T* x) const {
    const ConvShape& s = g.s;
    Index* offset = work.offset;
    for (Index i = 0; i < block.images; ++i) {
      const T* planes = x + ((block.first_image + i) * s.groups + group) * g.C * g.H * g.W;
      for (Index c = 0; c < g.C; ++c)
        copy_region(planes + c * g.H * g.W, g.H, g.W, block.oh * s.stride_h - s.pad_top,
                    block.ow * s.stride_w - s.pad_left, height, pitch,
                    work.staged + i * image_size + c * height * pitch);
      for (Index r = 0; r < block.rows; ++r)
        for (Index j = 0; j < block.cols; ++j)
          *offset++ = i * image_size + r * s.stride_h * pitch + j * s.stride_w;
    }
  }

  void pack(const Work& work, const PositionBlock& block, Index group, const T* dout) const {
    const Index plane = g.OH * g.OW;
    const T* dout_end = dout + g.s.N * g.s.F * plane;
    for (Index i = 0; i < block.images; ++i)
      for (Index panel = 0; panel < panels.count; ++panel) {
        const Index f = panels.first(panel) * lanes, size = filters_of(panel);
        const T* grad = g.dout_of(dout, block, block.first_image + i, group, f);
        T* to = work.grads + panel * grad_size + i * block.image_positions() * size;
        for (Index r = 0; r < block.rows; ++r)
          transpose_freely(grad + r * g.OW, plane, std::min(size, g.F - f), block.cols, dout_end,
                           to + r * block.cols * size, size);
      }
  }

  // Adds the products of a block of K positions to the sums of a panel of filters, or starts them.
  void multiply(const Work& work, Index K, Index panel, bool add, NextBlock& next) const {
    const Index size = filters_of(panel);
    T* sum = work.sums + panels.first(panel) * lanes * g.C * g.taps;
    for (Index c = 0; c < g.C; ++c)
      for (Index a = 0; a < g.s.KH; ++a)
        for (Index q = 0; q < columns.count; ++q) {
          const Index count = columns.rows(q);
          next.prefetch_share();
          position_kernel<T>(count, panels.rows(panel))(
              K, work.staged + (c * height + a * g.s.dilation_h) * pitch + columns.first(q), work.offset,
              work.grads + panel * grad_size, sum, size, add, nullptr, 0);
          sum += count * size;
        }
  }

  void write_weights(Index group, Index panel, T* sums, T* dw) const {
    const Index f = panels.first(panel) * lanes, size = filters_of(panel), products = g.C * g.taps;
    T* sum = sums + group * sum_size + f * products;
    g.positions.add_parts(sum, g.s.groups * sum_size, size * products);
    transpose(sum, size, products, std::min(size, g.F - f), dw + (group * g.F + f) * products, products);
  }

  void write_bias(Index group, Index panel, const double* sums, T* db) const {
    const Index first = panels.first(panel) * lanes, last = std::min(first + filters_of(panel), g.F);
    for (Index f = first; f < last; ++f) {
      double total = 0;
      for (Index part = 0; part < g.positions.parts; ++part)
        total += sums[(part * g.s.groups + group) * filters + f];
      db[group * g.F + f] = static_cast<T>(total);
    }
  }

  WeightGradient<T> g;
  int threads = threads_for(g.work());
  Panels columns{g.s.KW};                                                      // of the kernel
  Index vectors = ceil_div(g.F, lanes), filters = vectors * lanes;             // of a group
  Panels panels{vectors, std::min(vectors, vectors_beside(columns.rows(0)))};  // of vectors
  Index width = panels.rows(0) * lanes;                                        // of the widest panel
  Index sum_size = g.C * g.taps * filters;                                     // of one task
  Index height, pitch, image_size;  // of a staged channel; of all channels
  Index grad_size;                  // of a packed panel
};

}  // namespace cnnlib::CNNLIB_ISA
