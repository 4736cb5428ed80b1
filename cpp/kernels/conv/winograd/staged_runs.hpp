// What all passes by Winograd's method share: staging, and how many threads a call is worth.
#pragma once

#include "kernels/conv/winograd/tiles.hpp"
#include "threads/grid.hpp"

namespace cnnlib::CNNLIB_ISA {

// The staged rows of the tiles of one run after the other, for one block of channels. Of a run right below
// the last one the rows that both read are moved, not transposed again.
template <class T>
struct StagedRuns {
  static constexpr Index lanes = Simd<T>::size;
  const TileSizes& tile;
  const TileGrid& grid;
  const TileInput<T>& input;
  T* staged;
  ChannelBlock block;
  // Of the first tile's input, where the image begins.
  Index top = block.tap_h * grid.dilation_h - input.pad_top;
  Index left = block.tap_w * grid.dilation_w - input.pad_left;
  Index last_first = 0, last_tiles = 0;  // the first tile of the last run, and how many it has

  const T* stage(Index image, Index row, Index col, Index tiles) {
    const Index width = grid.run_width(col, tiles, tile.w.step, tile.w.ins);
    const Index first = (image * grid.rows + row) * grid.cols + col;
    const bool below =
        grid.dilation_h == 1 && row > 0 && first == last_first + grid.cols && tiles == last_tiles;
    const Index shared = tile.h.ins - tile.h.step, moved = below ? shared : 0;
    if (below) std::memmove(staged, staged + tile.h.step * width * lanes, shared * width * lanes * sizeof(T));
    const Index c0 = block.c0;
    stage_patch(input.x + image * input.x_image + c0 * input.H * input.W, input.C - c0, input.H, input.W,
                grid.top(row, tile.h.step) + top + moved, grid.dilation_h, grid.left(col, tile.w.step) + left,
                tile.h.ins - moved, width, input.x_end(), staged + moved * width * lanes);
    last_first = first;
    last_tiles = tiles;
    return staged;
  }
};

// Threads for the products of so many transformed values a channel, and for their transforms, which take some
// five operations each.
inline int tile_threads(Index values, Index channels, Index filters) {
  return threads_for(2.0 / 16 * double(values) * (double(channels) * filters + 5.0 * (channels + filters)));
}

}  // namespace cnnlib::CNNLIB_ISA
