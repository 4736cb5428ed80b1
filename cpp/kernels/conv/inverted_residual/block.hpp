// The pass over an inverted residual. A task is a band of output rows of an image. For each chunk of
// hidden channels, whose vector lanes are channels:
//
//   hidden  [vector][row of the band and its halo][column][lane]    1x1 of x
//   middle  [vector][output of the band][lane]                      the stencil of hidden
//   sums    [output of the band][filter]                            += middle * project
#pragma once

#include "kernels/conv/inverted_residual/weights.hpp"
#include "kernels/conv/prefetch_ahead.hpp"
#include "kernels/gemm/broadcast_tile.hpp"
#include "machine.hpp"
#include "parallel.hpp"

namespace cnnlib::CNNLIB_ISA {

// tile[m][v] (+)= sum over `vectors` vectors and their lanes c of x[m][c] * w[c][v]: m < R outputs whose
// vectors lie side by side, the vectors `block` values apart; rows of the tile `step` values apart.
template <class T, int R, int V>
void project_tile(Index vectors, const T* x, Index block, const T* w, T* tile, Index step, bool add) {
  using Tile = BroadcastTile<T, R, V>;
  constexpr Index lanes = Simd<T>::size;
  Tile sums;
  for (Index b = 0; b < vectors; ++b, x += block)
    for (Index c = 0; c < lanes; c += Tile::columns, w += Tile::columns * V * lanes)
      sums.add_columns(x + c, lanes, w);
  sums.store(tile, step, add);
}

template <class T>
using ProjectKernel = void (*)(Index vectors, const T* x, Index block, const T* w, T* tile, Index step,
                               bool add);
template <class T, int V, int... R>
constexpr std::array<ProjectKernel<T>, sizeof...(R)> project_kernels(std::integer_sequence<int, R...>) {
  return {&project_tile<T, R + 1, V>...};
}
template <class T, int V>
ProjectKernel<T> project_kernel(Index rows) {
  static constexpr auto table = project_kernels<T, V>(std::make_integer_sequence<int, max_rows>());
  return table[rows - 1];
}

template <class T>
class InvertedResidualPass {
  using S = Simd<T>;
  using L = ChannelLanes<T>;
  static constexpr Index lanes = S::size;

 public:
  InvertedResidualPass(const InvertedResidualShape& shape, const InvertedResidualLayers<T>& all_layers)
      : s(shape), d(shape.depthwise), layers(all_layers) {
    stencil.list_x_taps(staged.pitch, staged.phase_size);
  }

  void run(const T* packed, const T* x, const T* other, T* out) {
    Layout layout;
    const auto offsets = layout.array<Index>(tile_vectors * s.C);
    const auto hidden = layout.per_thread<T>(threads, W::chunk_vectors * staged.size());
    const auto middle = layout.per_thread<T>(threads, W::chunk_vectors * band_rows * d.OW * lanes);
    const auto sums = layout.per_thread<T>(threads, band_rows * d.OW * weights.filters * lanes);
    const auto tile = layout.per_thread<T>(threads, tile_size<T>);
    const Scratch scratch(layout.bytes());
    Index* offset = offsets.in(scratch.data());
    for (Index v = 1; v <= tile_vectors; ++v)
      for (Index c = 0; c < s.C; ++c) offset[(v - 1) * s.C + c] = c * v * lanes;
    for (int slot = 0; slot < threads; ++slot)  // the halo stays zero
      std::fill_n(hidden.of(scratch.data(), slot), W::chunk_vectors * staged.size(), T(0));
    parallel_for(s.N * bands, threads, [&](Index task, int slot) {
      Work work{packed,
                offset,
                hidden.of(scratch.data(), slot),
                middle.of(scratch.data(), slot),
                sums.of(scratch.data(), slot),
                tile.of(scratch.data(), slot)};
      const Index n = task / bands, oh = task % bands * band_rows, rows = std::min(band_rows, d.OH - oh);
      for (Index chunk = 0; chunk < weights.chunks; ++chunk) {
        work.ahead = weights_after(packed, chunk, rows);
        work.part = 0;
        expand(work, x + n * s.C * d.H * d.W, chunk, oh, rows);
        filter(work, chunk, rows);
        project(work, chunk, rows * d.OW);
      }
      const Index plane = d.OH * d.OW, at = n * s.F * plane + oh * d.OW;
      finish(work, rows * d.OW, other != nullptr ? other + at : nullptr, out + at);
    });
  }

