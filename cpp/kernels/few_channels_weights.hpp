// dw where an image has few channels, a first layer's say: dot products along the rows of dout and of the
// staged image, neither of which has to be turned.
#pragma once

#include "dots.hpp"
#include "weight_gradient.hpp"

namespace cnnlib::CNNLIB_ISA {

// The sums of a part of the work run lane by lane, [block of filters][block of pairs][filter][pair][lane],
// until the part is closed.
template <class T>
class WeightGradientFewChannels {
  using S = Simd<T>;

 public:
  WeightGradientFewChannels(const WeightGradient<T>& gradient, Index most_parts, int most_threads)
      : g(gradient), parts(most_parts), threads(most_threads) {
    g.pair_offsets(offset);
  }

  // Adds one block of output positions of an image (of one group) to the running sums, or starts them.
  void add(Index image, Index oh, Index ow, Index rows, Index cols, bool start, int slot, const T* x,
           const T* dout) const {
    T* staged = staged_piece.of(scratch.data(), slot);
    for (Index c = 0; c < g.C; ++c)
      stage_plane(x + (image * g.C + c) * g.H * g.W, g.H, g.W, g.W, g.staging, oh, ow,
                  staged + c * g.staging.channel_size);
    VectorAt* at = vector_piece.of(scratch.data(), slot);
    const Index whole = cols / S::size, partial = cols % S::size > 0 ? rows : 0;
    for (Index i = 0; i < rows; ++i) {
      for (Index j = 0; j < whole; ++j)
        at[i * whole + j] = {i * g.OW + j * S::size, i * g.staging.pitch + j * S::size};
      if (partial > 0)
        at[rows * whole + i] = {i * g.OW + whole * S::size, i * g.staging.pitch + whole * S::size};
    }
    const Index positions = g.OH * g.OW;
    const T* grad = dout + image * g.F * positions + oh * g.OW + ow;
    T* sum = running_piece.of(scratch.data(), slot);
    for (Index f = 0; f < g.F; f += dots)
      for (Index k = 0; k < pairs; k += dots, sum += block_size) {
        // The next filters' rows arrive while these are multiplied.
        const Index share = rows * g.OW / pair_blocks + 1;
        for (Index i = 0; i < dots; ++i)
          prefetch(grad + (f + dots + i) * positions + k / dots * share, share);
        const T *from_grad[dots], *from_image[dots];  // a last block repeats its last member
        for (Index i = 0; i < dots; ++i) {
          from_grad[i] = grad + std::min(f + i, g.F - 1) * positions;
          from_image[i] = staged + offset[std::min(k + i, pairs - 1)];
        }
        add_dot_products(from_grad, from_image, at, rows * whole, partial, cols % S::size, start, sum);
      }
  }

  // Adds the lanes up: these are the sums of the part from now on.
  void close(Index part, Index group, int slot) const {
    const T* running = running_piece.of(scratch.data(), slot);
    T* to = sums + (part * g.s.groups + group) * g.F * pairs;
    for (Index f = 0; f < g.F; ++f)
      for (Index k = 0; k < pairs; ++k)
        *to++ = S::sum(S::load(running + (f / dots * pair_blocks + k / dots) * block_size +
                               (f % dots * dots + k % dots) * S::size));
  }

  void finish(T* dw) const {
    const Index size = g.s.F * pairs;
    std::copy_n(sums, size, dw);
    for (Index part = 1; part < parts; ++part)
      for (Index i = 0; i < size; ++i) dw[i] += sums[part * size + i];
  }

 private:
  WeightGradient<T> g;
  Index parts;
  int threads;
  Index pairs = g.C * g.taps;
  Index filter_blocks = (g.F + dots - 1) / dots, pair_blocks = (pairs + dots - 1) / dots;
  Index block_size = dots * dots * S::size, running_size = filter_blocks * pair_blocks * block_size;
  Index staged_size = g.C * g.staging.channel_size + S::size;
  Index most_vectors_of_block = g.positions.rows * (g.positions.cols / S::size + 1);

  Layout layout;
  ThreadPiece<T> staged_piece = layout.per_thread<T>(threads, staged_size);
  ThreadPiece<VectorAt> vector_piece = layout.per_thread<VectorAt>(threads, most_vectors_of_block);
  ThreadPiece<T> running_piece = layout.per_thread<T>(threads, running_size);
  Piece<T> sum_piece = layout.array<T>(checked_product(parts, g.s.F* pairs));
  Piece<Index> offset_piece = layout.array<Index>(pairs);
  Scratch scratch{layout.bytes()};
  T* sums = sum_piece.in(scratch.data());
  Index* offset = offset_piece.in(scratch.data());
};

}  // namespace cnnlib::CNNLIB_ISA
