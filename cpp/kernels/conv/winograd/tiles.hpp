// Winograd's transforms of a run of tiles.
// Vectors run along channels (input side) and filters (output side), so that no transform needs a shuffle.
#pragma once

#include "kernels/clamp.hpp"
#include "kernels/conv/winograd/tile.hpp"
#include "kernels/conv/winograd/tile_grid.hpp"
#include "kernels/simd/transpose.hpp"

namespace cnnlib::CNNLIB_ISA {

// Where the values of the tiles of a run go: to places of their own, or `stride` apart.
struct TilePlaces {
  Index stride = 0;
  const Index* at = nullptr;

  Index operator[](Index tile) const { return at != nullptr ? at[tile] : tile * stride; }
};

// Columns of a tile that its transform writes out where they are neighbours, so that their addresses are
// constants: 1.1 times as fast on layers of few channels. With 16 registers a loop is faster.
#ifdef __AVX512F__
constexpr Index most_columns_written_out = 8;
#else
constexpr Index most_columns_written_out = 0;
#endif

// values[point * point_stride + places[tile] + lane]: transform(load, store, whether to write columns out) of
// the tiles of a run in staged rows, where a tile takes `extent` columns and the next one begins `tile_step`
// farther on.
template <class T, class K, int extent, class Transform>
[[gnu::always_inline]] inline void transform_run(const TileGrid& grid, Index col, Index tiles,
                                                 Index tile_step, const T* staged, T* values,
                                                 const TilePlaces& places, Index point_stride,
                                                 const Transform& transform) {
  constexpr Index lanes = Simd<T>::size;
  const Index width = grid.run_width(col, tiles, tile_step, extent);
  const auto run = [&](auto step, auto write_out) {
    TileColumn column(grid, col, tile_step);
    for (Index t = 0; t < tiles; ++t, ++column) {
      const T* from = staged + *column * lanes;
      T* to = values + places[t];
      transform(
          [&](int i, int j) { return Simd<T>::load(from + (i * width + j * step) * lanes); },
          [&](int i, int j, auto v) { Simd<T>::store(to + (i * K::sizes.w.points + j) * point_stride, v); },
          write_out);
    }
  };
  if constexpr (K::sizes.h.taps > 1 && K::sizes.w.taps > 1 && extent <= most_columns_written_out)
    if (grid.dilation_w == 1) return run(std::integral_constant<Index, 1>(), std::true_type());
  run(grid.dilation_w, std::false_type());
}

// B' d B of the tiles of a run, for one vector of channels.
template <class T, class K>
void transform_inputs(const TileGrid& grid, Index col, Index tiles, const T* staged, T* values,
                      const TilePlaces& places, Index point_stride) {
  transform_run<T, K, K::sizes.w.ins>(grid, col, tiles, K::sizes.w.step, staged, values, places, point_stride,
                                      [](const auto& load, const auto& store, auto write_out) {
                                        TileTransforms<T, K>::template input<write_out>(load, store);
                                      });
}
// A dy A' of the tiles of a run, for one vector of filters.
template <class T, class K>
void transform_gradients(const TileGrid& grid, Index col, Index tiles, const T* staged, T* values,
                         const TilePlaces& places, Index point_stride) {
  transform_run<T, K, K::sizes.w.outs>(grid, col, tiles, K::sizes.w.outs, staged, values, places,
                                       point_stride, [](const auto& load, const auto& store, auto write_out) {
                                         TileTransforms<T, K>::template gradient<write_out>(load, store);
                                       });
}

// Values of scratch that transform_filters needs: [c][tap][filter] of one square.
template <class T>
constexpr Index filter_taps(Index taps) {
  return ((taps + 1) * Simd<T>::size + 2 * Simd<T>::size) * Simd<T>::size;
}

// packed[filter][c][lane]: G g G' of one vector of filters (f0 on) and block q of channels; rows of
// `width` filters, zero for channels that do not exist.
template <class T, class K>
void transform_filters(const TileProblem<T>& p, Index f0, Index q, T* taps, T* packed, Index width,
                       Index filter_stride) {
  using S = Simd<T>;
  constexpr Index lanes = S::size;
  const ChannelBlock block = p.channel_block(K::sizes, lanes, q);
  const Index filters = std::clamp<Index>(p.F - f0, 0, lanes),
              channels = std::clamp<Index>(p.C - block.c0, 0, lanes);
  // What lies between the first and the last tap of a part, and a vector of zeros for taps that it lacks.
  const Index span = (block.rows - 1) * p.KW + block.columns, first = block.tap_h * p.KW + block.tap_w;
  const bool whole = block.rows == K::sizes.h.taps && p.KW == K::sizes.w.taps;
  const Index step = (whole ? span : span + 1) * lanes;  // between channels
  Index at[K::sizes.taps()];
  for (Index i = 0; i < K::sizes.h.taps; ++i)
    for (Index j = 0; j < K::sizes.w.taps; ++j) {
      const Index tap = i * p.KW + j;
      const bool lacks = i >= block.rows || j >= block.columns;
      at[i * K::sizes.w.taps + j] = (lacks ? span : p.flipped ? span - 1 - tap : tap) * lanes;
    }
  const T* w = p.w + f0 * p.w_filter + block.c0 * p.w_channel + (p.flipped ? p.taps() - first - span : first);
  if (filters == 0) std::fill_n(taps, filter_taps<T>(span), T(0));
  if (filters > 0 && whole && p.w_channel == span)
    transpose_freely(w, p.w_filter, filters, channels * span, p.w_end, taps, lanes);
  else if (filters > 0)
    for (Index c = 0; c < channels; ++c)
      transpose_freely(w + c * p.w_channel, p.w_filter, filters, span, p.w_end, taps + c * step, lanes);
  for (Index c = 0; c < channels && !whole; ++c) S::store(taps + c * step + span * lanes, S::zero());
  for (Index c = 0; c < lanes; ++c) {
    const T* g = taps + c * step;
    T* to = packed + (q * lanes + c) * width;
    if (c >= channels) {
      for (Index i = 0; i < K::sizes.h.filters * K::sizes.w.filters; ++i)
        S::store(to + i * filter_stride, S::zero());
      continue;
    }
    TileTransforms<T, K>::filter(
        [&](int i, int j) { return S::load(g + at[i * K::sizes.w.taps + j]); },
        [&](int i, int j, auto v) { S::store(to + (i * K::sizes.w.filters + j) * filter_stride, v); });
  }
}

// The columns [begin, end) of a row of pixels, `apart` in the image.
struct RowColumns {
  Index begin, end, apart;
};

// Writes `span` pixels of a row, [pixel][filter], to the planes of the filters, or adds them there.
template <class T>
void write_row(const Epilogue<T>& epilogue, const T* pixels, Index span, Index filters,
               const RowColumns& columns, T* to, Index plane) {
  using S = Simd<T>;
  constexpr Index lanes = S::size;
  for (Index at = 0; at < columns.end; at += lanes, to += lanes * columns.apart) {
    const Index begin = std::max<Index>(columns.begin - at, 0), end = std::min(lanes, columns.end - at);
    const auto pixel = [&](Index i) { return pixels + std::min(at + i, span - 1) * lanes; };
    if (end - begin == lanes && filters == lanes && columns.apart == 1 && !epilogue.add) {
      transpose_square<T>(pixel, to, plane);
      continue;
    }
    T turned[lanes * lanes];
    transpose_square<T>(pixel, turned, lanes);
    for (Index f = 0; f < filters; ++f) {
      const T* from = turned + f * lanes;
      T* row = to + f * plane;
      if (columns.apart == 1) {
        const auto v = S::load(from);
        const auto sum = [&] {
          return clamp(epilogue.activation, S::add(v, S::load_lanes(row, begin, end - begin)));
        };
        S::store_lanes(row, epilogue.add ? sum() : v, begin, end - begin);
        continue;
      }
      for (Index j = begin; j < end; ++j) {
        T& value = row[j * columns.apart];
        value = epilogue.add ? clamp(epilogue.activation, from[j] + value) : from[j];
      }
    }
  }
}

// A' m A of the tiles of a run and one vector of filters, written to the planes of the filters.
template <class T, class K>
void write_outputs(const TileProblem<T>& p, const TileGrid& grid, const T* points, Index tile_stride,
                   Index point_stride, Index tiles, Index image, Index row, Index col, Index f0) {
  using S = Simd<T>;
  constexpr Index lanes = S::size, most = lanes / K::sizes.w.outs > 0 ? lanes / K::sizes.w.outs : 1;
  constexpr Index span = most * K::sizes.w.outs;  // pixels of a row that are written at once
  const Index filters = std::min(lanes, p.F - f0), plane = p.OH * p.OW, step = p.dilation_w;
  T bias[lanes] = {};
  if (p.epilogue.bias != nullptr) std::copy_n(p.epilogue.bias + f0, filters, bias);
  const auto start = S::load(bias);
  T pixels[K::sizes.h.outs * span * lanes];  // [row][pixel][filter]
  const Index top = grid.top(row) + p.origin_top;
  T* out = p.out + image * p.out_image + f0 * plane + top * p.OW;
  const Index rows = std::min<Index>(K::sizes.h.outs, ceil_div(p.OH - top, p.dilation_h));
  // Tiles that interleave fill their columns in one group, if all of them are there.
  const Index most_interleaved = step <= most ? most / step * step : 1;
  for (Index t = 0, group; t < tiles; t += group) {
    const bool whole = step == 1 || (step <= most && (col + t) % step == 0 && tiles - t >= step);
    group = !whole      ? 1
            : step == 1 ? std::min(most, tiles - t)
                        : std::min(most_interleaved, (tiles - t) / step * step);
    const Index inside = whole ? step : 1, outside = whole ? 1 : step;  // steps between a tile's columns
    TileColumn column(grid, 0, K::sizes.w.outs);
    for (Index g = 0; g < group; ++g, ++column) {
      const T* from = points + (t + g) * tile_stride;
      T* to = pixels + *column * lanes;
      TileTransforms<T, K>::output(
          [&](int i, int j) { return S::load(from + (i * K::sizes.w.points + j) * point_stride); },
          [&](int i, int j, auto v) {
            v = S::add(v, start);
            S::store(to + (i * span + j * inside) * lanes,
                     p.epilogue.add ? v : clamp(p.epilogue.activation, v));
          });
    }
    const Index left = (step == 1 ? (col + t) * K::sizes.w.outs : grid.left(col + t)) + p.origin_left;
    const Index width = std::min(group * K::sizes.w.outs, ceil_div(p.OW - left, outside));
    const RowColumns columns{std::max<Index>(-left, 0), width, outside};
    for (Index r = std::max<Index>(-top, 0); r < rows; ++r)
      write_row(p.epilogue, pixels + r * span * lanes, span, filters, columns,
                out + r * p.dilation_h * p.OW + left, plane);
  }
}

// The taps of dw that a part of the kernel has, whose rows and channels are so many values apart.
struct TapPlaces {
  Index rows, columns, row, channel;
};

// dw of one filter and up to `lanes` channels, from sums `filter_step` apart, of parts `part_step` apart.
template <class T, class K>
void write_taps(const T* sums, Index filter_step, Index parts, Index part_step, Index channels,
                const TapPlaces& places, T* dw) {
  using S = Simd<T>;
  T taps[K::sizes.taps() * S::size];
  TileTransforms<T, K>::filter_gradient(
      [&](int i, int j) {
        const T* value = sums + (i * K::sizes.w.filters + j) * filter_step;
        auto sum = S::load(value);
        for (Index part = 1; part < parts; ++part) sum = S::add(sum, S::load(value += part_step));
        return sum;
      },
      [&](int i, int j, auto v) { S::store(taps + (i * K::sizes.w.taps + j) * S::size, v); });
  const auto copy = [&](Index rows, Index columns, Index row, Index channel) {
    for (Index c = 0; c < channels; ++c)
      for (Index i = 0; i < rows; ++i)
        for (Index j = 0; j < columns; ++j)
          dw[c * channel + i * row + j] = taps[(i * K::sizes.w.taps + j) * S::size + c];
  };
  if (places.row == K::sizes.w.taps && places.channel == K::sizes.taps())  // one part: loops of known length
    copy(K::sizes.h.taps, K::sizes.w.taps, K::sizes.w.taps, K::sizes.taps());
  else
    copy(places.rows, places.columns, places.row, places.channel);
}

// The tiles of a method with their transforms, for the loops around them, which are the same for all.
template <class T>
struct CorrelationTile : TileSizes {
  decltype(&transform_inputs<T, Tile<3, 3, 4>>) transform_inputs;
  decltype(&transform_filters<T, Tile<3, 3, 4>>) transform_filters;
  decltype(&write_outputs<T, Tile<3, 3, 4>>) write_outputs;
};
template <class T>
struct GradientTile : TileSizes {
  decltype(&transform_inputs<T, Tile<3, 3, 4>>) transform_inputs;
  decltype(&transform_gradients<T, Tile<3, 3, 4>>) transform_gradients;
  decltype(&write_taps<T, Tile<3, 3, 4>>) write_taps;
};
template <class T, class K>
inline constexpr CorrelationTile<T> correlation_tile = {K::sizes, &transform_inputs<T, K>,
                                                        &transform_filters<T, K>, &write_outputs<T, K>};
template <class T, class K>
inline constexpr GradientTile<T> gradient_tile = {K::sizes, &transform_inputs<T, K>,
                                                  &transform_gradients<T, K>, &write_taps<T, K>};

}  // namespace cnnlib::CNNLIB_ISA
