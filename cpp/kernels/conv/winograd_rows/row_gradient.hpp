// dw by F(4, K) along rows, as the adjoint of the forward pass:
//
//   dw = sum over tiles of G' [ (A dy) . (B' d) ]
//
// with tiles in the lanes of both operands: dot products of a filter's tiles with a term's, for each point.
// db is what A dy sums up on the way.
#pragma once

#include "kernels/conv/winograd_rows/row_tiles.hpp"
#include "kernels/gemm/dot_product.hpp"
#include "kernels/simd/sums.hpp"
#include "threads/parallel.hpp"

namespace cnnlib::CNNLIB_ISA {

// The sums of a part of the bands run lane by lane, until the part is closed:
//
//   [block of filters][point][block of terms][filter][term][lane], then db [filter][lane]
template <class T>
class RowGradient {
  using S = Simd<T>;
  static constexpr Index lanes = S::size;
  static constexpr Index most_parts = 24;  // of the sums, for threads to share

 public:
  RowGradient(const ConvShape& shape, bool dw_wanted)
      : tiles(shape), with_dw(dw_wanted), filters(tiles.F, dot_block) {
    term_blocks = with_dw ? ceil_div(tiles.terms, dot_block) : 0;
    products = tiles.F * tiles.tile.points * term_blocks * dot_block;
    sum_count = products + tiles.F;
    parts = std::clamp<Index>(most_parts / s.groups, 1, s.N * tiles.bands);
    threads = threads_for(2.0 / 16 * double(s.N * s.F * s.OH * tiles.cols) *
                          double(with_dw ? tiles.terms * tiles.tile.points : row_outs));
  }

  void run(const WeightGradientOperands<T>& o) const {
    Layout layout;
    const Memory memory(*this, layout);
    const Scratch scratch(layout.bytes());
    T* sums = memory.sums.in(scratch.data());
    Index* offset = memory.offset.in(scratch.data());
    VectorAt* vectors = memory.vectors.in(scratch.data());
    tiles.term_offsets(offset);
    for (Index i = 0; i < most_vectors_of_band(); ++i) vectors[i] = {i * lanes, i * lanes};
    const Index bands = s.N * tiles.bands;
    parallel_for(parts * s.groups, threads, [&](Index task, int slot) {
      const Index group = task % s.groups, part = task / s.groups;
      const Work work{offset,
                      vectors,
                      memory.x.of(scratch.data(), slot),
                      memory.y.of(scratch.data(), slot),
                      memory.line.of(scratch.data(), slot),
                      memory.running.of(scratch.data(), slot)};
      std::fill_n(work.running, sum_count * lanes, T(0));
      for (Index i = part * bands / parts; i < (part + 1) * bands / parts; ++i)
        add_band(work, i / tiles.bands * s.groups + group, i % tiles.bands, o);
      sum_each(work.running, sum_count, sums + task * sum_count);
    });
    for (Index part = 1; part < parts; ++part)
      add_to(sums, sums + part * s.groups * sum_count, s.groups * sum_count);
    for (Index group = 0; group < s.groups; ++group) finish(sums + group * sum_count, group, o);
  }

  void describe(ConvPlan& plan) const {
    plan.tile_rows = 1;
    plan.tile_columns = row_outs;
    plan.threads = threads;
    name_blocks(plan, {{"output rows", tiles.rows}, {"terms", tiles.terms}, {"partial sums", parts}});
    Layout layout;
    const Memory memory(*this, layout);
    plan.scratch_bytes = layout.bytes();
  }

 private:
  struct Memory {
    Piece<Index> offset;
    Piece<VectorAt> vectors;
    Piece<T> sums;
    ThreadPiece<T> x, y, line, running;
    Memory(const RowGradient& m, Layout& layout) {
      const RowTiles<T>& t = m.tiles;
      const Index vectors_of_band = m.most_vectors_of_band();
      offset = layout.array<Index>(t.terms);
      vectors = layout.array<VectorAt>(vectors_of_band);
      sums = layout.array<T>(checked_product(m.parts, m.s.groups * m.sum_count));
      x = layout.per_thread<T>(m.threads, t.values());
      y = layout.per_thread<T>(m.threads, dot_block * t.tile.points * m.y_step());
      line = layout.per_thread<T>(m.threads, std::max(vectors_of_band * row_outs * lanes, t.line()));
      running = layout.per_thread<T>(m.threads, checked_product(m.sum_count, lanes));
    }
  };
  struct Work {
    const Index* offset;
    const VectorAt* vectors;
    T *x, *y, *line, *running;
  };

