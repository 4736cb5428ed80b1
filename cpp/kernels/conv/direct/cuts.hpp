// How the direct methods cut their sums and their packed weights: all that decides bits, or how weights lie
// that are kept. A cut follows from the shape and the instruction set alone. What may follow from the
// threads, the caches or the batch is the schedule, and stands in each method. kernels/cuts.cpp compiles
// this header where those of threads and of the machine are errors.
#pragma once

#include "kernels/conv/direct/position_tile.hpp"
#include "kernels/gemm/cuts.hpp"

namespace cnnlib::CNNLIB_ISA {

// Filters are the rows of a tile (MR), columns of staged rows its lanes (pixel_lanes.hpp).
template <class T>
struct PixelCut {
  // A block's columns, before the schedule makes them fewer, or more where channels are streamed.
  static constexpr Index columns = 512;
  bool in_place;  // tiles read x where it lies
  // A single panel of filters reads all channels once. Where those of an image are far, a chunk is so few of
  // them that the processor prefetches each one's row, and the rows are long.
  bool streamed;
  SumCut sum;
};
template <class T>
PixelCut<T> pixel_cut(const Correlation<T>& p, Staging& staging) {
  constexpr Index lanes = Simd<T>::size;
  const Index taps = p.taps();
  const bool in_place = p.OW >= lanes && reads_in_place(p);
  constexpr Index far_image_bytes = 3 << 20;
  const bool streamed = in_place && taps == 1 && Panels(p.F).count == 1 &&
                        p.C * p.x_plane * Index(sizeof(T)) >= far_image_bytes;
  // The sums of wide vectors take longer to load and store than few channels to multiply.
  constexpr Index streams = Simd<T>::bytes > 32 ? 32 : 16;
  if (streamed) return {in_place, streamed, SumCut::even(p.C, streams)};
  constexpr Index panel_size = 512 * MR,
                  most_of_row = 512 << 10;  // values of a packed panel; staged bytes
  Index channels = SumCut::even(p.C, panel_size / std::min<Index>(p.F, MR) / taps).size;
  staging.set_block(1, even_part(p.OW, PixelCut<T>::columns, lanes), 1, lanes, true);
  while (channels > 1 && double(channels) * staging.channel_size * sizeof(T) > most_of_row)
    channels = ceil_div(channels, 2);
  return {in_place, streamed, {p.C, channels}};
}

// The most positions of a tile where `total` columns are cut into blocks of `cols`: the last block has fewer
// columns, but may have wider tiles.
inline Index widest_tile(Index total, Index cols) {
  const Index last = total - (total - 1) / cols * cols;
  return std::max(Panels(cols).rows(0), Panels(last).rows(0));
}

// Output positions are the rows of a tile (MR), filters its lanes (filter_lanes.hpp).
template <class T>
struct FilterCut {
  static constexpr Index most_positions = 1024;  // of a block
  Index vectors;                                 // of filters
  Index kept_panel;                              // vectors of a panel of weights that are kept
  SumCut sum;

  // The vectors of a panel beside the tiles of blocks of so many columns.
  static Index panel_for(Index vectors, Index OW, Index cols) {
    return std::min(vectors, vectors_beside(widest_tile(OW, cols)));
  }
};
template <class T>
FilterCut<T> filter_cut(const Correlation<T>& p) {
  constexpr Index lanes = Simd<T>::size;
  // A panel of filters and a chunk of channels stays in the first-level cache for all tiles.
  const Index panel_bytes = p.taps() == 1 ? InstructionSet::pointwise_panel_bytes : 32 << 10;
  const Index vectors = ceil_div(p.F, lanes);
  const Index panel = FilterCut<T>::panel_for(vectors, p.OW, even_part(p.OW, FilterCut<T>::most_positions));
  const Index products = panel_bytes / (panel * lanes * Index(sizeof(T)));
  return {vectors, panel, SumCut::even(p.C, products / p.taps())};
}

// Filters are the rows of a tile (MR), packed positions its lanes (NR = NR; position_panels.hpp). A
// panel of positions takes half of a first level of 32 KB.
template <class T>
SumCut position_cut(const Correlation<T>& p) {
  constexpr Index panel_bytes = 16 << 10, most_channels = panel_bytes / (NR<T> * Index(sizeof(T)));
  return SumCut::even(p.C, most_channels);
}

}  // namespace cnnlib::CNNLIB_ISA
