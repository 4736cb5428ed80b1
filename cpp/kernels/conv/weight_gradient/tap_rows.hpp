// The weights' gradient with the columns of a kernel as the rows of a tile and filters as its vector lanes:
// neighbouring columns read neighbouring input, which is only staged, never packed.
#pragma once

#include "kernels/conv/direct/position_tile.hpp"
#include "kernels/conv/weight_gradient/blocks.hpp"

namespace cnnlib::CNNLIB_ISA {

// Sizes of one call. A task is a part of the positions of one group.
template <class T>
struct TapRows {
  static constexpr Index lanes = Simd<T>::size, grad_bytes = 32 << 10;
  Panels columns;  // of the kernel
  Index vectors;   // of filters
  Panels panels;   // of vectors
  Index width;     // lanes of the widest panel
  Index most_positions;

  explicit TapRows(const WeightGradient<T>& g)
      : columns(g.s.KW),
        vectors((g.F + lanes - 1) / lanes),
        panels(vectors, std::min(vectors, vectors_beside(columns.rows(0)))),
        width(panels.rows(0) * lanes),
        most_positions(grad_bytes / (width * Index(sizeof(T)))) {}
};

// totals[f] += the sum over k < K of grads[k][f], for `width` filters.
template <class T>
void add_columns(const T* grads, Index K, Index width, double* totals) {
  using S = Simd<T>;
  for (Index f = 0; f < width; f += S::size) {
    auto even = S::zero(), odd = S::zero();
    Index k = 0;
    for (; k + 2 <= K; k += 2) {
      even = S::add(even, S::load(grads + k * width + f));
      odd = S::add(odd, S::load(grads + (k + 1) * width + f));
    }
    if (k < K) even = S::add(even, S::load(grads + k * width + f));
    T sums[S::size];
    S::store(sums, S::add(even, odd));
    for (Index i = 0; i < S::size; ++i) totals[f + i] += sums[i];
  }
}

// sums[part][group][panel][c, a, b][filter of the panel]; dw or db may be null.
template <class T>
void weights_with_tap_rows(WeightGradient<T>& g, const T* x, const T* dout, T* dw, T* db) {
  constexpr Index lanes = Simd<T>::size;
  const ConvShape& s = g.s;
  const TapRows<T> t(g);
  g.set_blocks(PositionBlocks::choose(s.N, g.OH, g.OW, t.most_positions));
  PositionBlocks positions = g.positions;
  positions.groups = std::clamp<Index>(16 / s.groups, 1, positions.blocks);
  const int threads = threads_for(g.work());

  // The staged region keeps the columns as they lie, whatever the stride.
  const Index height = (positions.rows - 1) * s.stride_h + (s.KH - 1) * s.dilation_h + 1;
  const Index pitch = (positions.cols - 1) * s.stride_w + s.KW;
  const Index most_positions = positions.images * positions.rows * positions.cols;
  const Index image_size = g.C * height * pitch, grad_size = (most_positions + lanes) * t.width;
  const Index sum_size = g.C * g.taps * t.vectors * lanes;
  const T* dout_end = dout + s.N * s.F * g.OH * g.OW;
  Layout layout;
  const auto staged_piece = layout.per_thread<T>(threads, positions.images * image_size);
  const auto grad_piece = layout.per_thread<T>(threads, t.panels.count * grad_size);
  const auto offset_piece = layout.per_thread<Index>(threads, most_positions);
  const auto sum_piece = layout.array<T>(checked_product(positions.groups * s.groups, sum_size));
  const Index tasks = positions.groups * s.groups, filters = t.vectors * lanes;
  const auto bias_piece = layout.array<double>(db != nullptr ? tasks * filters : 0);
  const Scratch scratch(layout.bytes());
  T* sums = sum_piece.in(scratch.data());
  double* bias_sums = bias_piece.in(scratch.data());
  if (db != nullptr) std::fill_n(bias_sums, tasks * filters, 0.0);

  parallel_for(tasks, threads, [&](Index task, int slot) {
    const Index group = task % s.groups, part = task / s.groups;
    T* staged = staged_piece.of(scratch.data(), slot);
    T* grads = grad_piece.of(scratch.data(), slot);
    Index* offset = offset_piece.of(scratch.data(), slot);
    const Index first = part * positions.blocks / positions.groups,
                last = (part + 1) * positions.blocks / positions.groups;
    for (Index block = first; block < last; ++block) {
      Index K = 0;
      g.each_image(block, [&](Index n, Index i, Index oh, Index ow, Index rows, Index cols, Index at) {
        K = at + rows * cols;
        for (Index c = 0; dw != nullptr && c < g.C; ++c)
          copy_region(x + ((n * s.groups + group) * g.C + c) * s.H * s.W, s.H, s.W,
                      oh * s.stride_h - s.pad_top, ow * s.stride_w - s.pad_left, height, pitch,
                      staged + i * image_size + c * height * pitch);
        for (Index r = 0; r < rows; ++r)
          for (Index j = 0; j < cols; ++j)
            offset[at + r * cols + j] = i * image_size + r * s.stride_h * pitch + j * s.stride_w;
        const T* grad = dout + (n * s.groups + group) * g.F * g.OH * g.OW + oh * g.OW + ow;
        for (Index panel = 0; panel < t.panels.count; ++panel) {
          const Index f = t.panels.first(panel) * lanes, size = t.panels.rows(panel) * lanes;
          for (Index r = 0; r < rows; ++r)
            transpose_freely(grad + f * g.OH * g.OW + r * g.OW, g.OH * g.OW, std::min(size, g.F - f), cols,
                             dout_end, grads + panel * grad_size + (at + r * cols) * size, size);
        }
      });
      // The next block's gradients arrive while these are multiplied.
      const T* next = nullptr;
      Index next_values = 0;
      if (block + 1 < last)
        g.each_image(block + 1, [&](Index n, Index i, Index oh, Index ow, Index rows, Index cols, Index) {
          if (i > 0) return;
          next = dout + (n * s.groups + group) * g.F * g.OH * g.OW + oh * g.OW + ow;
          next_values = (rows - 1) * g.OW + cols;
        });
      const Index products = t.panels.count * g.C * s.KH * t.columns.count;
      Index product = 0;
      const auto prefetch_share = [&] {
        const Index begin = product * g.F / products, end = ++product * g.F / products;
        for (Index f = next != nullptr ? begin : end; f < end; ++f)
          prefetch<2>(next + f * g.OH * g.OW, next_values);
      };
      for (Index panel = 0; panel < t.panels.count; ++panel) {
        const Index panel_vectors = t.panels.rows(panel), size = panel_vectors * lanes;
        if (db != nullptr)
          add_columns(grads + panel * grad_size, K, size,
                      bias_sums + task * filters + t.panels.first(panel) * lanes);
        T* sum = sums + task * sum_size + t.panels.first(panel) * lanes * g.C * g.taps;
        for (Index c = 0; dw != nullptr && c < g.C; ++c)
          for (Index a = 0; a < s.KH; ++a)
            for (Index q = 0; q < t.columns.count; ++q) {
              const Index count = t.columns.rows(q);
              prefetch_share();
              position_kernel<T>(count, panel_vectors)(
                  K, staged + (c * height + a * s.dilation_h) * pitch + t.columns.first(q), offset,
                  grads + panel * grad_size, sum, size, block > first, nullptr, 0);
              sum += count * size;
            }
      }
    }
  });

  const Index all_sums = s.groups * sum_size;
  parallel_for(s.groups * t.panels.count, threads, [&](Index task, int) {
    const Index panel = task % t.panels.count, group = task / t.panels.count;
    const Index f = t.panels.first(panel) * lanes, size = t.panels.rows(panel) * lanes,
                products = g.C * g.taps;
    T* sum = sums + group * sum_size + f * products;
    if (dw != nullptr) {
      for (Index part = 1; part < positions.groups; ++part)
        add_to(sum, sum + part * all_sums, size * products);
      transpose(sum, size, products, std::min(size, g.F - f), dw + (group * g.F + f) * products, products);
    }
    for (Index i = f; db != nullptr && i < std::min(f + size, g.F); ++i) {
      double total = 0;
      for (Index part = 0; part < positions.groups; ++part)
        total += bias_sums[(part * s.groups + group) * filters + i];
      db[group * g.F + i] = static_cast<T>(total);
    }
  });
}

}  // namespace cnnlib::CNNLIB_ISA
