// The pass over an inverted residual. A task is a band of output rows of an image, or a part of the hidden
// channels of one where there are fewer images than threads. For each chunk of hidden channels, whose vector
// lanes are channels:
//
//   hidden  [vector][row of the band and its halo][column][lane]    1x1 of x
//   middle  [vector][output of the band][lane]                      the stencil of hidden
//   sums    [part][output of the band][filter]                     += middle * project
#pragma once

#include "kernels/conv/inverted_residual/weights.hpp"
#include "kernels/conv/prefetch_ahead.hpp"
#include "kernels/gemm/broadcast_tile.hpp"
#include "machine/processor.hpp"
#include "threads/parallel.hpp"

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
    stencil.list_x_taps(staged.pitch);
  }

  void run(const T* packed, const T* x, const T* other, T* out) {
    Layout layout;
    const auto offsets = layout.array<Index>(tile_vectors * s.C);
    const auto pixels = layout.array<Index>(L::Staged::pixel_offsets(staged.rows, d.W));
    const auto hidden = layout.per_thread<T>(threads, W::chunk_vectors * staged.size());
    const auto middle = layout.per_thread<T>(threads, W::chunk_vectors * band_rows * d.OW * lanes);
    const auto sums = layout.array<T>((shared ? s.N * bands : threads) * weights.parts * sums_size);
    const auto tile = layout.per_thread<T>(threads, tile_size<T>);
    const FirstUse first_use(threads, layout);
    const Scratch scratch(layout.bytes());
    Index* offset = offsets.in(scratch.data());
    for (Index v = 1; v <= tile_vectors; ++v)
      for (Index c = 0; c < s.C; ++c) offset[(v - 1) * s.C + c] = c * v * lanes;
    staged.set_pixel_offsets(pixels.in(scratch.data()));
    first_use.reset(scratch.data());
    const auto sums_of = [&](Index i) { return sums.in(scratch.data()) + i * weights.parts * sums_size; };
    const auto work_of = [&](int slot, Index i) {
      if (first_use(scratch.data(), slot))  // the halo stays zero
        std::fill_n(hidden.of(scratch.data(), slot), W::chunk_vectors * staged.size(), T(0));
      return Work{packed,
                  offset,
                  hidden.of(scratch.data(), slot),
                  middle.of(scratch.data(), slot),
                  sums_of(i),
                  tile.of(scratch.data(), slot)};
    };
    if (!shared)
      return parallel_for(s.N * bands, threads, [&](Index task, int slot) {
        multiply(work_of(slot, slot), x, task, 0, weights.chunks);
        finish(packed + weights.project_bias(), sums_of(slot), task, 0, weights.filters, other, out);
      });
    parallel_for(s.N * bands * weights.parts, threads, [&](Index task, int slot) {
      const Index part = task % weights.parts;
      multiply(work_of(slot, task / weights.parts), x, task / weights.parts, weights.first_chunk(part),
               weights.first_chunk(part + 1));
    });
    const Index shares = std::min<Index>(weights.filters, threads);
    parallel_for(s.N * bands * shares, threads, [&](Index task, int) {
      const Index share = task % shares;
      finish(packed + weights.project_bias(), sums_of(task / shares), task / shares,
             share * weights.filters / shares, (share + 1) * weights.filters / shares, other, out);
    });
  }

 private:
  using W = InvertedResidualWeights<T>;
  // A thread's scratch.
  struct Work {
    const T* packed;
    const Index* offset;
    T *hidden, *middle, *sums, *tile;
    PrefetchAhead ahead{};  // the next chunk's weights, some with each tile
    Index tiles = 0;        // of this chunk, so far
  };

  static Rectifier<T> activation(const typename InvertedResidualLayers<T>::Layer& layer) {
    return {layer.epilogue.relu, layer.epilogue.most};
  }
  Index rows_of(Index band) const { return std::min(band_rows, d.OH - band * band_rows); }

  // The sums of a band over chunks [first, last).
  void multiply(Work work, const T* x, Index task, Index first, Index last) const {
    const Index band = task % bands, rows = rows_of(band);
    for (Index chunk = first; chunk < last; ++chunk) {
      work.ahead = chunk + 1 < last ? weights_after(work.packed, chunk, rows) : PrefetchAhead();
      work.tiles = 0;
      expand(work, x + task / bands * s.C * d.H * d.W, chunk, band * band_rows, rows);
      filter(work, chunk, rows);
      project(work, chunk, rows * d.OW);
    }
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
    for (Index v = 0; v < weights.vectors_of(chunk); v += tile_vectors)
      expand_vectors(work, x + (first + above) * d.W, chunk, v, above * staged.pitch, (below - above) * d.W);
  }
  // `pixels` pixels of the vectors of a tile, to staged rows from `begin` on.
  void expand_vectors(Work& work, const T* x, Index chunk, Index v, Index begin, Index pixels) const {
    const Index count = std::min<Index>(tile_vectors, weights.vectors_of(chunk) - v);
    const T* source[tile_vectors];
    for (Index u = 0; u < count; ++u) source[u] = work.packed + weights.expand(chunk, v) + u * lanes;
    Target<T> target;
    target.row = work.packed + weights.expand_bias(chunk, v);
    target.activation = activation(layers.expand);
    const auto staged_at = [&](Index u, Index m) {
      return staged_vector(work, v + u) + begin + staged.offset[m];
    };
    const Panels tiles(pixels);
    for (Index i = 0; i < tiles.count; ++i) {
      work.ahead.part(work.tiles++);
      const Index pixel = tiles.first(i), rows = tiles.rows(i), last = pixel + rows - 1;
      const bool in_one_row = staged.offset[last] - staged.offset[pixel] == (rows - 1) * lanes;
      for (Index u = 0; u < count; ++u)
        target.to[u] = in_one_row ? staged_at(u, pixel) : work.tile + u * lanes;
      target.step = (in_one_row ? 1 : count) * lanes;
      const auto kernel = count == tile_vectors ? tile_kernel<T>(rows) : tile_kernel<T, 1>(rows);
      kernel(s.C, x + pixel, d.H * d.W, work.offset + (count - 1) * s.C, source, target);
      if (in_one_row) continue;
      for (Index u = 0; u < count; ++u)
        for (Index m = 0; m < rows; ++m)
          S::store(staged_at(u, pixel + m), S::load(work.tile + (m * count + u) * lanes));
    }
  }
  // The weights of the chunk after this one, in as many shares as a band of so many rows has tiles of this
  // one.
  PrefetchAhead weights_after(const T* packed, Index chunk, Index rows) const {
    const Index tiles =
        ceil_div(stencil.x_rows(rows) * d.W, max_rows) * ceil_div(weights.vectors_of(chunk), tile_vectors) +
        ceil_div(rows * d.OW, max_rows) * ceil_div(weights.filters, tile_vectors);
    return {packed + weights.at(chunk + 1), 1, 0, weights.at(chunk + 2) - weights.at(chunk + 1), tiles};
  }
  void filter(const Work& work, Index chunk, Index rows) const {
    const Index middle_size = band_rows * d.OW * lanes;
    for (Index v = 0; v < weights.vectors_of(chunk); ++v) {
      const T* weight = work.packed + weights.depthwise(chunk, v);
      T* to = work.middle + v * middle_size;
      L::correlate(stencil.x_taps, weight, weight + weights.taps * lanes, activation(layers.depthwise), rows,
                   d.OW, staged_vector(work, v), d.stride_h * staged.pitch, d.stride_w, to, d.OW * lanes, 1);
      const Index channels = stencil.channels_of(weights.first_vector(chunk) + v);
      if (channels == lanes) continue;
      for (Index i = 0; i < rows * d.OW; ++i)  // zero times a weight of zero is zero: no NaN comes in
        S::store(to + i * lanes, S::load_lanes(to + i * lanes, 0, channels));
    }
  }

  void project(Work& work, Index chunk, Index outputs) const {
    const Index width = weights.filters * lanes, middle_size = band_rows * d.OW * lanes;
    T* sums = work.sums + weights.part_of(chunk) * sums_size;
    const Panels tiles(outputs);
    for (Index f = 0; f < weights.filters; f += tile_vectors) {
      const T* w = work.packed + weights.project(chunk, f);
      for (Index i = 0; i < tiles.count; ++i) {
        const Index m = tiles.first(i), rows = tiles.rows(i);
        work.ahead.part(work.tiles++);
        const auto kernel = f + tile_vectors <= weights.filters ? project_kernel<T, tile_vectors>(rows)
                                                                : project_kernel<T, 1>(rows);
        kernel(weights.vectors_of(chunk), work.middle + m * lanes, middle_size, w,
               sums + m * width + f * lanes, width, !weights.starts_part(chunk));
      }
    }
  }

  // The sums of vectors [first, last) of the filters, turned into planes.
  void finish(const T* bias_of, const T* sums, Index task, Index first, Index last, const T* other,
              T* out) const {
    const Index width = weights.filters * lanes, plane = d.OH * d.OW, band = task % bands;
    const Index outputs = rows_of(band) * d.OW, place = task / bands * s.F * plane + band * band_rows * d.OW;
    const auto activate = activation(layers.project);
    for (Index f = first * lanes; f < std::min(s.F, last * lanes); f += lanes) {
      const auto bias = S::load(bias_of + f);
      const Index count = std::min(lanes, s.F - f);
      for (Index i = 0; i < outputs; i += lanes) {
        const Index rows = std::min(lanes, outputs - i);
        typename S::Packet square[lanes];
#pragma GCC unroll 16
        for (Index m = 0; m < lanes; ++m) {
          const T* from = sums + (i + std::min(m, rows - 1)) * width + f;
          auto sum = S::load(from);
          if (weights.parts == 2) sum = S::add(sum, S::load(from + sums_size));
          square[m] = S::add(sum, bias);
        }
        transpose_packets(square);
#pragma GCC unroll 16
        for (Index k = 0; k < lanes; ++k) {
          if (k >= count) break;
          const Index at = place + (f + k) * plane + i;
          const auto v = other != nullptr ? S::add(square[k], S::load_lanes(other + at, 0, rows)) : square[k];
          S::store_lanes(out + at, activate(v), 0, rows);
        }
      }
    }
  }

  // Rows of a band: its hidden rows, middle and sums are to stay in most of the second-level cache, and where
  // there are fewer images than threads every thread gets bands.
  Index choose_band() const {
    const double row = double(sizeof(T)) * double(lanes) *
                       (double(W::chunk_vectors) * double(d.stride_h * staged_pitch() / lanes + d.OW) +
                        double(weights.parts * d.OW * weights.filters));
    const double halo = double(sizeof(T)) * double(W::chunk_vectors * staged_pitch() * (d.KH - 1));
    const double room = 0.75 * double(l2_for_blocks()) - halo;
    const Index rows = std::clamp<Index>(static_cast<Index>(room / row), 1, d.OH);
    Index count = ceil_div(d.OH, rows);
    if (s.N % threads != 0)
      count = std::min(round_up(count, shared ? ceil_div(threads, weights.parts) : threads), d.OH);
    return ceil_div(d.OH, count);
  }
  Index staged_pitch() const { return L::pitch(stencil.x_width()); }

  InvertedResidualShape s;
  ConvShape d;
  InvertedResidualLayers<T> layers;
  InvertedResidualWeights<T> weights{s};
  ChannelStencil<T> stencil{d};
  int threads = threads_for(
      double(s.N) / 8 *
      (double(d.C) * double(s.C * d.H * d.W) + double(d.C * d.OH * d.OW) * double(weights.taps + s.F)));
  bool shared = weights.parts > 1 && s.N < threads;  // threads take parts
  Index band_rows = choose_band(), bands = ceil_div(d.OH, band_rows);
  Index sums_size = band_rows * d.OW * weights.filters * lanes;  // of a part
  typename L::Staged staged{stencil.x_shape(band_rows)};
};

}  // namespace cnnlib::CNNLIB_ISA
