// Where tiles lie in the images.
#pragma once

#include "kernels/conv/winograd/tile.hpp"
#include "shapes.hpp"

namespace cnnlib::CNNLIB_ISA {

// Output tiles of `height` x `width` in the order image, row, column. With dilation, rows that agree modulo
// the dilation are a convolution of their own, and so are columns: a tile takes every dilation-th one, and
// the tiles that interleave are neighbours.
struct TileGrid {
  Index height, width, dilation_h, dilation_w;
  Index rows, cols, per_image, count;

  TileGrid(Index N, Index OH, Index OW, Index tile_height, Index tile_width, Index row_dilation,
           Index col_dilation)
      : height(tile_height),
        width(tile_width),
        dilation_h(row_dilation),
        dilation_w(col_dilation),
        rows(ceil_div(OH, height * dilation_h) * dilation_h),
        cols(ceil_div(OW, width * dilation_w) * dilation_w),
        per_image(rows * cols),
        count(N * per_image) {}

  // The first row and column of a tile, in the output or where tiles are `step` apart.
  Index top(Index row, Index step) const { return row / dilation_h * dilation_h * step + row % dilation_h; }
  Index left(Index col, Index step) const { return col / dilation_w * dilation_w * step + col % dilation_w; }
  Index top(Index row) const { return top(row, height); }
  Index left(Index col) const { return left(col, width); }

  // Calls run(image, row, first column, tiles, first tile - begin) for each run of tiles in one row.
  template <class Run>
  void each_run(Index begin, Index end, const Run& run) const {
    for (Index t = begin; t < end;) {
      const Index image = t / per_image, row = t % per_image / cols, col = t % cols;
      const Index tiles = std::min(end - t, cols - col);
      run(image, row, col, tiles, t - begin);
      t += tiles;
    }
  }

  // From the first column of a run of tiles to the last, where a tile takes `extent` and the next one begins
  // `step` farther on.
  Index run_width(Index col, Index tiles, Index step, Index extent) const {
    return left(col + tiles - 1, step) - left(col, step) + (extent - 1) * dilation_w + 1;
  }
  Index most_width(Index step, Index extent) const {
    return (cols / dilation_w * step + extent - step) * dilation_w;
  }
};

// Where the tiles of a run begin, counted from the first one: without the divisions of TileGrid::left.
class TileColumn {
 public:
  TileColumn(const TileGrid& grid, Index col, Index step)
      : neighbours_(grid.dilation_w), skip_((step - 1) * neighbours_), phase_(col % neighbours_) {}
  Index operator*() const { return at_; }
  TileColumn& operator++() {
    ++at_;
    if (++phase_ == neighbours_) {
      phase_ = 0;
      at_ += skip_;
    }
    return *this;
  }

 private:
  Index neighbours_, skip_, phase_, at_ = 0;
};

// A vector of channels from c0 on, for the part of the kernel with `rows` x `columns` taps from (tap_h,
// tap_w) on.
struct ChannelBlock {
  Index c0, tap_h, tap_w, rows, columns;
};

// The sizes of a convolution at stride 1 or 2, of one group. Tiles cover the output from origin_top and
// origin_left on, which may lie outside it.
//
// A kernel larger than the tile's is cut into parts, and the result is the sum of their correlations: as of
// so many times the channels, each part's of a shifted image. Taps that a last part lacks are zero.
struct TileShape {
  Index N, C, F, KH, KW, H, W, OH, OW, pad_top, pad_left, dilation_h, dilation_w;
  Index origin_top = 0, origin_left = 0;

  explicit TileShape(const ConvShape& s)
      : N(s.N),
        C(s.C / s.groups),
        F(s.F / s.groups),
        KH(s.KH),
        KW(s.KW),
        H(s.H),
        W(s.W),
        OH(s.OH),
        OW(s.OW),
        pad_top(s.pad_top),
        pad_left(s.pad_left),
        dilation_h(s.dilation_h),
        dilation_w(s.dilation_w) {}
  Index taps() const { return KH * KW; }
  Index parts(const TileSizes& tile) const { return ceil_div(KH, tile.KH) * ceil_div(KW, tile.KW); }
  // Blocks of `lanes` channels, of all parts.
  Index channel_blocks(const TileSizes& tile, Index lanes) const { return parts(tile) * ceil_div(C, lanes); }
  ChannelBlock channel_block(const TileSizes& tile, Index lanes, Index q) const {
    const auto block = [&](Index c0, Index tap_h, Index tap_w) -> ChannelBlock {
      return {c0, tap_h, tap_w, std::min(tile.KH, KH - tap_h), std::min(tile.KW, KW - tap_w)};
    };
    const Index blocks = ceil_div(C, lanes);
    if (q < blocks) return block(q * lanes, 0, 0);  // small layers would notice the divisions
    const Index part = q / blocks, across = ceil_div(KW, tile.KW);
    return block(q % blocks * lanes, part / across * tile.KH, part % across * tile.KW);
  }
  // Those of the correlation of dout with the flipped filters, which is dx.
  TileShape transposed() const {
    TileShape t = *this;
    std::swap(t.C, t.F);
    std::swap(t.H, t.OH);
    std::swap(t.W, t.OW);
    t.pad_top = dilation_h * (KH - 1) - pad_top;
    t.pad_left = dilation_w * (KW - 1) - pad_left;
    return t;
  }
  // The same at stride 2, where tiles begin with a row and column that `first_tap` reaches.
  TileShape transposed_strided() const {
    TileShape t = transposed();
    const auto begin = [](Index K, Index pad, Index& origin, Index& to) {
      const Index before = K - 1 - pad;
      origin = -((before + first_tap(K)) % 2);
      to = (before - first_tap(K) - origin) / 2;
    };
    begin(KH, pad_top, t.origin_top, t.pad_top);
    begin(KW, pad_left, t.origin_left, t.pad_left);
    return t;
  }
  TileGrid grid(const TileSizes& tile) const {
    return {N, OH - origin_top, OW - origin_left, tile.out_h, tile.out_w, dilation_h, dilation_w};
  }
};

}  // namespace cnnlib::CNNLIB_ISA
