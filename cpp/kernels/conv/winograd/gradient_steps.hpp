// The steps of the weights' gradient by Winograd's method (weight_gradient.hpp has the formula): transforms
// of tiles of x and of dout, their products at a point, and dw from the sums.
#pragma once

#include "kernels/conv/winograd/correlation.hpp"

namespace cnnlib::CNNLIB_ISA {

// dw of a correlation. Images of dout begin dout_image values apart.
template <class T>
struct TileGradient : TileInput<T> {
  const T* dout;
  Index dout_image;
  T* dw;
};

// Transformed tiles x and y, with room for so many.
template <class T>
struct TransformedTiles {
  Index room;
  T *x, *y;
  const Index* offset;  // of tiles of one vector, then of tiles of two where a next point is prefetched

  // The same from a tile on, of `filters` values of dout each.
  TransformedTiles from(Index tile, Index filters) const {
    return {room, x + tile * Simd<T>::size, y + tile * filters, offset};
  }
};

inline void fill_offsets(Index* offset, Index count, Index step) {
  for (Index i = 0; i < count; ++i) offset[i] = i * step;
}

// The sizes of a call and its steps.
template <class T>
struct GradientSizes {
  using S = Simd<T>;
  static constexpr Index lanes = S::size;
  const GradientTile<T>& tile;
  const TileGradient<T>& s;
  Index x_blocks = s.channel_blocks(tile, lanes);  // vectors with channels
  Index vectors = std::min<Index>(x_blocks, tile_vectors), width = vectors * lanes,
        panels = ceil_div(x_blocks, vectors);
  Index channels = panels * width;  // filled up to whole panels
  Index filter_blocks = ceil_div(s.F, lanes), filters = filter_blocks * lanes;
  TileGrid grid = s.grid(tile);
  int threads = tile_threads(grid.count * tile.points(), channels, s.F);
  Index staged_size = (tile.in_h * grid.most_width(tile.step_w, tile.in_w) + lanes) * lanes;
  Index sum_stride = channels * s.F + lanes;

  // Between points, a cache line more than needed: at a multiple of 4096 bytes the points of a tile would
  // meet in one set of the first-level cache.
  Index x_stride(Index room) const { return channels * room + lanes; }
  Index y_stride(Index room) const { return filters * room + lanes; }
  Index x_size(Index room) const { return checked_product(tile.points(), x_stride(room)); }
  Index y_size(Index room) const { return checked_product(tile.points(), y_stride(room)); }
  Index tile_bytes() const { return tile.points() * (channels + filters) * Index(sizeof(T)); }
  Index sum_size() const { return checked_product(tile.filters(), sum_stride); }
  // The tiles whose transforms fill a cache of so many bytes.
  Index tiles_in(Index bytes) const { return std::clamp<Index>(bytes / tile_bytes(), 32, 512); }

  // The filters of a block whose sums with a panel of channels take so many bytes, or fewer to keep many
  // threads busy.
  Index filters_of_block(Index sum_bytes) const {
    constexpr Index blocks = 16;
    const Index most = sum_bytes / (tile.filters() * width * Index(sizeof(T)));
    const Index wanted = s.F * panels / blocks;
    return even_part(s.F, std::max<Index>(std::min(most, wanted) / max_rows, 1) * max_rows);
  }

