// How Winograd's methods cut their sums, over channels or over tiles, and the panels of weights that are
// kept. A cut follows from the shape, the tile and the instruction set alone. kernels/cuts.cpp compiles this
// header where those of threads and of the machine are errors.
#pragma once

#include "kernels/conv/winograd/tile_grid.hpp"
#include "kernels/gemm/micro_kernel.hpp"
#include "kernels/scratch_layout.hpp"

namespace cnnlib::CNNLIB_ISA {

// A correlation sums over blocks of a vector's channels at each point. Many of them are summed in parts,
// which keeps their rounding errors apart: fewer where a tile rounds more.
struct PointCut {
  Index kept_vectors;    // of a panel of filters that are kept
  Index channel_blocks;  // of all parts of the kernel
  Index blocks_of_sum;
};
template <class T>
PointCut point_cut(const TileShape& s, const TileSizes& tile) {
  constexpr Index lanes = Simd<T>::size;
  const Index channels_of_sum = tile.interpolated() > 6 ? 32 : 128;
  return {s.F <= lanes ? 1 : tile_vectors, s.channel_blocks(tile, lanes), channels_of_sum / lanes};
}

// A panel of `vectors` of filters, transformed: [filter point][c][filter of the panel].
template <class T>
struct FilterPanel {
  Index width, stride, size;  // filters; values between two filter points; and of a panel

  FilterPanel(const TileSizes& tile, Index vectors, Index channel_blocks)
      : width(vectors * Simd<T>::size),
        stride(channel_blocks * Simd<T>::size * width + Simd<T>::size),
        size(tile.filters() * stride) {}
};
// The values of all filters that are kept.
template <class T>
double kept_filters(const TileShape& s, const TileSizes& tile) {
  const PointCut cut = point_cut<T>(s, tile);
  const FilterPanel<T> panel(tile, cut.kept_vectors, cut.channel_blocks);
  return double(s.groups) * double(ceil_div(s.F, panel.width)) * double(panel.size);
}

// dw sums over tiles, in one of three orders: a point after the other, of all tiles; a part of the tiles
// after the other; or a panel of channels after the other.
enum class TileOrder { points, parts, channels };

// The sums of dw: for each filter of a point, panels of channels times filters.
template <class T>
struct TileSums {
  static constexpr Index lanes = Simd<T>::size;
  Index F, channel_blocks;  // vectors of channels
  Index vectors = std::min<Index>(channel_blocks, tile_vectors), width = vectors * lanes;  // of a panel
  Index panels = ceil_div(channel_blocks, vectors), channels = panels * width;  // filled up to whole panels
  Index filter_blocks = ceil_div(F, lanes), filters = filter_blocks * lanes;
  Index stride = channels * F + lanes;  // between the sums of two filter points
  Index size;                           // of all filter points
  Index filter_points;

  TileSums(const TileShape& s, const TileSizes& tile)
      : F(s.F),
        channel_blocks(s.channel_blocks(tile, lanes)),
        size(checked_product(tile.filters(), stride)),
        filter_points(tile.filters()) {}

  Index at(Index filter, Index panel, Index f) const { return filter * stride + (panel * F + f) * width; }
  // The filters of a block whose sums with a panel of channels take so many bytes, or fewer to keep many
  // threads busy.
  Index filters_of_block(Index bytes) const {
    constexpr Index blocks = 16;
    const Index most = bytes / (filter_points * width * Index(sizeof(T))), wanted = F * panels / blocks;
    return even_part(F, std::max<Index>(std::min(most, wanted) / MR, 1) * MR);
  }
};

struct TileCut {
  TileOrder order;
  Index parts;         // of the rows of tiles, whose sums are added in order
  Index room;          // tiles that are transformed and multiplied at a time
  Index tiles_of_sum;  // that are summed before they are added to the others
};
template <class T>
TileCut tile_cut(const TileShape& s, const TileSizes& tile, const TileSums<T>& sums) {
  constexpr Index fewest_parts = 4, most_parts = 16, most_sum_bytes = 640 << 10, fewest_blocks = 8,
                  few_tiles = 96, block_bytes = 512 << 10;
  constexpr Index chunk_of_points = 8 << 20, chunk_of_part = 1 << 20;  // bytes of transformed tiles
  const TileGrid grid = s.grid(tile);
  const Index rows = grid.count / grid.cols, sum_bytes = sums.size * Index(sizeof(T));
  const auto tiles_in = [&](Index bytes) {
    return std::clamp<Index>(bytes / (tile.points() * (sums.channels + sums.filters) * Index(sizeof(T))), 32,
                             512);
  };
  // Many tiles are taken in parts, as many channels are in a correlation.
  TileCut cut{TileOrder::points, 1, even_part(grid.count, tiles_in(chunk_of_points)),
              tile.interpolated() > 7 ? 64 : 512};
  const Index tiles_of_part =
      32 + sum_bytes / 2560;  // which take several times as long as adding up their sums
  // A power of two: the usual numbers of threads share it evenly, and need not split parts.
  Index wanted = fewest_parts;
  while (2 * wanted <= std::min(most_parts, rows) && wanted * tiles_of_part <= grid.count) wanted *= 2;
  if (grid.count >= tiles_of_part && rows >= wanted && sum_bytes <= most_sum_bytes) {
    // Chunks of whole rows, where they fit.
    const Index most = tiles_in(chunk_of_part);
    cut.order = TileOrder::parts;
    cut.parts = wanted;
    cut.room = grid.cols <= most ? even_part(ceil_div(rows, wanted), most / grid.cols) * grid.cols : most;
  } else if (grid.count < few_tiles &&
             sums.panels * ceil_div(s.F, sums.filters_of_block(block_bytes)) >= fewest_blocks) {
    cut.order = TileOrder::channels;
    cut.room = grid.count;
  }
  return cut;
}

}  // namespace cnnlib::CNNLIB_ISA
