// The weights' gradient by Winograd's method, as the adjoint of the forward pass:
//
//   dw = G' [ sum over tiles of (A dy A') . (B' d B) ] G
//
// The order of every sum depends on the shape alone, whatever the number of threads.
#pragma once

#include "winograd.hpp"

namespace cnnlib::CNNLIB_ISA {

// A dy A' of the tiles of a run in staged rows, for one vector of filters.
template <class T, class K>
void transform_gradients(const TileGrid& grid, Index col, Index tiles, const T* staged, T* values,
                         Index tile_stride, Index point_stride) {
  constexpr Index lanes = Simd<T>::size;
  const Index width = grid.run_width(col, tiles, K::out_w);
  with_step(grid.dilation_w, [&](auto step) {
    TileColumn column(grid, col);
    for (Index t = 0; t < tiles; ++t, ++column) {
      const T* from = staged + *column * lanes;
      T* to = values + t * tile_stride;
      TileTransforms<T, K>::gradient(
          [&](int i, int j) { return Simd<T>::load(from + (i * width + j * step) * lanes); },
          [&](int i, int j, auto v) { Simd<T>::store(to + (i * K::in_w + j) * point_stride, v); });
    }
  });
}

// dw of a correlation at stride 1. Images begin x_image and dout_image values apart.
template <class T>
struct TileGradient : TileShape {
  const T* x;
  Index x_image;
  const T* dout;
  Index dout_image;
  T* dw;
};

// The sizes of a call and its steps. Transformed tiles are x_values[point][c block][tile][c] and
// y_values[point][tile][filter], with room for `chunk` tiles; sums are [point][panel of channels][f][c].
template <class T, class K>
struct TileGradientPlan {
  using S = Simd<T>;
  static constexpr Index lanes = S::size;
  const TileGradient<T>& s;
  Index vectors, width;            // of a panel of channels: a single vector where there are few
  Index x_blocks, channel_blocks;  // vectors with channels, and filled up to whole panels
  Index channels, filter_blocks, filters;
  TileGrid grid;
  int threads;
  Index staged_size, sum_stride;

  explicit TileGradientPlan(const TileGradient<T>& gradient)
      : s(gradient),
        vectors(s.C <= lanes ? 1 : tile_vectors),
        width(vectors * lanes),
        x_blocks((s.C + lanes - 1) / lanes),
        channel_blocks((s.C + width - 1) / width * vectors),
        channels(channel_blocks * lanes),
        filter_blocks((s.F + lanes - 1) / lanes),
        filters(filter_blocks * lanes),
        grid(s.N, s.OH, s.OW, K::out_h, K::out_w, s.dilation_h, s.dilation_w),
        threads(threads_for(2.0 / 16 * grid.count * K::points * channels * s.F)),
        staged_size((K::in_h * grid.most_width(K::in_w) + lanes) * lanes),
        sum_stride(channels * s.F + lanes) {}

  // Between points, a cache line more than needed: at a multiple of 4096 bytes the points of a tile would
  // meet in one set of the first-level cache.
  Index x_stride(Index chunk) const { return channels * chunk + lanes; }
  Index y_stride(Index chunk) const { return filters * chunk + lanes; }
  Index tile_bytes() const { return K::points * (channels + filters) * Index(sizeof(T)); }
  Index sum_size() const { return checked_product(K::points, sum_stride); }