 private:
  using W = InvertedResidualWeights<T>;
  // A thread's scratch.
  struct Work {
    const T* packed;
    const Index* offset;
    T *hidden, *middle, *sums, *tile;
    PrefetchAhead ahead{};  // the next chunk's weights, a part with each tile
    Index part = 0;
  };

  static Rectifier<T> activation(const typename InvertedResidualLayers<T>::Layer& layer) {
    return {layer.epilogue.relu, layer.epilogue.most};
  }
  T* staged_vector(const Work& work, Index v) const {
    return work.hidden + v * staged.size() + staged.margin;
  }

  // The rows of the hidden image that `rows` outputs from oh on read, zero outside of it.
  void expand(Work& work, const T* x, Index chunk, Index oh, Index rows) const {
    const Index first = oh * d.stride_h - d.pad_top, count = stencil.x_rows(rows);
    const Index above = std::clamp<Index>(-first, 0, count), below = std::clamp(d.H - first, above, count);
    for (Index v = 0; v < weights.vectors_of(chunk); ++v) {
      T* to = staged_vector(work, v);
      std::fill_n(to, above * staged.pitch, T(0));
      std::fill_n(to + below * staged.pitch, (count - below) * staged.pitch, T(0));
    }
    const Panels tiles((below - above) * d.W);
    for (Index v = 0; v < weights.vectors_of(chunk); v += tile_vectors)
      for (Index i = 0; i < tiles.count; ++i) {
        work.ahead.part(work.part++);
        expand_tile(work, x + (first + above) * d.W, chunk, v, above, tiles.first(i), tiles.rows(i));
      }
  }
  // The weights of the chunk after this one, in as many parts as a band of so many rows has tiles of this
  // one.
  PrefetchAhead weights_after(const T* packed, Index chunk, Index rows) const {
    if (chunk + 1 == weights.chunks) return {};
    const Index tiles =
        ceil_div(stencil.x_rows(rows) * d.W, max_rows) * ceil_div(weights.vectors_of(chunk), tile_vectors) +
        ceil_div(rows * d.OW, max_rows) * ceil_div(weights.filters, tile_vectors);
    return {packed + weights.at(chunk + 1), 1, 0, weights.at(chunk + 2) - weights.at(chunk + 1), tiles};
  }
  // A tile of `rows` neighbouring pixels from `pixel` on, counted from row `above` of the band.
  void expand_tile(const Work& work, const T* x, Index chunk, Index v, Index above, Index pixel,
                   Index rows) const {
    const Index count = std::min<Index>(tile_vectors, weights.vectors_of(chunk) - v);
    const auto place = [&](Index m) { return (above + m / d.W) * staged.pitch + m % d.W * lanes; };
    const bool in_one_row = pixel % d.W + rows <= d.W;
    auto target = Target<T>::rows(work.tile, count);
    const T* source[tile_vectors];
    for (Index u = 0; u < count; ++u) {
      if (in_one_row) target.to[u] = staged_vector(work, v + u) + place(pixel);
      source[u] = work.packed + weights.expand(chunk, v) + u * lanes;
    }
    if (in_one_row) target.step = lanes;
    target.row = work.packed + weights.expand_bias(chunk, v);
    target.activation = activation(layers.expand);
    const auto kernel = count == tile_vectors ? tile_kernel<T>(rows) : tile_kernel<T, 1>(rows);
    kernel(s.C, x + pixel, d.H * d.W, work.offset + (count - 1) * s.C, source, target);
    if (in_one_row) return;
    for (Index u = 0; u < count; ++u)
      for (Index m = 0; m < rows; ++m)
        S::store(staged_vector(work, v + u) + place(pixel + m), S::load(work.tile + (m * count + u) * lanes));
  }

