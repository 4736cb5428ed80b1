// dw of few channels, or of 1x1 kernels of few filters: dot products along the rows of dout and of the image,
// neither of which has to be transposed. The image is staged, but for 1x1 kernels, which read it where it
// lies. db is one more row of the image, of ones.
#pragma once

#include "kernels/conv/weight_gradient/cuts.hpp"
#include "kernels/gemm/dot_product.hpp"
#include "kernels/simd/loops.hpp"
#include "kernels/simd/sums.hpp"
#include "threads/grid.hpp"

namespace cnnlib::CNNLIB_ISA {

// The sums of a part of the work run lane by lane, [block of filters][block of pairs][filter][pair][lane],
// until the part is closed. A pair is a (channel, tap), or the ones of db.
template <class T>
class DotProducts {
  using S = Simd<T>;

 public:
  using Cut = PositionBlocks;
  static Cut cut_of(const ConvRequest& r) { return dot_product_cut<T>(r.shape); }

  [[gnu::noinline]] DotProducts(const ConvShape& s, const Cut& cut, bool with_dw, bool with_db) : g(s) {
    g.set_blocks(cut, S::size, S::size);
    pairs = with_dw ? g.C * g.taps : 0;
    pair_blocks = ceil_div(pairs + with_db, dot_block);
    parts = g.positions.parts;
    threads = threads_for(g.work() * (with_dw ? 1 : 1.0 / double(g.C * g.taps)));
    filters = Panels(g.F, dot_rows);
    // Each of them stages the image anew.
    constexpr double gain = 1.15;
    filter_parts = splits_for(parts * s.groups, filters.count, threads, gain);
    sum_count = g.F * pair_blocks * dot_block;
    ones_at = g.flat ? 0 : g.C * g.staging.channel_size + S::size;
    ones_size = with_db ? g.positions.rows * g.staging.pitch + S::size : 0;
  }

  void run(const GradientOperands<T>& o) const {
    const ScratchOf<Memory> scratch(*this);
    Index* offset = scratch->offset.data();
    T* sums = scratch->sums.data();
    list_pairs(scratch->pair.data(), offset);
    const Index groups = g.s.groups;
    scratch->first_use.reset();
    parallel_grid({parts, groups, filter_parts}, threads,
                  [&](Index part, Index group, Index filter_part, int slot) {
                    const Range some = range_of(filters.count, filter_part, filter_parts);
                    const Work work{scratch->staged[slot], scratch->tails[slot], scratch->running[slot],
                                    scratch->vectors[slot], offset};
                    if (scratch->first_use(slot)) std::fill_n(work.staged + ones_at, ones_size, T(1));
                    const Range own = g.positions.blocks_of(part);
                    for (Index i = own.first; i < own.last; ++i) {
                      const PositionBlock block = g.block(i);  // of one image
                      add(work, block.first_image * groups + group, block, some, i == own.first,
                          i + 1 == own.last ? sums + (part * groups + group) * sum_count : nullptr, o);
                    }
                  });
    finish(sums, scratch->pair.data(), o.dw, o.db);
  }

  void describe(ConvExplanation& to) const {
    fill_in(to, {dot_rows, dot_block}, threads,
            {{"output rows", g.positions.rows},
             {"output columns", g.positions.cols},
             {"partial sums", parts},
             {"parts of the filters", filter_parts}});
    to.scratch_bytes = bytes_of<Memory>(*this);
  }

 private:
  struct Memory {
    const DotProducts& m;
    Layout& layout;
    FirstUse first_use{m.threads, layout};
    ThreadReserved<T> staged{layout, m.threads, m.ones_at + m.ones_size};
    ThreadReserved<VectorAt> vectors{layout, m.threads,
                                     m.g.positions.rows * (m.g.positions.cols / S::size + 1)};
    ThreadReserved<T> tails{layout, m.threads, dot_rows * m.g.positions.rows * S::size};
    ThreadReserved<T> running{layout, m.threads, m.sum_count * S::size};
    Reserved<T> sums{layout, checked_product(m.parts, m.g.s.groups* m.sum_count)};
    Reserved<Index> pair{layout, m.g.C * m.g.taps}, offset{layout, m.g.C * m.g.taps};
  };
  struct Work {
    T *staged, *tails, *running;
    VectorAt* vectors;
    const Index* offset;
  };
  Index sums_before(Index block) const { return filters.first(block) * pair_blocks * dot_block; }

  // The pairs in the order in which the staged image has them, and where: taps of a phase are neighbours, and
  // read the same lines.
  void list_pairs(Index* pair, Index* offset) const {
    const AxisPhases &y = g.staging.y, &x = g.staging.x;
    for (Index plane = 0; plane < g.C * y.count * x.count; ++plane) {
      const Index c = plane / (y.count * x.count);
      for (Index a = 0; a < g.s.KH; ++a) {
        if (y.phase_of[a] != plane / x.count % y.count) continue;
        for (Index k = 0; k < g.s.KW; ++k) {
          if (x.phase_of[k] != plane % x.count) continue;
          *pair++ = (c * g.s.KH + a) * g.s.KW + k;
          *offset++ = g.flat ? c * g.OW : c * g.staging.channel_size + g.staging.tap_offset(a, k);
        }
      }
    }
  }