  // Transforms block q of the channels, or of the filters behind them, of tiles [begin, end).
  void transform(Index q, Index begin, Index end, T* staged, const TransformedTiles<T>& to) const {
    StagedRuns<T> runs(tile, grid, s, q, staged);
    grid.each_run(begin, end, [&](Index image, Index row, Index col, Index tiles, Index at) {
      if (q < x_blocks) {
        const T* rows = runs.stage(image, row, col, tiles);
        tile.transform_inputs(grid, col, tiles, rows, to.x + (q * to.room + at) * lanes, TilePlaces{lanes},
                              x_stride(to.room));
      } else {
        const Index f = (q - x_blocks) * lanes;
        stage_patch(s.dout + image * s.dout_image + f * s.OH * s.OW, s.F - f, s.OH, s.OW, grid.top(row),
                    s.dilation_h, grid.left(col), tile.out_h,
                    grid.run_width(col, tiles, tile.out_w, tile.out_w),
                    s.dout + (s.N - 1) * s.dout_image + s.F * s.OH * s.OW, staged);
        tile.transform_gradients(grid, col, tiles, staged, to.y + at * filters + f, TilePlaces{filters},
                                 y_stride(to.room));
      }
    });
  }

  // Adds the products of the first `count` tiles at one point, for one panel of channels and filters
  // [first, first + rows), to sums[f - first][c], or starts them. Where there is a `next` point, its values
  // are prefetched meanwhile.
  void multiply(const TransformedTiles<T>& tiles, Index count, Index point, Index panel, Index first,
                Index rows, bool add, T* sums, Index next = -1) const {
    const Index x_step = x_stride(tiles.room), y_step = y_stride(tiles.room);
    const T* source[tile_vectors];
    for (int v = 0; v < vectors; ++v)  // a last vector without channels repeats the one before
      source[v] = tiles.x + point * x_step + std::min(panel * vectors + v, x_blocks - 1) * lanes * tiles.room;
    // Many tiles are taken in parts, as many channels are in WinogradSizes::multiply.
    const Index tiles_of_sum = tile.interpolated > 7 ? 64 : 512;
    const Panels row_panels(rows);
    const bool prefetches = next >= 0 && vectors == tile_vectors && count <= tiles_of_sum;
    const Index* steps = tiles.offset + tiles.room;
    for (Index i = 0; i < row_panels.count; ++i) {
      const Index f = row_panels.first(i), height = row_panels.rows(i);
      auto target = Target<T>::rows(sums + f * width, vectors);
      target.add = add;
      const auto kernel = vectors == 1 ? packed_tile_kernel<T, 1>(height)
                          : prefetches ? tile_kernel<T, tile_vectors, Ahead::fetch>(height)
                                       : packed_tile_kernel<T>(height);
      if (prefetches && i == 0) {  // x, and for the other panels of filters y, in steps of two vectors
        target.fetch = {source[0] + (next - point) * x_step, steps, 1, nullptr};
      } else if (prefetches) {
        const Index share = std::max<Index>(count * filters / width / (row_panels.count - 1), 1);
        target.fetch = {tiles.y + next * y_step + (i - 1) * share * width, steps,
                        std::max<Index>(count / share, 1), nullptr};
      }
      for (Index t = 0; t < count; t += tiles_of_sum, target.add = true)
        kernel(std::min(tiles_of_sum, count - t), tiles.y + point * y_step + t * filters + first + f, filters,
               tiles.offset + t, source, target);
    }
  }

  // dw of filter f and block q of channels from its sums, `filter_step` apart, of parts `part_step` apart.
  void write(Index f, Index q, const T* sums, Index filter_step, Index parts, Index part_step) const {
    const ChannelBlock block = s.channel_block(tile, lanes, q);
    const TapPlaces places{block.rows, block.columns, s.KW, s.taps()};
    tile.write_taps(sums, filter_step, parts, part_step, std::min(lanes, s.C - block.c0), places,
                    s.dw + (f * s.C + block.c0) * s.taps() + block.tap_h * s.KW + block.tap_w);
  }
  // All of dw from the sums of `parts` parts.
  void finish(const T* sums, Index parts) const {
    parallel_for(s.F, threads, [&](Index f, int) {
      for (Index q = 0; q < x_blocks; ++q)
        write(f, q, sums + (q / vectors * s.F + f) * width + q % vectors * lanes, sum_stride, parts,
              sum_size());
    });
  }
};

}  // namespace cnnlib::CNNLIB_ISA
