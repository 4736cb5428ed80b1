// Gradients of the weights and of the bias.
//
// dw[f, c, a, b] = sum over images and output positions of dout[n, f, i, j] * x[n, c](tap a, b of i, j).
// Positions are the long inner dimension k of the matrix kernel. Its vector lanes are channels, when
// there are enough of them, so that a tap is a shift of the staged image; else they are filters.
#pragma once

#include "kernels/conv/weight_gradient/shared_panels.hpp"
#include "kernels/conv/weight_gradient/tap_rows.hpp"
#include "kernels/simd/sums.hpp"

namespace cnnlib::CNNLIB_ISA {

// Lanes are channels: sums[part][group][channel block][panel of filters][tap][filter][lane].
template <class T, int V>
void weights_with_channel_lanes(const WeightGradient<T>& g, const T* x, const T* dout, T* dw) {
  constexpr Index size = Simd<T>::size, lanes = V * size, wide_enough = 288;
  const ConvShape& s = g.s;
  const Panels panels(g.F);
  const Index lane_blocks = (g.C + lanes - 1) / lanes;
  // With few taps several lane blocks share the packed dout.
  const Index most = std::clamp<Index>(wide_enough / (g.taps * lanes), 1, lane_blocks);
  const Index blocks_per_task = even_part(lane_blocks, most);
  const Index channel_blocks = (lane_blocks + blocks_per_task - 1) / blocks_per_task;
  const Index width = blocks_per_task * lanes;
  PositionBlocks positions = g.positions;
  positions.groups = std::clamp<Index>(16 / (s.groups * channel_blocks), 1, positions.blocks);
  const int threads = threads_for(g.work());

  const Index most_positions = positions.images * positions.rows * positions.cols;
  const Index staged_size = positions.images * g.staging.channel_size * width;
  const Index packed_size = g.F * most_positions;
  const Index line_size = width * g.staging.pitch;
  const Index sum_size = g.F * g.taps * width;  // of one task
  Layout layout;
  const auto staged_piece = layout.per_thread<T>(threads, staged_size);
  const auto packed_piece = layout.per_thread<T>(threads, packed_size);
  const auto line_piece = layout.per_thread<T>(threads, line_size);
  const auto offset_piece = layout.per_thread<Index>(threads, most_positions);
  const auto sum_piece =
      layout.array<T>(checked_product(positions.groups * s.groups * channel_blocks, sum_size));
  const Scratch scratch(layout.bytes());
  T* sums = sum_piece.in(scratch.data());

  parallel_for(positions.groups * s.groups * channel_blocks, threads, [&](Index task, int slot) {
    const Index channel_block = task % channel_blocks, group = task / channel_blocks % s.groups;
    const Index part = task / channel_blocks / s.groups;
    const Index c0 = channel_block * width, channels = std::min(width, g.C - c0);
    T* staged = staged_piece.of(scratch.data(), slot);
    T* packed = packed_piece.of(scratch.data(), slot);
    T* line = line_piece.of(scratch.data(), slot);
    Index* offset = offset_piece.of(scratch.data(), slot);
    T* sum = sums + task * sum_size;
    const Index last = (part + 1) * positions.blocks / positions.groups;
    for (Index first = part * positions.blocks / positions.groups, block = first; block < last; ++block) {
      const Index K = g.positions_of(block);
      g.each_image(block, [&](Index n, Index image, Index oh, Index ow, Index, Index, Index) {
        stage_channels_last(x + ((n * s.groups + group) * g.C + c0) * g.H * g.W, channels, g.H, g.W,
                            g.staging, oh, ow, width, line, staged + image * g.staging.channel_size * width);
      });
      staged_positions(g, block, width, offset);
      for (Index panel = 0; panel < panels.count; ++panel)
        pack_filters(g, block, group, panels.first(panel), panels.rows(panel), K, dout,
                     packed + panels.first(panel) * K);
      for (Index v = 0; v < blocks_per_task; ++v) {
        const bool narrow = channels <= v * lanes + size;  // a last block of one vector
        for (Index panel = 0; panel < panels.count; ++panel) {
          const Index rows = panels.rows(panel), f = panels.first(panel);
          const auto kernel = narrow ? packed_tile_kernel<T, 1>(rows) : packed_tile_kernel<T, V>(rows);
          const T* filters = packed + f * K;
          const T* base = staged + v * lanes;
          T* to = sum + (v * g.F + f) * g.taps * lanes;
          for (Index t = 0; t < g.taps; ++t, to += rows * lanes) {
            const T* from = base + g.tap_offset(t) * width;
            if (V == 1 && t + 1 < g.taps) {  // two taps fill a tile better than one
              const T* source[2] = {from, base + g.tap_offset(t + 1) * width};
              Target<T> target;
              target.to[0] = to;
              target.to[1] = to + rows * lanes;
              target.step = lanes;
              target.add = block > first;
              packed_tile_kernel<T, 2>(rows)(K, filters, rows, offset, source, target);
              ++t;
              to += rows * lanes;
              continue;
            }
            const T* source[V];
            for (int u = 0; u < V; ++u) source[u] = from + u * size;
            auto target = Target<T>::rows(to, V);
            target.add = block > first;
            kernel(K, filters, rows, offset, source, target);
          }
        }
      }
    }
  });

  const Index all_sums = s.groups * channel_blocks * sum_size;
  parallel_for(s.groups * lane_blocks * panels.count, threads, [&](Index task, int) {
    const Index panel = task % panels.count, lane_block = task / panels.count % lane_blocks;
    const Index group = task / panels.count / lane_blocks;
    const Index rows = panels.rows(panel), f = panels.first(panel);
    T* sum = sums + (group * channel_blocks + lane_block / blocks_per_task) * sum_size +
             (lane_block % blocks_per_task * g.F + f) * g.taps * lanes;
    for (Index part = 1; part < positions.groups; ++part)
      add_to(sum, sum + part * all_sums, rows * g.taps * lanes);
    const Index c0 = lane_block * lanes, channels = std::min(lanes, g.C - c0);
    for (Index m = 0; m < rows; ++m)
      for (Index c = 0; c < channels; ++c)
        for (Index t = 0; t < g.taps; ++t)
          dw[((group * g.F + f + m) * g.C + c0 + c) * g.taps + t] = sum[(t * rows + m) * lanes + c];
  });
}

// Lanes are filters, rows the (channel, tap) pairs: sums[part][group][lane block][panel][row][lane].
template <class T>
void weights_with_filter_lanes(const WeightGradient<T>& g, const T* x, const T* dout, T* dw) {
  constexpr Index lanes = tile_lanes<T>;
  const ConvShape& s = g.s;
  const Index products = g.C * g.taps;
  const Panels panels(products);
  const Index lane_blocks = (g.F + lanes - 1) / lanes, width = lane_blocks * lanes;
  PositionBlocks positions = g.positions;
  positions.groups = std::clamp<Index>(16 / s.groups, 1, positions.blocks);
  const int threads = threads_for(g.work());

  const Index most_positions = positions.images * positions.rows * positions.cols;
  const Index staged_size = g.C * g.staging.channel_size + lanes;
  const Index grad_size = (most_positions + Simd<T>::size) * width;
  const T* dout_end = dout + s.N * s.F * g.OH * g.OW;
  const Index packed_size = products * most_positions;
  const Index sum_size = products * width;
  Layout layout;
  const auto staged_piece = layout.per_thread<T>(threads, staged_size);
  const auto grad_piece = layout.per_thread<T>(threads, grad_size);
  const auto packed_piece = layout.per_thread<T>(threads, packed_size);
  const auto offset_piece = layout.array<Index>(most_positions + products);
  const auto sum_piece = layout.array<T>(checked_product(positions.groups * s.groups, sum_size));
  const Scratch scratch(layout.bytes());
  T* sums = sum_piece.in(scratch.data());
  Index* offset = offset_piece.in(scratch.data());
  Index* product_offset = offset + most_positions;
  for (Index k = 0; k < most_positions; ++k) offset[k] = k * width;
  g.pair_offsets(product_offset);

  parallel_for(positions.groups * s.groups, threads, [&](Index task, int slot) {
    const Index group = task % s.groups, part = task / s.groups;
    T* staged = staged_piece.of(scratch.data(), slot);
    T* grads = grad_piece.of(scratch.data(), slot);
    T* packed = packed_piece.of(scratch.data(), slot);
    T* sum = sums + task * sum_size;
    if (g.F < width) std::memset(grads, 0, grad_size * sizeof(T));
    const Index last = (part + 1) * positions.blocks / positions.groups;
    for (Index first = part * positions.blocks / positions.groups, block = first; block < last; ++block) {
      const Index K = g.positions_of(block);
      g.each_image(block, [&](Index n, Index, Index oh, Index ow, Index rows, Index cols, Index at) {
        const Index image = n * s.groups + group;
        for (Index c = 0; c < g.C; ++c)
          stage_plane(x + (image * g.C + c) * g.H * g.W, g.H, g.W, g.W, g.staging, oh, ow,
                      staged + c * g.staging.channel_size);
        const T* grad = dout + image * g.F * g.OH * g.OW + oh * g.OW + ow;
        for (Index i = 0; i < rows; ++i) {
          transpose_freely(grad + i * g.OW, g.OH * g.OW, g.F, cols, dout_end, grads + (at + i * cols) * width,
                           width);
          for (Index panel = 0; panel < panels.count; ++panel) {
            const Index height = panels.rows(panel), r = panels.first(panel);
            const T* row = staged + i * g.staging.pitch;
            pack_panel<T>([&](Index m) { return row + product_offset[r + m]; }, height, cols,
                          packed + r * K + (at + i * cols) * height, K - at - (i + 1) * cols);
          }
        }
      });
      for (Index v = 0; v < lane_blocks; ++v)
        for (Index panel = 0; panel < panels.count; ++panel) {
          const Index rows = panels.rows(panel), r = panels.first(panel);
          const T* source[tile_vectors];
          for (int u = 0; u < tile_vectors; ++u) source[u] = grads + v * lanes + u * Simd<T>::size;
          auto target = Target<T>::rows(sum + (v * products + r) * lanes, tile_vectors);
          target.add = block > first;
          packed_tile_kernel<T>(rows)(K, packed + r * K, rows, offset, source, target);
        }
    }
  });

  const Index all_sums = s.groups * sum_size;
  parallel_for(s.groups * lane_blocks, threads, [&](Index task, int) {
    const Index group = task / lane_blocks, v = task % lane_blocks;
    T* sum = sums + group * sum_size + v * products * lanes;
    for (Index part = 1; part < positions.groups; ++part)
      add_to(sum, sum + part * all_sums, products * lanes);
    const Index filters = std::min(lanes, g.F - v * lanes);
    for (Index f = 0; f < filters; ++f)
      for (Index r = 0; r < products; ++r)
        dw[(group * g.F + v * lanes + f) * products + r] = sum[r * lanes + f];
  });
}

// Whether the channels fill their vectors, channels and filters are enough to pay for packing dout, which
// other threads read, and for staging, and the result is large enough to be worth a loop over the threads for
// every block.
template <class T>
bool shared_panels_suit(const WeightGradient<T>& g) {
  constexpr Index lanes = tile_lanes<T>, fewest_products = 128, fewest_uses = 64, smallest_result = 4096;
  const Index filled = (g.C + lanes - 1) / lanes * lanes;
  return g.C > lanes && 8 * g.C >= 7 * filled && g.C * g.taps >= fewest_products &&
         g.F * g.taps >= fewest_uses && g.F * g.C * g.taps >= smallest_result;
}

// With db where that costs least on the way: it is null from then on. Without dw, db is made where it would
// be made with dw, so that it is the same bits.
template <class T>
void weights_direct(const T* x, const T* dout, T* dw, T*& db, const ConvShape& s) {
  constexpr Index most_positions = 256, most_shared_positions = 1024;
  Layout layout;
  const auto piece = layout.array<Index>(WeightGradient<T>::axis_indices(s));
  const Scratch scratch(layout.bytes());
  WeightGradient<T> g(s, piece.in(scratch.data()));
  if (s.N == 0 || s.OH == 0 || s.OW == 0) {
    if (dw != nullptr) std::fill_n(dw, s.F * g.C * g.taps, T(0));
    return;
  }
  // Multiplications that either choice spends on whole vectors; packing (channel, tap) rows costs
  // about as much as half a vector of filters.
  const auto vectors = [](Index n) { return (n + Simd<T>::size - 1) / Simd<T>::size; };
  const double by_channel = double(g.F) * g.taps * vectors(g.C);
  const double by_filter = double(g.C) * g.taps * (vectors(g.F) + vectors(g.F) % 2 + 1);
  const bool shared = by_filter >= by_channel && shared_panels_suit(g);
  if (!shared && tap_rows_suit<T>(s))
    return weights_with_tap_rows(g, x, dout, dw, std::exchange(db, nullptr));
  if (dw == nullptr) return;
  if (shared) {
    g.set_blocks(PositionBlocks::choose(s.N, g.OH, g.OW, most_shared_positions));
    return weights_with_shared_panels(g, x, dout, dw);
  }
  g.set_blocks(PositionBlocks::choose(s.N, g.OH, g.OW, most_positions));
  if (by_filter < by_channel)
    weights_with_filter_lanes(g, x, dout, dw);
  else if (g.C <= Simd<T>::size)
    weights_with_channel_lanes<T, 1>(g, x, dout, dw);
  else
    weights_with_channel_lanes<T, tile_vectors>(g, x, dout, dw);
}

// db[f] = sum over n and positions of dout[n, f].
template <class T>
void bias_gradient(const T* dout, T* db, Index N, Index F, Index plane) {
  parallel_for(F, threads_for(double(N) * F * plane), [&](Index f, int) {
    double total = 0;
    for (Index n = 0; n < N; ++n) total += sum(dout + (n * F + f) * plane, plane);
    db[f] = static_cast<T>(total);
  });
}

}  // namespace cnnlib::CNNLIB_ISA