  // Transforms block q of the channels, or of the filters behind them, of tiles [begin, end).
  void transform(Index q, Index begin, Index end, Index chunk, T* staged, T* x_values, T* y_values) const {
    grid.each_run(begin, end, [&](Index image, Index row, Index col, Index tiles, Index at) {
      if (q < x_blocks) {
        stage_patch(s.x + image * s.x_image + q * lanes * s.H * s.W, s.C - q * lanes, s.H, s.W,
                    grid.top(row) - s.pad_top, s.dilation_h, grid.left(col) - s.pad_left, K::in_h,
                    grid.run_width(col, tiles, K::in_w), s.x + (s.N - 1) * s.x_image + s.C * s.H * s.W,
                    staged);
        transform_inputs<T, K>(grid, col, tiles, staged, x_values + (q * chunk + at) * lanes, lanes,
                               x_stride(chunk));
      } else {
        const Index f = (q - x_blocks) * lanes;
        stage_patch(s.dout + image * s.dout_image + f * s.OH * s.OW, s.F - f, s.OH, s.OW, grid.top(row),
                    s.dilation_h, grid.left(col), K::out_h, grid.run_width(col, tiles, K::out_w),
                    s.dout + (s.N - 1) * s.dout_image + s.F * s.OH * s.OW, staged);
        transform_gradients<T, K>(grid, col, tiles, staged, y_values + at * filters + f, filters,
                                  y_stride(chunk));
      }
    });
  }

  // Adds the products of `count` tiles at one point, for one panel of channels, to the sums or starts them.
  void multiply(Index point, Index panel, Index count, Index chunk, const Index* offset, const T* x_values,
                const T* y_values, bool add, T* sums) const {
    const T* source[tile_vectors];
    for (int v = 0; v < vectors; ++v)  // a last vector without channels repeats the one before
      source[v] =
          x_values + point * x_stride(chunk) + std::min(panel * vectors + v, x_blocks - 1) * lanes * chunk;
    const Panels rows(s.F);
    for (Index i = 0; i < rows.count; ++i) {
      const Index f = rows.first(i);
      auto target = Target<T>::rows(sums + point * sum_stride + (panel * s.F + f) * width, vectors);
      target.add = add;
      const auto kernel =
          vectors == 1 ? packed_tile_kernel<T, 1>(rows.rows(i)) : packed_tile_kernel<T>(rows.rows(i));
      kernel(count, y_values + point * y_stride(chunk) + f, filters, offset, source, target);
    }
  }

