// The weights' gradient by Winograd's method, as the adjoint of the forward pass:
//
//   dw = G' [ sum over tiles of (A dy A') . (B' d B) ] G
//
// Chunks of tiles are transformed by all threads, then multiplied by all threads, each product being
// one (point, channels) pair, so that every sum has a fixed order.
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

template <class T, class K>
void weights_by_tiles(const TileGradient<T>& s) {
  using S = Simd<T>;
  constexpr Index lanes = S::size, chunk_bytes = 8 << 20;
  const Index vectors = s.C <= lanes ? 1 : tile_vectors, width = vectors * lanes;
  const Index channel_blocks = (s.C + width - 1) / width * vectors, channels = channel_blocks * lanes;
  const Index filter_blocks = (s.F + lanes - 1) / lanes, filters = filter_blocks * lanes;
  const TileGrid grid(s.N, s.OH, s.OW, K::out_h, K::out_w, s.dilation_h, s.dilation_w);
  const int threads = threads_for(2.0 / 16 * grid.count * K::points * channels * s.F);
  Index chunk =
      std::clamp<Index>(chunk_bytes / (K::points * (channels + filters) * Index(sizeof(T))), 32, 512);
  chunk = even_part(grid.count, chunk);
  const Panels panels(s.F);

  const Index x_stride = channels * chunk, y_stride = chunk * filters, sum_stride = channels * s.F;
  const Index staged_size = (K::in_h * grid.most_width(K::in_w) + lanes) * lanes;
  Layout layout;
  const auto x_piece = layout.array<T>(K::points * x_stride);  // [point][c block][tile][c]
  const auto y_piece = layout.array<T>(K::points * y_stride);  // [point][tile][filter]
  const auto sum_piece =
      layout.array<T>(checked_product(K::points, sum_stride));  // [point][pair][panel][f][c]
  const auto staged_piece = layout.per_thread<T>(threads, staged_size);
  const auto offset_piece = layout.array<Index>(chunk);
  const Scratch scratch(layout.bytes());
  T* x_values = x_piece.in(scratch.data());
  T* y_values = y_piece.in(scratch.data());
  T* sums = sum_piece.in(scratch.data());
  Index* offset = offset_piece.in(scratch.data());
  for (Index t = 0; t < chunk; ++t) offset[t] = t * lanes;

  for (Index begin = 0; begin < grid.count; begin += chunk) {
    const Index end = std::min(grid.count, begin + chunk), tiles_in_chunk = end - begin;
    const Index x_blocks = (s.C + lanes - 1) / lanes;
    parallel_for(x_blocks + filter_blocks, threads, [&](Index task, int slot) {
      T* staged = staged_piece.of(scratch.data(), slot);
      grid.each_run(begin, end, [&](Index image, Index row, Index col, Index tiles, Index at) {
        if (task < x_blocks) {
          const Index q = task;
          stage_patch(s.x + image * s.x_image + q * lanes * s.H * s.W, s.C - q * lanes, s.H, s.W,
                      grid.top(row) - s.pad_top, s.dilation_h, grid.left(col) - s.pad_left, K::in_h,
                      grid.run_width(col, tiles, K::in_w), s.x + (s.N - 1) * s.x_image + s.C * s.H * s.W,
                      staged);
          transform_inputs<T, K>(grid, col, tiles, staged, x_values + (q * chunk + at) * lanes, lanes,
                                 x_stride);
        } else {
          const Index q = task - x_blocks;
          stage_patch(s.dout + image * s.dout_image + q * lanes * s.OH * s.OW, s.F - q * lanes, s.OH, s.OW,
                      grid.top(row), s.dilation_h, grid.left(col), K::out_h,
                      grid.run_width(col, tiles, K::out_w),
                      s.dout + (s.N - 1) * s.dout_image + s.F * s.OH * s.OW, staged);
          transform_gradients<T, K>(grid, col, tiles, staged, y_values + at * filters + q * lanes, filters,
                                    y_stride);
        }
      });
    });
    const Index pairs = channel_blocks / vectors;
    parallel_for(K::points * pairs, threads, [&](Index task, int) {
      const Index pair = task % pairs, point = task / pairs;
      const T* source[tile_vectors];
      for (int v = 0; v < vectors; ++v)  // a last vector without channels repeats the one before
        source[v] = x_values + point * x_stride + std::min(pair * vectors + v, x_blocks - 1) * chunk * lanes;
      for (Index panel = 0; panel < panels.count; ++panel) {
        const Index rows = panels.rows(panel), f = panels.first(panel);
        auto target = Target<T>::rows(sums + point * sum_stride + (pair * s.F + f) * width, vectors);
        target.add = begin > 0;
        const auto kernel = vectors == 1 ? packed_tile_kernel<T, 1>(rows) : packed_tile_kernel<T>(rows);
        kernel(tiles_in_chunk, y_values + point * y_stride + f, filters, offset, source, target);
      }
    });
  }

  parallel_for(s.F, threads, [&](Index f, int) {
    T taps[K::taps * lanes];
    for (Index c0 = 0; c0 < s.C; c0 += lanes) {
      const T* from = sums + (c0 / width * s.F + f) * width + c0 % width;
      TileTransforms<T, K>::filter_gradient(
          [&](int i, int j) { return S::load(from + (i * K::in_w + j) * sum_stride); },
          [&](int i, int j, auto v) { S::store(taps + (i * K::KW + j) * lanes, v); });
      for (Index c = 0; c < std::min(lanes, s.C - c0); ++c)
        for (Index t = 0; t < K::taps; ++t) s.dw[(f * s.C + c0 + c) * K::taps + t] = taps[t * lanes + c];
    }
  });
}

}  // namespace cnnlib::CNNLIB_ISA
