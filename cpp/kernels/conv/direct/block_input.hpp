// What a block of output positions reads, laid out for tiles of consecutive positions.
#pragma once

#include "kernels/conv/direct/correlation.hpp"

namespace cnnlib::CNNLIB_ISA {

// Channels from x on to the staging planes of the block at (oh, ow). The next channel is fetched meanwhile,
// as its rows are too short for a processor to guess.
template <class T>
void stage_block(const Correlation<T>& p, const Staging& staging, const T* x, Index channels, Index oh,
                 Index ow, T* staged) {
  const Index top = std::max<Index>(oh * p.rows.stride + staging.y.lowest, 0);
  const Index bottom = std::min(top + staging.height * p.rows.stride, p.H);
  const bool in_one_run = p.x_row == p.W;  // not the rows of a batch that is one image
  for (Index c = 0; c < channels; ++c, x += p.x_plane) {
    if (in_one_run && c + 1 < channels) prefetch(x + p.x_plane + top * p.x_row, (bottom - top) * p.x_row);
    stage_plane(x, p.H, p.W, p.x_row, staging, oh, ow, staged + c * staging.channel_size);
  }
}

// The input of a block as tiles read it: where it lies if that can be; else the staging planes, which
// neighbouring positions share.
template <class T>
class BlockInput {
 public:
  BlockInput(const Correlation<T>& correlation, const Staging& planes)
      : p(correlation), staging(planes), in_place(reads_in_place(p)) {}

  Index size() const { return in_place ? 0 : p.C * staging.channel_size; }
  Index offset(Index c, Index a, Index k) const {
    return in_place ? c * p.x_plane : c * staging.channel_size + staging.tap_offset(a, k);
  }
  // Whether tiles prefetch what the next ones read: rows of channels too far apart for a processor to guess.
  bool scattered() const { return in_place && p.x_plane * Index(sizeof(T)) >= 512; }
  // Where the tile that begins at (row, col) of the block reads channels from c0 on; `block` is what stage()
  // returned.
  const T* at(const T* block, Index row, Index col, Index c0) const {
    return block + c0 * (in_place ? p.x_plane : staging.channel_size) +
           row * (in_place ? p.x_row : staging.pitch) + col;
  }

  // Where the block at (oh, ow) of an image x, of one group, lies: in `staged`, if it had to be copied.
  const T* stage(const T* x, Index oh, Index ow, T* staged) const {
    if (in_place) return x + (oh + p.rows.at[0]) * p.x_row + ow + p.cols.at[0];
    stage_block(p, staging, x, p.C, oh, ow, staged);
    return staged;
  }

 private:
  const Correlation<T>& p;
  const Staging& staging;
  bool in_place;
};

}  // namespace cnnlib::CNNLIB_ISA