  // dw from the sums of `parts` parts.
  void finish(const T* sums, Index parts) const {
    parallel_for(s.F, threads, [&](Index f, int) {
      T taps[K::taps * lanes];
      for (Index c0 = 0; c0 < s.C; c0 += lanes) {
        const T* from = sums + (c0 / width * s.F + f) * width + c0 % width;
        TileTransforms<T, K>::filter_gradient(
            [&](int i, int j) {
              const T* value = from + (i * K::in_w + j) * sum_stride;
              auto sum = S::load(value);
              for (Index part = 1; part < parts; ++part) sum = S::add(sum, S::load(value += sum_size()));
              return sum;
            },
            [&](int i, int j, auto v) { S::store(taps + (i * K::KW + j) * lanes, v); });
        for (Index c = 0; c < std::min(lanes, s.C - c0); ++c)
          for (Index t = 0; t < K::taps; ++t) s.dw[(f * s.C + c0 + c) * K::taps + t] = taps[t * lanes + c];
      }
    });
  }
};

inline void fill_offsets(Index* offset, Index count, Index step) {
  for (Index i = 0; i < count; ++i) offset[i] = i * step;
}

// All threads transform a chunk of tiles, then each multiplies some points of all of them.
template <class T, class K>
void weights_by_points(const TileGradientPlan<T, K>& plan) {
  constexpr Index chunk_bytes = 8 << 20, lanes = Simd<T>::size;
  const Index count = plan.grid.count;
  const Index chunk = even_part(count, std::clamp<Index>(chunk_bytes / plan.tile_bytes(), 32, 512));
  Layout layout;
  const auto x_piece = layout.array<T>(K::points * plan.x_stride(chunk));
  const auto y_piece = layout.array<T>(K::points * plan.y_stride(chunk));
  const auto sum_piece = layout.array<T>(plan.sum_size());
  const auto staged_piece = layout.per_thread<T>(plan.threads, plan.staged_size);
  const auto offset_piece = layout.array<Index>(chunk);
  const Scratch scratch(layout.bytes());
  T* x_values = x_piece.in(scratch.data());
  T* y_values = y_piece.in(scratch.data());
  T* sums = sum_piece.in(scratch.data());
  Index* offset = offset_piece.in(scratch.data());
  fill_offsets(offset, chunk, lanes);
  for (Index begin = 0; begin < count; begin += chunk) {
    const Index end = std::min(count, begin + chunk);
    parallel_for(plan.x_blocks + plan.filter_blocks, plan.threads, [&](Index q, int slot) {
      plan.transform(q, begin, end, chunk, staged_piece.of(scratch.data(), slot), x_values, y_values);
    });
    const Index panels = plan.channel_blocks / plan.vectors;
    parallel_for(K::points * panels, plan.threads, [&](Index task, int) {
      plan.multiply(task / panels, task % panels, end - begin, chunk, offset, x_values, y_values, begin > 0,
                    sums);
    });
  }
  plan.finish(sums, 1);
}

// Each thread transforms and multiplies tiles of its own, and nothing leaves its cache but the sums of a
// part.
template <class T, class K>
void weights_by_parts(const TileGradientPlan<T, K>& plan, Index parts) {
  constexpr Index chunk_bytes = 1024 << 10, lanes = Simd<T>::size;
  const Index cols = plan.grid.cols, rows = plan.grid.count / cols;  // whole rows of tiles, where they fit
  const Index most = std::clamp<Index>(chunk_bytes / plan.tile_bytes(), 32, 512);
  const Index chunk = cols <= most ? even_part((rows + parts - 1) / parts, most / cols) * cols : most;
  Layout layout;
  const auto x_piece = layout.per_thread<T>(plan.threads, K::points * plan.x_stride(chunk));
  const auto y_piece = layout.per_thread<T>(plan.threads, K::points * plan.y_stride(chunk));
  const auto staged_piece = layout.per_thread<T>(plan.threads, plan.staged_size);
  const auto sum_piece = layout.array<T>(checked_product(parts, plan.sum_size()));
  const auto offset_piece = layout.array<Index>(chunk);
  const Scratch scratch(layout.bytes());
  T* sums = sum_piece.in(scratch.data());
  Index* offset = offset_piece.in(scratch.data());
  fill_offsets(offset, chunk, lanes);
  parallel_for(parts, plan.threads, [&](Index part, int slot) {
    T* x_values = x_piece.of(scratch.data(), slot);
    T* y_values = y_piece.of(scratch.data(), slot);
    const Index first = rows * part / parts * cols, last = rows * (part + 1) / parts * cols;
    for (Index begin = first; begin < last; begin += chunk) {
      const Index end = std::min(last, begin + chunk);
      for (Index q = 0; q < plan.x_blocks + plan.filter_blocks; ++q)
        plan.transform(q, begin, end, chunk, staged_piece.of(scratch.data(), slot), x_values, y_values);
      for (Index point = 0; point < K::points; ++point)
        for (Index panel = 0; panel < plan.channel_blocks / plan.vectors; ++panel)
          plan.multiply(point, panel, end - begin, chunk, offset, x_values, y_values, begin > first,
                        sums + part * plan.sum_size());
    }
  });
  plan.finish(sums, parts);
}

template <class T, class K>
void weights_by_tiles(const TileGradient<T>& s) {
  constexpr Index fewest_parts = 4, most_parts = 16, fewest_tiles = 400, tiles_of_part = 250,
                  sum_bytes = 640 << 10;
  const TileGradientPlan<T, K> plan(s);
  const Index parts = std::clamp(plan.grid.count / tiles_of_part, fewest_parts, most_parts);
  if (plan.grid.count >= fewest_tiles && plan.sum_size() * Index(sizeof(T)) <= sum_bytes)
    weights_by_parts(plan, parts);
  else
    weights_by_points(plan);
}

}  // namespace cnnlib::CNNLIB_ISA
