// The forward pass by F(4, K) along rows:
//
//   packed[group][panel of filters][point][term][filter of the panel]
//
//               terms ->            tiles (lanes) ->
//   filters     w' w' w' ..         x' x' x' | x' x' x'      term 0
//   (rows)      w' w' w' ..    *    x' x' x' | x' x' x'      term 1
//               ..                  ..                       ..
//
// one such product for every point, whose results stay in the first-level cache until all points are there.
#pragma once

#include "kernels/conv/method.hpp"
#include "kernels/conv/winograd_rows/row_tiles.hpp"
#include "threads/grid.hpp"
#include "threads/parallel.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
class RowCorrelation {
  using S = Simd<T>;
  static constexpr Index lanes = S::size, block = NR<T>;  // tiles of a product

 public:
  [[gnu::noinline]] RowCorrelation(const ConvShape& shape, const ConvOperands<T>& operands)
      : tiles(shape), o(operands), panels(tiles.F) {
    threads = threads_for(2.0 / 16 * double(s.N * s.F * s.OH * tiles.cols) *
                          double(tiles.terms * tiles.tile.points));
    // A band for each thread at least, as long as it fills a block.
    const Index images = s.N * s.groups, least_rows = ceil_div(block, tiles.cols);
    while (!keep_busy(images * tiles.bands, threads) && tiles.rows > least_rows)
      tiles.set_rows(std::max(least_rows, tiles.rows - 1));
  }

  Index packed_size() const { return checked_product(s.groups, group_size()); }

  void pack(T* packed) const {
    parallel_grid({s.groups, panels.count}, threads, [&](Index group, Index panel, int) {
      pack_panel(o.w + (group * tiles.F + panels.first(panel)) * tiles.C * s.KH * s.KW, panels.rows(panel),
                 packed + group * group_size() + panels.first(panel) * tiles.terms * tiles.tile.points);
    });
  }

  void run(const T* packed) const {
    const ScratchOf<Memory> scratch(*this);
    Index* offset = scratch->offset.data();
    tiles.term_offsets(offset);
    parallel_grid({s.N * s.groups, tiles.bands}, threads, [&](Index image, Index band, int slot) {
      const Index group = image % s.groups;
      T* values = scratch->values[slot];
      tiles.transform(o.in + image * tiles.C * s.H * s.W, band, scratch->line[slot], values);
      const Work work{values, offset, packed + group * group_size(), scratch->products[slot],
                      scratch->line[slot]};
      multiply_band(work, band, o.epilogue.from(group * tiles.F), o.out + image * tiles.F * s.OH * s.OW);
    });
  }

  void describe(ConvExplanation& to) const {
    fill_in(to, {1, row_outs}, threads,
            {{"output rows", tiles.rows}, {"terms", tiles.terms}, {"filters", panels.rows(0)}});
    to.scratch_bytes = bytes_of<Memory>(*this);
  }

 private:
  struct Memory {
    const RowCorrelation& m;
    Layout& layout;
    Reserved<Index> offset{layout, m.tiles.terms};
    ThreadReserved<T> values{layout, m.threads, m.tiles.values()};
    ThreadReserved<T> products{layout, m.threads, m.tiles.tile.points * tile_size<T>};
    ThreadReserved<T> line{layout, m.threads, std::max(MR * row_outs * block, m.tiles.line())};
  };
  struct Work {
    const T* values;
    const Index* offset;
    const T* packed;
    T *products, *line;
  };

  Index group_size() const { return checked_product(tiles.F, tiles.terms * tiles.tile.points); }

  // [point][term][row] of the filters of a panel, which begin at w.
  void pack_panel(const T* w, Index rows, T* packed) const {
    const Index K = tiles.tile.taps, row_size = s.KW, filter_size = tiles.C * s.KH * s.KW;
    T taps[most_row_points * lanes], points[most_row_points * lanes];
    for (Index term = 0; term < tiles.terms; ++term) {
      const Index phase = term % s.stride_w;
      const T* row = w + term / s.stride_w * row_size;
      for (Index m = 0; m < rows; m += lanes) {
        const Index count = std::min(lanes, rows - m);
        for (Index j = 0; j < K; ++j)
          for (Index l = 0; l < lanes; ++l) {
            const Index tap = phase + j * s.stride_w;
            taps[j * lanes + l] = l < count && tap < s.KW ? row[(m + l) * filter_size + tap] : T(0);
          }
        tiles.tile.filters(taps, points);
        for (Index p = 0; p < tiles.tile.points; ++p)
          std::copy_n(points + p * lanes, count, packed + (p * tiles.terms + term) * rows + m);
      }
    }
  }

  void multiply_band(const Work& work, Index band, const Epilogue<T>& epilogue, T* out) const {
    const Index positions = tiles.band_positions(band);
    for (Index panel = 0; panel < panels.count; ++panel)
      for (Index at = 0; at < positions; at += block) {
        const Index f = panels.first(panel), rows = panels.rows(panel);
        T* to = out + f * s.OH * s.OW + band * tiles.rows * s.OW;
        multiply_points(work, at, panel, to + at / tiles.cols * s.OW + at % tiles.cols * row_outs);
        write(work, at, std::min(block, positions - at), rows, epilogue.from(f), to);
      }
  }

  // products[point][filter of the panel][tile] of the block of tiles at `at`.
  void multiply_points(const Work& work, Index at, Index panel, const T* out) const {
    const Index rows = panels.rows(panel), step = tiles.terms * rows;
    const auto kernel = tile_kernel<T>(rows);
    const T* weights = work.packed + panels.first(panel) * tiles.terms * tiles.tile.points;
    auto target = Target<T>::rows(work.products, tile_vectors);
    for (Index p = 0; p < tiles.tile.points; ++p, weights += step) {
      if (tiles.far_results) {
        const Range own = range_of(rows, p, tiles.tile.points);
        for (Index m = own.first; m < own.last; ++m) prefetch(out + m * s.OH * s.OW, block * row_outs);
      }
      const T* b[tile_vectors];
      for (int v = 0; v < tile_vectors; ++v) {
        b[v] = work.values + p * tiles.point_step() + at + v * lanes;
        target.to[v] = work.products + p * tile_size<T> + v * lanes;
      }
      kernel(tiles.terms, weights, rows, work.offset, b, target);
    }
  }

  // A' m of a block of tiles, `count` of which are in the band, to the planes of the filters. `out` is where
  // the band begins.
  void write(const Work& work, Index at, Index count, Index filters, const Epilogue<T>& epilogue,
             T* out) const {
    const Index plane = s.OH * s.OW;
    const auto outputs = [&](T* to, Index step) {
      tiles.tile.outputs(work.products, tile_size<T>, filters,
                         {to, step, epilogue.bias, epilogue.activation});
    };
    if (count == block && s.OW == row_outs * tiles.cols) return outputs(out + at * row_outs, plane);
    constexpr Index line = row_outs * block;
    outputs(work.line, line);
    for (Index t = 0, some; t < count; t += some) {  // of one row
      const Index row = (at + t) / tiles.cols, col = (at + t) % tiles.cols;
      some = std::min(tiles.cols - col, count - t);
      const Index pixels = std::min(row_outs * some, s.OW - row_outs * col);
      for (Index m = 0; m < filters; ++m)
        std::copy_n(work.line + m * line + t * row_outs, pixels,
                    out + m * plane + row * s.OW + row_outs * col);
    }
  }

  RowTiles<T> tiles;
  const ConvShape& s = tiles.s;
  ConvOperands<T> o;
  Panels panels;
  int threads;
};

}  // namespace cnnlib::CNNLIB_ISA
