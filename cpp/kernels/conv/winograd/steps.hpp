// The steps of a correlation by Winograd's method: transforms of the input, products, transforms of the
// outputs.
#pragma once

#include "kernels/conv/winograd/point_products.hpp"
#include "kernels/conv/winograd/tiles.hpp"
#include "threads/grid.hpp"

namespace cnnlib::CNNLIB_ISA {

// The staged rows of the tiles of one run after the other, for one block of channels. Of a run right below
// the last one the rows that both read are moved, not transposed again.
template <class T>
class StagedRuns {
  static constexpr Index lanes = Simd<T>::size;

 public:
  StagedRuns(const TileSizes& sizes, const TileGrid& tiles, const TileInput<T>& images, Index q, T* memory)
      : tile(sizes),
        grid(tiles),
        input(images),
        block(images.channel_block(sizes, lanes, q)),
        top(block.tap_h * tiles.dilation_h - images.pad_top),
        left(block.tap_w * tiles.dilation_w - images.pad_left),
        staged(memory) {}

  const T* stage(Index image, Index row, Index col, Index tiles) {
    const Index width = grid.run_width(col, tiles, tile.step_w, tile.in_w);
    const bool below = grid.dilation_h == 1 && image == last_image && row == last_row + 1 &&
                       col == last_col && tiles == last_tiles;
    const Index shared = tile.in_h - tile.step_h, moved = below ? shared : 0;
    if (below) std::memmove(staged, staged + tile.step_h * width * lanes, shared * width * lanes * sizeof(T));
    const Index c0 = block.c0;
    stage_patch(input.x + image * input.x_image + c0 * input.H * input.W, input.C - c0, input.H, input.W,
                grid.top(row, tile.step_h) + top + moved, grid.dilation_h, grid.left(col, tile.step_w) + left,
                tile.in_h - moved, width, input.x_end(), staged + moved * width * lanes);
    last_image = image;
    last_row = row;
    last_col = col;
    last_tiles = tiles;
    return staged;
  }

 private:
  const TileSizes& tile;
  const TileGrid& grid;
  const TileInput<T>& input;
  ChannelBlock block;
  Index top, left;  // of the first tile's input, where the image begins
  T* staged;
  Index last_image = -1, last_row = 0, last_col = 0, last_tiles = 0;
};

// Threads for the products of so many transformed values a channel, and for their transforms, which take some
// five operations each.
inline int tile_threads(Index values, Index channels, Index filters) {
  return threads_for(2.0 / 16 * double(values) * (double(channels) * filters + 5.0 * (channels + filters)));
}

// Whether the input's transform is smaller than the filters'.
template <class T>
bool few_tiles(const CorrelationTile<T>& tile, const TileProblem<T>& p) {
  return tile.points() * p.grid(tile).count <= tile.filters() * p.F;
}

// Vectors of a panel of filters: a single one where there are few filters, or where threads that take panels
// of few tiles would have none. Of filters that are kept it follows from their number alone.
template <class T>
Index panel_vectors(const CorrelationTile<T>& tile, const TileProblem<T>& p) {
  constexpr Index lanes = Simd<T>::size;
  constexpr double gain = 1.4;  // the products of single vectors take up to twice as long
  if (p.F <= lanes) return 1;
  const Index panels = ceil_div(p.F, tile_vectors * lanes);
  if (p.prepacked || !few_tiles(tile, p)) return tile_vectors;
  const int threads = tile_threads(p.grid(tile).count * tile.points(), p.C, p.F);
  return splits_for(panels, tile_vectors, threads, gain) > 1 ? 1 : tile_vectors;
}

// The sizes of a correlation, and its steps.
template <class T>
struct WinogradSizes {
  static constexpr Index lanes = Simd<T>::size;
  const CorrelationTile<T>& tile;
  const TileProblem<T>& p;
  Index vectors = panel_vectors(tile, p), width = vectors * lanes;  // of a panel of filters
  Index channel_blocks = p.channel_blocks(tile, lanes),
        channels = channel_blocks * lanes;  // filled up to whole vectors
  Index panels = ceil_div(p.F, width);
  Index filter_stride = channels * width + lanes;  // between a panel's filters of different points
  TileGrid grid = p.grid(tile);
  int threads = tile_threads(grid.count * tile.points(), channels, panels* width);
  Index staged_size = (tile.in_h * grid.most_width(tile.step_w, tile.in_w) + lanes) * lanes;

