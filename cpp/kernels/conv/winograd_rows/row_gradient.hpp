// dw by F(4, K) along rows, as the adjoint of the forward pass:
//
//   dw = sum over tiles of G' [ (A dy) . (B' d) ]
//
// with tiles in the lanes of both operands: dot products of a filter's tiles with a term's, for each point.
// db is what A dy sums up on the way.
#pragma once

#include "kernels/conv/prefetch_ahead.hpp"
#include "kernels/conv/winograd_rows/row_tiles.hpp"
#include "kernels/gemm/dot_product.hpp"
#include "kernels/simd/sums.hpp"
#include "threads/grid.hpp"

namespace cnnlib::CNNLIB_ISA {

// The sums of a part of the bands run lane by lane, until the part is closed:
//
//   [block of filters]([point][block of terms][filter][term], then db [filter])[lane]
template <class T>
class RowGradient {
  using S = Simd<T>;
  static constexpr Index lanes = S::size;

 public:
  using Cut = Index;
  static Cut cut_of(const ConvRequest& r) { return row_gradient_parts(r.shape, RowTiles<T>(r.shape).bands); }

  RowGradient(const ConvShape& shape, Cut cut, bool dw_wanted, bool)
      : tiles(shape), with_dw(dw_wanted), parts(cut) {}

  void run(const GradientOperands<T>& o) const {
    const ScratchOf<Memory> scratch(*this);
    T* sums = scratch->sums.data();
    tiles.term_offsets(scratch->offset.data());
    for (Index i = 0; i < most_vectors_of_band(); ++i) scratch->vectors.data()[i] = {i * lanes, i * lanes};
    const Index bands = s.N * tiles.bands;
    parallel_grid({parts, s.groups, filter_parts}, threads,
                  [&](Index part, Index group, Index filter_part, int slot) {
                    const Range blocks = range_of(filters.count, filter_part, filter_parts),
                                own = range_of(bands, part, parts);
                    for (Index i = own.first; i < own.last; ++i)
                      add_band(scratch, slot, i / tiles.bands * s.groups + group, i % tiles.bands, blocks,
                               i == own.first,
                               i + 1 == own.last ? sums + (part * s.groups + group) * sum_count : nullptr, o);
                  });
    parallel_grid({s.groups, filters.count}, threads, [&](Index group, Index block, int) {
      const Index size = sums_before(block + 1) - sums_before(block);
      T* total = sums + group * sum_count + sums_before(block);
      for (Index part = 1; part < parts; ++part) add_to(total, total + part * s.groups * sum_count, size);
      finish(total, group, block, o);
    });
  }

  void describe(ConvExplanation& to) const {
    fill_in(to, {1, row_outs}, threads,
            {{"output rows", tiles.rows},
             {"terms", tiles.terms},
             {"partial sums", parts},
             {"parts of the filters", filter_parts}});
    to.scratch_bytes = bytes_of<Memory>(*this);
  }

 private:
  struct Memory {
    const RowGradient& m;
    Layout& layout;
    Reserved<Index> offset{layout, m.tiles.terms};
    Reserved<VectorAt> vectors{layout, m.most_vectors_of_band()};
    Reserved<T> sums{layout, checked_product(m.parts, m.s.groups* m.sum_count)};
    ThreadReserved<T> x{layout, m.threads, m.tiles.values()};
    ThreadReserved<T> y{layout, m.threads, dot_rows * m.tiles.tile.points * m.y_step()};
    ThreadReserved<T> line{layout, m.threads,
                           std::max(m.most_vectors_of_band() * row_outs * lanes, m.tiles.line())};
    ThreadReserved<T> running{layout, m.threads, checked_product(m.sum_count, lanes)};
  };

  // Of the blocks before this one, which may be that behind the last.
  Index sums_before(Index block) const { return filters.first(block) * (products + 1); }

  Index most_vectors_of_band() const { return ceil_div(tiles.rows * tiles.cols, lanes); }
  // Between the points of a filter's y'.
  Index y_step() const { return most_vectors_of_band() * lanes + lanes; }

