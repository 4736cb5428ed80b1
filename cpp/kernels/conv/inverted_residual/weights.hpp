// The packed weights of an inverted residual. A chunk is some vectors of hidden channels, whose share of
// all three convolutions lies together; a part is some chunks:
//
//   chunk     [expand][its bias][depthwise][project]
//   expand    [tile of the chunk's vectors][channel of x][vector of the tile][lane]
//   bias      [vector][lane]
//   depthwise [vector][tap, then bias][lane]
//   project   [tile of filters][vector][hidden lane][vector of the tile][lane]
//   the end   project's bias [vector of filters][lane]
//
// Lanes without a channel or filter are zero.
#pragma once

#include "kernels.hpp"
#include "kernels/conv/depthwise/channel_stencil.hpp"
#include "kernels/gemm/micro_kernel.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
class InvertedResidualWeights {
  static constexpr Index lanes = Simd<T>::size;

 public:
  // A chunk's sums over hidden channels are rounded at its end: long enough for that to cost little.
  static constexpr Index chunk_vectors = 4;

  explicit InvertedResidualWeights(const InvertedResidualShape& shape) : s(shape) {}

  // Planes of at most so many rows are summed in two parts of the hidden channels, so that two threads may
  // share an image: cut in bands of rows they would compute much of the hidden rows between these twice.
  static constexpr Index most_parted_rows = 16;

  Index part_of(Index chunk) const { return chunk / part_chunks; }
  Index chunk_of(Index vector) const {
    const Index part = vector / part_vectors;
    return part * part_chunks + vector % part_vectors / chunk_vectors;
  }
  Index first_chunk(Index part) const { return std::min(part * part_chunks, chunks); }
  bool starts_part(Index chunk) const { return chunk % part_chunks == 0; }
  Index first_vector(Index chunk) const {
    return std::min(part_of(chunk) * part_vectors + chunk % part_chunks * chunk_vectors, hidden);
  }
  Index vectors_of(Index chunk) const {
    const Index end = std::min((part_of(chunk) + 1) * part_vectors, hidden);
    return std::min(chunk_vectors, end - first_vector(chunk));
  }
  Index first_channel(Index chunk) const { return first_vector(chunk) * lanes; }
  Index size() const { return at(chunks) + filters * lanes; }
  // Where the parts of a chunk begin.
  Index at(Index chunk) const { return (chunk < chunks ? first_vector(chunk) : hidden) * vector_size(); }
  Index expand(Index chunk, Index vector) const { return at(chunk) + vector * s.C * lanes; }
  Index expand_bias(Index chunk, Index vector) const {
    return expand(chunk, vectors_of(chunk)) + vector * lanes;
  }
  Index depthwise(Index chunk, Index vector) const {
    return expand_bias(chunk, vectors_of(chunk)) + vector * (taps + 1) * lanes;
  }
  // Of the tile of filters that begins at vector `filter`.
  Index project(Index chunk, Index filter) const {
    return depthwise(chunk, vectors_of(chunk)) + filter * vectors_of(chunk) * lanes * lanes;
  }
  Index project_bias() const { return at(chunks); }

  void pack(const InvertedResidualLayers<T>& layers, T* packed) const {
    std::fill_n(packed, size(), T(0));
    for (Index chunk = 0; chunk < chunks; ++chunk) {
      pack_expand(layers.expand, chunk, packed);
      pack_depthwise(layers.depthwise, chunk, packed);
      pack_project(layers.project.w, chunk, packed);
    }
    if (const T* b = layers.project.epilogue.bias) std::copy_n(b, s.F, packed + project_bias());
  }

 private:
  Index vector_size() const { return (s.C + 1) * lanes + (taps + 1) * lanes + filters * lanes * lanes; }
  Index channels_of(Index chunk) const {
    return std::min(vectors_of(chunk) * lanes, s.depthwise.C - first_channel(chunk));
  }

  // to[k][v][lane] = w[filter (v, lane)][k] of a tile of `width` vectors of filters.
  void pack_tile(const T* w, Index filters_left, Index K, Index row, Index width, T* to) const {
    for (Index f = 0; f < std::min(width * lanes, filters_left); ++f)
      for (Index k = 0; k < K; ++k) to[k * width * lanes + f] = w[f * row + k];
  }

  void pack_expand(const typename InvertedResidualLayers<T>::Layer& layer, Index chunk, T* packed) const {
    const Index first = first_channel(chunk), count = channels_of(chunk);
    for (Index v = 0; v < vectors_of(chunk); v += tile_vectors)
      pack_tile(layer.w + (first + v * lanes) * s.C, count - v * lanes, s.C, s.C,
                std::min<Index>(tile_vectors, vectors_of(chunk) - v), packed + expand(chunk, v));
    if (layer.epilogue.bias != nullptr)
      std::copy_n(layer.epilogue.bias + first, count, packed + expand_bias(chunk, 0));
  }
  void pack_depthwise(const typename InvertedResidualLayers<T>::Layer& layer, Index chunk, T* packed) const {
    ChannelStencil<T> stencil(s.depthwise);
    stencil.list_x_taps(0);
    for (Index v = 0; v < vectors_of(chunk); ++v) {
      T* to = packed + depthwise(chunk, v);
      const Index group = first_vector(chunk) + v;
      stencil.gather_weights(layer.w, stencil.x_taps, group, to);
      stencil.gather_bias(layer.epilogue.bias, 1, group, to + taps * lanes);
    }
  }
  void pack_project(const T* w, Index chunk, T* packed) const {
    const Index first = first_channel(chunk), count = channels_of(chunk);
    for (Index f = 0; f < filters; f += tile_vectors)
      pack_tile(w + f * lanes * s.depthwise.C + first, s.F - f * lanes, count, s.depthwise.C,
                std::min<Index>(tile_vectors, filters - f), packed + project(chunk, f));
  }

  InvertedResidualShape s;

 public:
  Index taps = s.depthwise.KH * s.depthwise.KW;
  Index hidden = ceil_div(s.depthwise.C, lanes), filters = ceil_div(s.F, lanes);  // vectors
  Index parts = s.depthwise.H <= most_parted_rows && hidden >= 2 * chunk_vectors ? 2 : 1;
  Index part_vectors = round_up(ceil_div(hidden, parts), tile_vectors);
  Index part_chunks = ceil_div(part_vectors, chunk_vectors);
  Index chunks = (parts - 1) * part_chunks + ceil_div(hidden - (parts - 1) * part_vectors, chunk_vectors);
};

}  // namespace cnnlib::CNNLIB_ISA
