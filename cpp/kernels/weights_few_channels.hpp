// dw where an image has few channels, a first layer's say: dot products along the rows of dout and of the
// staged image, neither of which has to be turned.
#pragma once

#include "weight_gradient.hpp"

namespace cnnlib::CNNLIB_ISA {

// Filters and (channel, tap) pairs whose dot products are taken together.
#if defined(__AVX512F__)
constexpr int dots = 5;
#else
constexpr int dots = 3;
#endif

// sums[r][v] += over rows and columns of grad[r] * image[v], lane by lane.
template <class T>
void add_dot_products(const T* const* grad, Index grad_row, const T* const* image, Index pitch, Index rows,
                      Index cols, bool start, T* sums) {
  using S = Simd<T>;
  typename S::Packet sum[dots][dots];
#pragma GCC unroll 5
  for (int r = 0; r < dots; ++r)
#pragma GCC unroll 5
    for (int v = 0; v < dots; ++v) sum[r][v] = S::zero();
  const auto step = [&](const auto& load, Index i, Index j) {
    typename S::Packet x[dots];
#pragma GCC unroll 5
    for (int v = 0; v < dots; ++v) x[v] = load(image[v] + i * pitch + j);
#pragma GCC unroll 5
    for (int r = 0; r < dots; ++r) {
      const auto g = load(grad[r] + i * grad_row + j);
#pragma GCC unroll 5
      for (int v = 0; v < dots; ++v) sum[r][v] = S::fma(g, x[v], sum[r][v]);
    }
  };
  const Index whole = cols / S::size * S::size;
  for (Index i = 0; i < rows; ++i) {
    for (Index j = 0; j < whole; j += S::size) step([](const T* p) { return S::load(p); }, i, j);
    if (whole < cols) step([&](const T* p) { return S::load_lanes(p, 0, cols - whole); }, i, whole);
  }
#pragma GCC unroll 5
  for (int r = 0; r < dots; ++r)
#pragma GCC unroll 5
    for (int v = 0; v < dots; ++v) {
      T* to = sums + (r * dots + v) * S::size;
      S::store(to, start ? sum[r][v] : S::add(S::load(to), sum[r][v]));
    }
}

// sums[part][group][block of filters][block of pairs][filter][pair][lane], the lanes added up at the end.
template <class T>
void weights_few_channels(WeightGradient<T> g, const T* x, const T* dout, T* dw) {
  using S = Simd<T>;
  constexpr Index most_positions = 1024;
  const ConvShape& s = g.s;
  const Index pairs = g.C * g.taps, positions = g.OH * g.OW;
  const Index filter_blocks = (g.F + dots - 1) / dots, pair_blocks = (pairs + dots - 1) / dots;
  g.positions = PositionBlocks::choose(s.N, g.OH, g.OW, most_positions);
  g.staging.set_block(g.positions.rows, g.positions.cols);
  const Index parts = std::clamp<Index>(16 / s.groups, 1, g.positions.blocks);
  const int threads = threads_for(2.0 / 16 * s.N * s.F * pairs * positions);
  const Index staged_size = g.C * g.staging.channel_size + S::size;
  const Index block_size = dots * dots * S::size, sum_size = filter_blocks * pair_blocks * block_size;
  Layout layout;
  const auto staged_piece = layout.array<T>(checked_product(threads, staged_size));
  const auto sum_piece = layout.array<T>(checked_product(parts * s.groups, sum_size));
  const auto offset_piece = layout.array<Index>(pairs);
  const Scratch scratch(layout.bytes());
  T* sums = sum_piece.in(scratch.data());
  Index* offset = offset_piece.in(scratch.data());
  g.pair_offsets(offset);

  parallel_for(parts * s.groups, threads, [&](Index task, int slot) {
    const Index group = task % s.groups, part = task / s.groups;
    T* staged = staged_piece.in(scratch.data()) + slot * staged_size;
    bool start = true;
    for (Index block = part * g.positions.blocks / parts; block < (part + 1) * g.positions.blocks / parts;
         ++block)
      g.each_image(block, [&](Index n, Index, Index oh, Index ow, Index rows, Index cols, Index) {
        const Index image = n * s.groups + group;
        for (Index c = 0; c < g.C; ++c)
          stage_plane(x + (image * g.C + c) * g.H * g.W, g.H, g.W, g.W, g.staging, oh, ow,
                      staged + c * g.staging.channel_size);
        const T* grad = dout + image * g.F * positions + oh * g.OW + ow;
        T* sum = sums + task * sum_size;
        for (Index f = 0; f < g.F; f += dots)
          for (Index k = 0; k < pairs; k += dots, sum += block_size) {
            const T *from_grad[dots], *from_image[dots];  // a last block repeats its last member
            for (Index i = 0; i < dots; ++i) {
              from_grad[i] = grad + std::min(f + i, g.F - 1) * positions;
              from_image[i] = staged + offset[std::min(k + i, pairs - 1)];
            }
            add_dot_products(from_grad, g.OW, from_image, g.staging.pitch, rows, cols, start, sum);
          }
        start = false;
      });
  });

  parallel_for(s.groups * filter_blocks, threads, [&](Index task, int) {
    const Index group = task / filter_blocks, f0 = task % filter_blocks * dots;
    for (Index k = 0; k < pairs; ++k)
      for (Index f = f0; f < std::min(f0 + dots, g.F); ++f) {
        const T* from = sums + group * sum_size + (f / dots * pair_blocks + k / dots) * block_size +
                        (f % dots * dots + k % dots) * S::size;
        auto total = S::load(from);
        for (Index part = 1; part < parts; ++part)
          total = S::add(total, S::load(from + part * s.groups * sum_size));
        dw[(group * g.F + f) * pairs + k] = S::sum(total);
      }
  });
}

}  // namespace cnnlib::CNNLIB_ISA
