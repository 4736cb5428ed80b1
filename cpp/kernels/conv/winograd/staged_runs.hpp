// What all passes by Winograd's method share: staging, and how many threads a call is worth.
#pragma once

#include "kernels/conv/winograd/tile_grid.hpp"
#include "kernels/simd/transpose.hpp"
#include "threads/grid.hpp"

namespace cnnlib::CNNLIB_ISA {

// Copies `height` rows from `top` on, `step` apart, of columns [left, left + width) of up to `lanes` planes
// to [position][lane], zero outside the image; lanes without a channel repeat one. `end` is the end of all
// images, and staged has room for another vector of positions.
template <class T>
void stage_patch(const T* planes, Index channels, Index H, Index W, Index top, Index step, Index left,
                 Index height, Index width, const T* end, T* staged) {
  constexpr Index lanes = Simd<T>::size;
  const Index first = std::clamp<Index>(-left, 0, width), last = std::clamp<Index>(W - left, first, width);
  for (Index i = 0; i < height; ++i) {
    T* to = staged + i * width * lanes;
    const Index line = top + i * step;
    if (line < 0 || line >= H) {
      std::memset(to, 0, width * lanes * sizeof(T));
      continue;
    }
    std::memset(to, 0, first * lanes * sizeof(T));
    if (last > first)
      transpose_freely(planes + line * W + left + first, H * W, std::min(channels, lanes), last - first, end,
                       to + first * lanes, lanes);
    if (step == 1 && line + height < H)  // rows of the tiles below
      for (Index c = 0; c < std::min(channels, lanes); ++c)
        prefetch(planes + c * H * W + (line + height) * W + left + first, last - first);
    std::memset(to + last * lanes, 0, (width - last) * lanes * sizeof(T));
  }
}

// The staged rows of the tiles of one run after the other, for one block of channels. Of a run right below
// the last one the rows that both read are moved, not transposed again.
template <class T>
struct StagedRuns {
  static constexpr Index lanes = Simd<T>::size;
  const TileSizes& tile;
  const TileGrid& grid;
  const TileShape& s;
  const T* x;  // images, x_image values apart
  Index x_image;
  T* staged;
  ChannelBlock block;
  // Of the first tile's input, where the image begins.
  Index top = block.tap_h * grid.dilation_h - s.pad_top;
  Index left = block.tap_w * grid.dilation_w - s.pad_left;
  Index last_first = 0, last_tiles = 0;  // the first tile of the last run, and how many it has

  const T* stage(Index image, Index row, Index col, Index tiles) {
    const Index width = grid.run_width(col, tiles, tile.w.step, tile.w.ins);
    const Index first = (image * grid.rows + row) * grid.cols + col;
    const bool below =
        grid.dilation_h == 1 && row > 0 && first == last_first + grid.cols && tiles == last_tiles;
    const Index shared = tile.h.ins - tile.h.step, moved = below ? shared : 0;
    if (below) std::memmove(staged, staged + tile.h.step * width * lanes, shared * width * lanes * sizeof(T));
    const Index c0 = block.c0;
    const T* end = x + (s.N - 1) * x_image + s.C * s.H * s.W;
    stage_patch(x + image * x_image + c0 * s.H * s.W, s.C - c0, s.H, s.W,
                grid.top(row, tile.h.step) + top + moved, grid.dilation_h, grid.left(col, tile.w.step) + left,
                tile.h.ins - moved, width, end, staged + moved * width * lanes);
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
