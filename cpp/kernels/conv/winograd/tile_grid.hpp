// A convolution in tiles: its sizes and operands, and where tiles lie in its images.
#pragma once

#include "epilogue.hpp"
#include "kernels/conv/winograd/tile.hpp"
#include "shapes.hpp"

namespace cnnlib::CNNLIB_ISA {

// Output tiles of `height` x `width` in the order image, row, column. With dilation, rows that agree modulo
// the dilation are a convolution of their own, and so are columns: a tile takes every dilation-th one, and
// the tiles that interleave are neighbours.
struct TileGrid {
  Index N, OH, OW, height, width, dilation_h, dilation_w;
  Index rows = ceil_div(OH, height* dilation_h) * dilation_h;
  Index cols = ceil_div(OW, width* dilation_w) * dilation_w;
  Index per_image = rows * cols, count = N * per_image;

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
struct TileShape : ConvShape {
  Index origin_top = 0, origin_left = 0;

  explicit TileShape(const ConvShape& s) : ConvShape(s) {
    C /= groups;
    F /= groups;
  }
  Index taps() const { return KH * KW; }
  Index parts(const TileSizes& tile) const { return ceil_div(KH, tile.h.taps) * ceil_div(KW, tile.w.taps); }
  // Blocks of `lanes` channels, of all parts.
  Index channel_blocks(const TileSizes& tile, Index lanes) const { return parts(tile) * ceil_div(C, lanes); }
  ChannelBlock channel_block(const TileSizes& tile, Index lanes, Index q) const {
    const auto block = [&](Index c0, Index tap_h, Index tap_w) -> ChannelBlock {
      return {c0, tap_h, tap_w, std::min(tile.h.taps, KH - tap_h), std::min(tile.w.taps, KW - tap_w)};
    };
    const Index blocks = ceil_div(C, lanes);
    if (q < blocks) return block(q * lanes, 0, 0);  // small layers would notice the divisions
    const Index part = q / blocks, across = ceil_div(KW, tile.w.taps);
    return block(q % blocks * lanes, part / across * tile.h.taps, part % across * tile.w.taps);
  }
  // Those of the correlation of dout with the flipped filters, which is dx. At stride 2 tiles begin with a
  // row and column that `first_tap` reaches.
  TileShape transposed() const {
    TileShape t = *this;
    std::swap(t.C, t.F);
    std::swap(t.H, t.OH);
    std::swap(t.W, t.OW);
    const auto turn = [](Index K, Index stride, Index dilation, Index& pad, Index& origin) {
      pad = dilation * (K - 1) - pad;
      if (stride == 1) return;
      origin = -((pad + first_tap(K)) % 2);
      pad = (pad - first_tap(K) - origin) / 2;
    };
    turn(KH, stride_h, dilation_h, t.pad_top, t.origin_top);
    turn(KW, stride_w, dilation_w, t.pad_left, t.origin_left);
    return t;
  }
  TileGrid grid(const TileSizes& tile) const {
    return {N, OH - origin_top, OW - origin_left, tile.h.outs, tile.w.outs, dilation_h, dilation_w};
  }
};

// A correlation of a group: weight (f, c, tap) at w[f * w_filter + c * w_channel + tap], the taps backwards
// if flipped. Images begin x_image values apart, and those of the result out_image.
template <class T>
struct TileProblem : TileShape {
  const T* x;
  Index x_image;
  const T* w;
  const T* w_end;  // of all weights that may be read
  Index w_filter, w_channel;
  bool flipped;
  bool prepacked;  // weights are kept
  Epilogue<T> epilogue;
  T* out;
  Index out_image;
};

}  // namespace cnnlib::CNNLIB_ISA
