// What a block of output positions reads, laid out for tiles of consecutive positions.
#pragma once

#include "kernels/conv/direct/correlation.hpp"

namespace cnnlib::CNNLIB_ISA {

// The most positions of a tile where `total` columns are cut into blocks of `cols`: the last block has fewer
// columns, but may have wider tiles.
inline Index widest_tile(Index total, Index cols) {
  const Index last = total - (total - 1) / cols * cols;
  return std::max(Panels(cols).rows(0), Panels(last).rows(0));
}

// The input of a block as tiles read it: where it lies if that can be; else, with several taps, the staging
// planes, whose neighbouring positions share them; else panels[tile][channel][position], which are read in
// one run.
template <class T>
class BlockInput {
  static constexpr Index lanes = Simd<T>::size;

 public:
  BlockInput(const Correlation<T>& correlation, const Staging& planes)
      : p(correlation),
        staging(planes),
        single(p.taps() == 1),
        in_place(reads_in_place(p)),
        pitch(widest_tile(p.OW, staging.cols)),
        panel_size(p.C * pitch + lanes) {}

  Index widest() const { return pitch; }  // tile, in positions
  Index size() const {
    if (in_place) return 0;
    return single ? staging.rows * Panels(staging.cols).count * panel_size : p.C * staging.channel_size;
  }
  Index offset(Index c, Index a, Index k) const {
    if (in_place) return c * p.x_plane;
    return single ? c * pitch : c * staging.channel_size + staging.tap_offset(a, k);
  }
  // Whether tiles prefetch what the next ones read: rows of channels too far apart for a processor to guess.
  bool scattered() const { return in_place && p.x_plane * Index(sizeof(T)) >= 512; }
  // Where tile number `tile`, which begins at (row, col) of the block, reads channels from c0 on; `block` is
  // what stage() returned.
  const T* at(const T* block, Index tile, Index row, Index col, Index c0) const {
    if (in_place) return block + c0 * p.x_plane + row * p.x_row + col;
    return single ? block + tile * panel_size + c0 * pitch
                  : block + c0 * staging.channel_size + row * staging.pitch + col;
  }

  // Where the block at (oh, ow) of an image x, of one group, lies: in `staged`, if it had to be copied.
  const T* stage(const T* x, Index oh, Index ow, Index rows, const Panels& columns, T* staged) const {
    if (in_place) return x + (oh + p.rows.at[0]) * p.x_row + ow + p.cols.at[0];
    if (single)
      stage_panels(x, oh, ow, rows, columns, staged);
    else
      stage_planes(x, oh, ow, staged);
    return staged;
  }

 private:
  using S = Simd<T>;

  void stage_planes(const T* x, Index oh, Index ow, T* staged) const {
    const Index top = std::max<Index>(oh * p.rows.stride + staging.y.lowest, 0);
    const Index bottom = std::min(top + staging.height * p.rows.stride, p.H);
    for (Index c = 0; c < p.C; ++c) {
      const T* plane = x + c * p.x_plane;
      if (c + 1 < p.C) prefetch(plane + p.x_plane + top * p.x_row, (bottom - top) * p.x_row);
      stage_plane(plane, p.H, p.W, p.x_row, staging, oh, ow, staged + c * staging.channel_size);
    }
  }

  void stage_panels(const T* x, Index oh, Index ow, Index rows, const Panels& columns, T* staged) const {
    const Index start = ow * p.cols.stride + p.cols.at[0];
    const Index vectors = ceil_div(pitch, lanes), reach = vectors * lanes * p.cols.stride;
    Index whole = 0;  // tiles that can be read in whole vectors
    if (p.cols.stride <= 2 && start >= 0)
      while (whole < columns.count && start + columns.first(whole) * p.cols.stride + reach <= p.W) ++whole;
    for (Index c = 0; c < p.C; ++c)
      for (Index i = 0; i < rows; ++i) {
        const Index line = (oh + i) * p.rows.stride + p.rows.at[0];
        const T* row = line >= 0 && line < p.H ? x + c * p.x_plane + line * p.x_row : nullptr;
        T* to = staged + i * columns.count * panel_size + c * pitch;
        const Index fast = row != nullptr ? whole : 0;
        if (p.cols.stride == 1)
          copy_tiles(columns, fast, vectors, [&](Index j) { return S::load(row + start + j); }, to);
        else
          copy_tiles(
              columns, fast, vectors,
              [&](Index j) {
                typename S::Packet even, odd;
                S::load_pairs(row + start + 2 * j, even, odd);
                return even;
              },
              to);
        for (Index s = fast; s < columns.count; ++s)
          for (Index j = 0; j < columns.rows(s); ++j) {
            const Index column = start + (columns.first(s) + j) * p.cols.stride;
            to[s * panel_size + j] = row != nullptr && column >= 0 && column < p.W ? row[column] : T(0);
          }
      }
  }

  // Whole vectors are written: what follows belongs to the next channel, which comes later, or to nobody.
  template <class Load>
  void copy_tiles(const Panels& columns, Index count, Index vectors, const Load& load, T* to) const {
    for (Index s = 0; s < count; ++s, to += panel_size)
      for (Index v = 0; v < vectors; ++v) S::store(to + v * lanes, load(columns.first(s) + v * lanes));
  }

  const Correlation<T>& p;
  const Staging& staging;
  bool single, in_place;
  Index pitch, panel_size;
};

}  // namespace cnnlib::CNNLIB_ISA