  // Adds one block of output positions of an image (of one group) to the running sums of some blocks of
  // filters, or starts them. After the last block their lanes are added up to `sums`.
  void add(const Work& work, Index image, const PositionBlock& of, Range some, bool start, T* sums,
           const GradientOperands<T>& o) const {
    const Index rows = of.rows, cols = of.cols;
    const T* x = o.x + image * g.C * g.H * g.W + (g.flat ? of.ow : 0);
    for (Index c = 0; !g.flat && pairs > 0 && c < g.C; ++c)
      stage_plane(x + c * g.H * g.W, g.H, g.W, g.W, g.staging, of.oh, of.ow,
                  work.staged + c * g.staging.channel_size);
    const T* const planes = g.flat ? x : work.staged;
    const T* const ones = work.staged + ones_at;
    const Index whole = cols / S::size, rest = cols % S::size, tails = rest > 0 ? rows : 0;
    list_vectors(rows, whole, tails, cols, work.vectors);
    // What comes from a cache (up to a quarter of what is written past them) costs less than prefetching it;
    // so does what few products share, from memory too.
    const bool prefetches = g.taps > 1 && use_non_temporal<T>(4 * g.s.N * g.s.F * g.OH * g.OW);
    typename S::Whole tail_mask_bits[S::size];
    for (Index lane = 0; lane < S::size; ++lane)
      tail_mask_bits[lane] = lane < S::size - rest ? 0 : ~typename S::Whole(0);
    T tail_mask[S::size];
    std::memcpy(tail_mask, tail_mask_bits, sizeof tail_mask);
    const Index positions = g.OH * g.OW;
    const T* grad = o.dout + image * g.F * positions + of.oh * g.OW + of.ow;
    for (Index block = some.first; block < some.last; ++block) {
      const Index f = filters.first(block), height = filters.rows(block);
      const auto kernel = dot_kernel<T>(height);
      T* const own = work.running + sums_before(block) * S::size;
      T* sum = own;
      const T *from_grad[dot_rows], *from_tails[dot_rows], *from_image[dot_block];
      for (Index i = 0; i < height; ++i) {
        from_grad[i] = grad + (f + i) * positions;
        from_tails[i] = work.tails + i * rows * S::size;
        for (Index r = 0; r < tails; ++r)
          S::store(work.tails + (i * rows + r) * S::size,
                   S::load_lanes(from_grad[i] + r * g.OW + cols - S::size, S::size - rest, rest));
      }
      for (Index k = 0; k < pair_blocks * dot_block; k += dot_block, sum += height * dot_block * S::size) {
        if (prefetches) {  // the next filters' rows
          const Index share = rows * g.OW / pair_blocks + 1;
          for (Index i = 0; i < height; ++i)
            prefetch(grad + (f + height + i) * positions + k / dot_block * share, share);
        }
        for (Index i = 0; i < dot_block; ++i)
          from_image[i] = k + i < pairs ? planes + work.offset[k + i] : ones_size > 0 ? ones : planes;
        kernel(from_grad, from_tails, from_image, work.vectors, rows * whole, tails, tail_mask, start, sum);
      }
      if (sums != nullptr) sum_each(own, height * pair_blocks * dot_block, sums + sums_before(block));
    }
  }

  // The whole vectors of rows of dout and of the staged image, and behind them the last of each row where
  // that is not whole: it ends with the row. What it shares with the one before is zero in the copy of dout,
  // and does not count in the sums: an infinity of the image would make NaN of the zero.
  void list_vectors(Index rows, Index whole, Index tails, Index cols, VectorAt* at) const {
    for (Index i = 0; i < rows; ++i)
      for (Index j = 0; j < whole; ++j) *at++ = {i * g.OW + j * S::size, i * g.staging.pitch + j * S::size};
    for (Index i = 0; i < tails; ++i) *at++ = {i * S::size, i * g.staging.pitch + cols - S::size};
  }

  // dw and db, as far as they are wanted, from the sums of the parts.
  void finish(T* sums, const Index* pair, T* dw, T* db) const {
    const Index groups = g.s.groups;
    const int most = threads_for(double(parts * groups * sum_count));
    parallel_grid({groups, filters.count}, most, [&](Index group, Index block, int) {
      const Index height = filters.rows(block);
      T* sum = sums + group * sum_count + sums_before(block);
      for (Index part = 1; part < parts; ++part)
        add_to(sum, sum + part * groups * sum_count, sums_before(block + 1) - sums_before(block));
      for (Index i = 0; i < height; ++i) {
        const Index f = group * g.F + filters.first(block) + i;
        const auto total = [&](Index k) {
          return sum[(k / dot_block * height + i) * dot_block + k % dot_block];
        };
        for (Index k = 0; k < pairs; ++k) dw[f * pairs + pair[k]] = total(k);
        if (db != nullptr) db[f] = total(pairs);
      }
    });
  }

  WeightGradient<T> g;
  Index pairs, pair_blocks, parts, filter_parts;
  int threads;
  Panels filters{0};
  Index sum_count;  // [block of filters][block of pairs][filter][pair]
  Index ones_at, ones_size;
};

}  // namespace cnnlib::CNNLIB_ISA