  Index most_vectors_of_band() const { return ceil_div(tiles.rows * tiles.cols, lanes); }
  // Between the points of a filter's y'.
  Index y_step() const { return most_vectors_of_band() * lanes + lanes; }

  // Adds a band of an image (of one group) to the running sums.
  void add_band(const Work& work, Index image, Index band, const WeightGradientOperands<T>& o) const {
    const Index positions = tiles.band_positions(band);
    if (with_dw) tiles.transform(o.x + image * tiles.C * s.H * s.W, band, work.line, work.x);
    const T* dout = o.dout + image * tiles.F * s.OH * s.OW + band * tiles.rows * s.OW;
    T *running = work.running, *db = work.running + products * lanes;
    for (Index block = 0; block < filters.count; ++block) {
      const Index height = filters.rows(block);
      for (Index i = 0; i < height; ++i, db += lanes)
        transform_gradient(work, dout + (filters.first(block) + i) * s.OH * s.OW, positions,
                           work.y + i * tiles.tile.points * y_step(), db);
      for (Index p = 0; p < tiles.tile.points && with_dw; ++p)
        for (Index k = 0; k < term_blocks * dot_block; k += dot_block, running += height * dot_block * lanes)
          multiply(work, p, k, height, positions, running);
    }
  }

  // A dy of the tiles of a band, zero behind them.
  void transform_gradient(const Work& work, const T* rows, Index positions, T* y, T* db) const {
    const Index vectors = ceil_div(positions, lanes), width = row_outs * tiles.cols;
    if (s.OW != width || positions % lanes != 0) {
      const Index count = positions / tiles.cols;
      for (Index r = 0; r < count; ++r) {
        std::copy_n(rows + r * s.OW, s.OW, work.line + r * width);
        std::fill_n(work.line + r * width + s.OW, width - s.OW, T(0));
      }
      std::fill_n(work.line + count * width, vectors * row_outs * lanes - count * width, T(0));
      rows = work.line;
    }
    tiles.tile.gradients(rows, vectors, y, y_step(), db);
  }

  // Adds the products of a block of filters with a block of terms at one point.
  void multiply(const Work& work, Index p, Index k, Index height, Index positions, T* running) const {
    const T *y[dot_block], *x[dot_block];
    for (Index i = 0; i < height; ++i) y[i] = work.y + (i * tiles.tile.points + p) * y_step();
    for (Index i = 0; i < dot_block; ++i)
      x[i] = work.x + p * tiles.point_step() + work.offset[std::min(k + i, tiles.terms - 1)];
    dot_kernel<T>(height)(y, x, work.vectors, positions / lanes, positions % lanes > 0, positions % lanes,
                          false, running);
  }

  // dw and db of a group, as far as they are wanted.
  void finish(const T* sums, Index group, const WeightGradientOperands<T>& o) const {
    const Index points = tiles.tile.points;
    const auto total = [&](Index f, Index block, Index i, Index p, Index k) {
      const Index height = filters.rows(block),
                  pair = (k / dot_block * height + i) * dot_block + k % dot_block;
      return sums[(f - i) * points * term_blocks * dot_block + p * height * term_blocks * dot_block + pair];
    };
    T s_of[most_row_points * lanes], taps[most_row_points * lanes];
    for (Index block = 0; block < filters.count; ++block)
      for (Index i = 0; i < filters.rows(block); ++i) {
        const Index f = filters.first(block) + i;
        if (o.db != nullptr) o.db[group * tiles.F + f] = sums[products + f];
        if (!with_dw) continue;
        T* dw = o.dw + (group * tiles.F + f) * tiles.C * s.KH * s.KW;
        for (Index k = 0; k < tiles.terms; k += lanes) {
          const Index count = std::min(lanes, tiles.terms - k);
          for (Index p = 0; p < points; ++p)
            for (Index l = 0; l < lanes; ++l)
              s_of[p * lanes + l] = l < count ? total(f, block, i, p, k + l) : T(0);
          tiles.tile.filter_gradients(s_of, taps);
          for (Index l = 0; l < count; ++l)
            for (Index tap = (k + l) % s.stride_w, j = 0; tap < s.KW; tap += s.stride_w, ++j)
              dw[(k + l) / s.stride_w * s.KW + tap] = taps[j * lanes + l];
        }
      }
  }

  RowTiles<T> tiles;
  const ConvShape& s = tiles.s;
  bool with_dw;
  Panels filters;
  Index term_blocks, products, sum_count, parts;
  int threads;
};

}  // namespace cnnlib::CNNLIB_ISA