  void filter(const Work& work, Index chunk, Index rows) const {
    const Index middle_size = band_rows * d.OW * lanes;
    for (Index v = 0; v < weights.vectors_of(chunk); ++v) {
      const T* weight = work.packed + weights.depthwise(chunk, v);
      T* to = work.middle + v * middle_size;
      L::correlate(stencil.x_taps, weight, weight + weights.taps * lanes, activation(layers.depthwise), rows,
                   d.OW, staged_vector(work, v), d.stride_h * staged.pitch, stencil.column_step, to,
                   d.OW * lanes, 1);
      const Index channels = stencil.channels_of(chunk * W::chunk_vectors + v);
      if (channels == lanes) continue;
      for (Index i = 0; i < rows * d.OW; ++i)  // zero times a weight of zero is zero: no NaN comes in
        S::store(to + i * lanes, S::load_lanes(to + i * lanes, 0, channels));
    }
  }

  void project(Work& work, Index chunk, Index outputs) const {
    const Index width = weights.filters * lanes, middle_size = band_rows * d.OW * lanes;
    const Panels tiles(outputs);
    for (Index f = 0; f < weights.filters; f += tile_vectors) {
      const T* w = work.packed + weights.project(chunk, f);
      for (Index i = 0; i < tiles.count; ++i) {
        const Index m = tiles.first(i), rows = tiles.rows(i);
        work.ahead.part(work.part++);
        const auto kernel = f + tile_vectors <= weights.filters ? project_kernel<T, tile_vectors>(rows)
                                                                : project_kernel<T, 1>(rows);
        kernel(weights.vectors_of(chunk), work.middle + m * lanes, middle_size, w,
               work.sums + m * width + f * lanes, width, chunk > 0);
      }
    }
  }

  // The sums, turned into planes.
  void finish(const Work& work, Index outputs, const T* other, T* out) const {
    const Index width = weights.filters * lanes, plane = d.OH * d.OW;
    const auto last = activation(layers.project);
    for (Index f = 0; f < s.F; f += lanes) {
      const auto bias = S::load(work.packed + weights.project_bias() + f);
      const Index count = std::min(lanes, s.F - f);
      for (Index first = 0; first < outputs; first += lanes) {
        const Index rows = std::min(lanes, outputs - first);
        typename S::Packet square[lanes];
#pragma GCC unroll 16
        for (Index i = 0; i < lanes; ++i)
          square[i] = S::add(S::load(work.sums + (first + std::min(i, rows - 1)) * width + f), bias);
        transpose_packets(square);
#pragma GCC unroll 16
        for (Index i = 0; i < lanes; ++i) {
          if (i >= count) break;
          const Index at = (f + i) * plane + first;
          const auto v = other != nullptr ? S::add(square[i], S::load_lanes(other + at, 0, rows)) : square[i];
          S::store_lanes(out + at, last(v), 0, rows);
        }
      }
    }
  }

  // Rows of a band: its hidden rows, middle and sums are to stay in most of the second-level cache, and where
  // there are fewer images than threads every thread gets bands.
  Index choose_band() const {
    const double row = double(sizeof(T)) * double(lanes) *
                       (double(W::chunk_vectors) * double(d.stride_h * staged_pitch() / lanes + d.OW) +
                        double(d.OW * weights.filters));
    const double halo = double(sizeof(T)) * double(W::chunk_vectors * staged_pitch() * (d.KH - 1));
    const double room = 0.75 * double(l2_for_blocks()) - halo;
    const Index rows = std::clamp<Index>(static_cast<Index>(room / row), 1, d.OH);
    Index count = ceil_div(d.OH, rows);
    if (s.N % threads != 0) count = std::min(round_up(count, threads), d.OH);
    return ceil_div(d.OH, count);
  }
  Index staged_pitch() const { return L::pitch(stencil.x_width()); }

  InvertedResidualShape s;
  ConvShape d;
  InvertedResidualLayers<T> layers;
  InvertedResidualWeights<T> weights{s};
  ChannelStencil<T, L> stencil{d};
  int threads = threads_for(
      double(s.N) / 8 *
      (double(d.C) * double(s.C * d.H * d.W) + double(d.C * d.OH * d.OW) * double(weights.taps + s.F)));
  Index band_rows = choose_band(), bands = ceil_div(d.OH, band_rows);
  typename L::Staged staged{stencil.x_shape(band_rows)};
};

}  // namespace cnnlib::CNNLIB_ISA