  // Between points, a cache line more than needed: at a multiple of 4096 bytes the points of a tile would
  // meet in one set of the first-level cache.
  Index value_stride(Index tiles) const { return channels * tiles + lanes; }
  Index product_stride(Index tiles) const { return width * tiles + lanes; }

  // values[point][panel of tiles][c block][tile][c] of tiles [begin, end) for one block of channels, with
  // room for `room` tiles. Blocks of `block` tiles are cut into panels, so that a product reads a panel in
  // one run. Tiles [first, last) alone are transformed. `places` is scratch.
  void transform(Index begin, Index end, Index block, Index q, Index first, Index last, T* staged, T* values,
                 Index room, Index* places) const {
    for (Index i = begin + (first - begin) / block * block; i < last; i += block) {
      const Panels tile_panels(std::min(block, end - i));
      for (Index panel = 0; panel < tile_panels.count; ++panel)
        for (Index t = 0; t < tile_panels.rows(panel); ++t)
          if (const Index at = i + tile_panels.first(panel) + t; at >= first && at < last)
            places[at - first] =
                (i - begin + tile_panels.first(panel)) * channels + (q * tile_panels.rows(panel) + t) * lanes;
    }
    StagedRuns<T> runs(tile, grid, p, q, staged);
    grid.each_run(first, last, [&](Index image, Index row, Index col, Index tiles, Index at) {
      const T* rows = runs.stage(image, row, col, tiles);
      tile.transform_inputs(grid, col, tiles, rows, values, TilePlaces{0, places + at}, value_stride(room));
    });
  }

  // Sums over many channels are taken in parts of so many blocks, which keeps their rounding errors apart.
  Index channel_blocks_of_sum() const { return (tile.interpolated > 6 ? 32 : 128) / lanes; }

  Range all_points() const { return {0, tile.points()}; }

  // Multiplies a block of tiles [begin, end) with one panel of filters at some points, in the order of
  // their filters, or adds the products of channel blocks [first, last) to those before. `values`, with room
  // for `room` tiles, begin with tile `begin`, `products` is [point][tile][filter] for `most` tiles;
  // `filters` begin with block `first`, `stride` from one point to the next.
  void multiply(Index begin, Index end, Index first, Index last, Range points, const T* values, Index room,
                const T* filters, Index stride, T* products, Index most) const {
    const Panels tile_panels(end - begin);
    const Index part = channel_blocks_of_sum();
    const auto at = [&](Index point, Index panel, Index q) {
      return values + point * value_stride(room) + tile_panels.first(panel) * channels +
             q * tile_panels.rows(panel) * lanes;
    };
    // Where several panels of tiles share the filters of a part, the first ones prefetch the next part's, a
    // line for every channel. With one panel the prefetch would arrive too late.
    const Index lines =
        tile_panels.count > 1 ? ceil_div(width, line_values<T>) : 0;  // of a channel's filters
    Index number = 0;
    tile.each_point([&](Index point, Index filter, bool) {
      if (const Index k = number++; k < points.first || k >= points.last) return;
      for (Index q = first; q < last; q += part) {
        const Index blocks = std::min(part, last - q);
        const T* own = filters + filter * stride + (q - first) * lanes * width;
        for (Index i = 0; i < tile_panels.count; ++i) {
          const T* a = at(point, i, q);
          const T* next = i + 1 < tile_panels.count ? at(point, i + 1, q)
                          : q + part < last         ? at(point, 0, q + part)
                                                    : at(point + 1, 0, first);
          const T* later = i < lines ? own + blocks * lanes * (width + i * line_values<T>) : a;
          const Index rows = tile_panels.rows(i);
          const auto kernel = vectors == 1 ? point_kernel<T, 1>(rows) : point_kernel<T, tile_vectors>(rows);
          kernel(blocks, a, own, products + point * product_stride(most) + tile_panels.first(i) * width,
                 q > 0, next, later);
        }
      }
    });
  }
  // Writes the outputs of tiles [begin, end) and one panel of filters.
  void write(Index begin, Index end, Index panel, const T* products, Index most) const {
    for (Index v = 0; v < vectors && panel * width + v * lanes < p.F; ++v)
      grid.each_run(begin, end, [&](Index image, Index row, Index col, Index tiles, Index at) {
        tile.write_outputs(p, grid, products + at * width + v * lanes, width, product_stride(most), tiles,
                           image, row, col, panel * width + v * lanes);
      });
  }
};

}  // namespace cnnlib::CNNLIB_ISA