  // Adds a band of an image (of one group) to the running sums of some blocks of filters. The first band
  // starts them, after the last their lanes are added up to `sums`.
  void add_band(const ScratchOf<Memory>& scratch, int slot, Index image, Index band, Range blocks, bool first,
                T* sums, const GradientOperands<T>& o) const {
    const Index positions = tiles.band_positions(band);
    T *line = scratch->line[slot], *x = scratch->x[slot], *y = scratch->y[slot];
    if (with_dw) tiles.transform(o.x + image * tiles.C * s.H * s.W, band, line, x);
    const T* dout = o.dout + image * tiles.F * s.OH * s.OW + band * tiles.rows * s.OW;
    for (Index block = blocks.first; block < blocks.last; ++block) {
      const Index height = filters.rows(block);
      T* const own = scratch->running[slot] + sums_before(block) * lanes;
      T *running = own, *db = own + height * products * lanes;
      if (first) std::fill_n(db, height * lanes, T(0));
      for (Index i = 0; i < height; ++i, db += lanes)
        transform_gradient(dout + (filters.first(block) + i) * s.OH * s.OW, positions, line,
                           y + i * tiles.tile.points * y_step(), db);
      const PrefetchAhead next = next_rows(dout, band, block, blocks);
      for (Index p = 0; p < tiles.tile.points && with_dw; ++p) {
        next.part(p);
        for (Index k = 0; k < term_blocks * dot_block; k += dot_block, running += height * dot_block * lanes)
          multiply(scratch, slot, p, k, height, positions, first, running);
      }
      if (sums != nullptr) sum_each(own, height * (products + 1), sums + sums_before(block));
    }
  }

  // dout of the next block of filters, or of the first one in the next band, where no cache holds dout.
  PrefetchAhead next_rows(const T* dout, Index band, Index block, Range blocks) const {
    const bool same_band = block + 1 < blocks.last;
    if (!tiles.far_results || (!same_band && band + 1 == tiles.bands)) return {};
    const Index next = same_band ? block + 1 : blocks.first, plane = s.OH * s.OW;
    const Index rows = std::min(tiles.rows, s.OH - (band + !same_band) * tiles.rows);
    return {dout + filters.first(next) * plane + (same_band ? 0 : tiles.rows * s.OW), filters.rows(next),
            plane, rows * s.OW, tiles.tile.points};
  }

  // A dy of the tiles of a band, zero behind them.
  void transform_gradient(const T* rows, Index positions, T* line, T* y, T* db) const {
    const Index vectors = ceil_div(positions, lanes), width = row_outs * tiles.cols;
    if (s.OW != width || positions % lanes != 0) {
      const Index count = positions / tiles.cols;
      for (Index r = 0; r < count; ++r) {
        std::copy_n(rows + r * s.OW, s.OW, line + r * width);
        std::fill_n(line + r * width + s.OW, width - s.OW, T(0));
      }
      std::fill_n(line + count * width, vectors * row_outs * lanes - count * width, T(0));
      rows = line;
    }
    tiles.tile.gradients(rows, vectors, y, y_step(), db);
  }

  // Adds the products of a block of filters with a block of terms at one point.
  void multiply(const ScratchOf<Memory>& scratch, int slot, Index p, Index k, Index height, Index positions,
                bool start, T* running) const {
    const T *y[dot_rows], *x[dot_block];
    const T* x_of_point = scratch->x[slot] + p * tiles.point_step();
    for (Index i = 0; i < height; ++i) y[i] = scratch->y[slot] + (i * tiles.tile.points + p) * y_step();
    for (Index i = 0; i < dot_block; ++i)
      x[i] = x_of_point + scratch->offset.data()[std::min(k + i, tiles.terms - 1)];
    dot_kernel<T>(height)(y, y, x, scratch->vectors.data(), ceil_div(positions, lanes), 0, nullptr, start,
                          running);
  }

  // dw and db of a block of filters of a group, as far as they are wanted.
  void finish(const T* sums, Index group, Index block, const GradientOperands<T>& o) const {
    const Index points = tiles.tile.points, height = filters.rows(block);
    const auto total = [&](Index i, Index p, Index k) {
      const Index pair = (k / dot_block * height + i) * dot_block + k % dot_block;
      return sums[p * height * term_blocks * dot_block + pair];
    };
    T s_of[most_row_points * lanes], taps[most_row_points * lanes];
    for (Index i = 0; i < height; ++i) {
      const Index f = filters.first(block) + i;
      if (o.db != nullptr) o.db[group * tiles.F + f] = sums[height * products + i];
      if (!with_dw) continue;
      T* dw = o.dw + (group * tiles.F + f) * tiles.C * s.KH * s.KW;
      for (Index k = 0; k < tiles.terms; k += lanes) {
        const Index count = std::min(lanes, tiles.terms - k);
        for (Index p = 0; p < points; ++p)
          for (Index l = 0; l < lanes; ++l) s_of[p * lanes + l] = l < count ? total(i, p, k + l) : T(0);
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
  Index parts;  // of the bands of all images
  Panels filters{tiles.F, dot_rows};
  Index term_blocks = with_dw ? ceil_div(tiles.terms, dot_block) : 0;
  Index products = tiles.tile.points * term_blocks * dot_block;  // of a filter
  Index sum_count = tiles.F * (products + 1);                    // of all filters
  int threads = threads_for(2.0 / 16 * double(s.N * s.F * s.OH * tiles.cols) *
                            double(with_dw ? tiles.terms * tiles.tile.points : row_outs));
  Index filter_parts = splits_for(parts * s.groups, filters.count, threads);
};

}  // namespace cnnlib::CNNLIB_ISA
