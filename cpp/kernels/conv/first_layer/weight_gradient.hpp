// dw where an image has few channels, a first layer's say: dot products along the rows of dout and of the
// staged image, neither of which has to be turned.
#pragma once

#include "kernels/conv/weight_gradient/blocks.hpp"
#include "kernels/gemm/dot_product.hpp"
#include "kernels/simd/loops.hpp"
#include "kernels/simd/sums.hpp"

namespace cnnlib::CNNLIB_ISA {

// The sums of a part of the work run lane by lane, [block of filters][block of pairs][filter][pair][lane],
// until the part is closed. Where the pairs leave room in their last block, db is one of them, with ones for
// the image. Without dw that is all there is to do; x is not read then.
template <class T>
class WeightGradientFewChannels {
  using S = Simd<T>;

 public:
  WeightGradientFewChannels(const WeightGradient<T>& gradient, bool want_dw, Index most_parts,
                            int most_threads)
      : g(gradient), with_dw(want_dw), parts(most_parts), threads(most_threads) {
    g.pair_offsets(offset);
  }

  static bool leaves_room(const WeightGradient<T>& g) { return g.C * g.taps % dot_block != 0; }

  // Adds one block of output positions of an image (of one group) to the running sums, or starts them.
  void add(Index image, Index oh, Index ow, Index rows, Index cols, bool start, int slot, const T* x,
           const T* dout) const {
    T* staged = staged_piece.of(scratch.data(), slot);
    if (start) std::fill_n(staged + ones_at, ones_size, T(1));
    for (Index c = 0; with_dw && c < g.C; ++c)
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
    for (Index block = 0; block < filters.count; ++block) {
      const Index f = filters.first(block), height = filters.rows(block);
      const auto kernel = dot_kernel<T>(height);
      for (Index k = 0; k < pair_blocks * dot_block; k += dot_block, sum += height * dot_block * S::size) {
        if (fetches) {  // the next filters' rows arrive while these are multiplied
          const Index share = rows * g.OW / pair_blocks + 1;
          for (Index i = 0; i < height; ++i)
            prefetch(grad + (f + height + i) * positions + k / dot_block * share, share);
        }
        const T *from_grad[dot_block], *from_image[dot_block];
        for (Index i = 0; i < height; ++i) from_grad[i] = grad + (f + i) * positions;
        for (Index i = 0; i < dot_block; ++i)
          from_image[i] = staged + (k + i < pairs ? offset[k + i] : ones_at);
        kernel(from_grad, from_image, at, rows * whole, partial, cols % S::size, start, sum);
      }
    }
  }

  // Adds the lanes up: these are the sums of the part from now on.
  void close(Index part, Index group, int slot) const {
    sum_each(running_piece.of(scratch.data(), slot), sum_count,
             sums + (part * g.s.groups + group) * sum_count);
  }

  // Either may be null, dw as agreed.
  void finish(T* dw, T* db) const {
    for (Index part = 1; part < parts; ++part)
      add_to(sums, sums + part * g.s.groups * sum_count, g.s.groups * sum_count);
    for (Index group = 0; group < g.s.groups; ++group)
      for (Index block = 0; block < filters.count; ++block) {
        const Index height = filters.rows(block);
        const T* sum = sums + group * sum_count + filters.first(block) * pair_blocks * dot_block;
        const auto total = [&](Index i, Index k) {
          return sum[(k / dot_block * height + i) * dot_block + k % dot_block];
        };
        for (Index i = 0; i < height; ++i) {
          for (Index k = 0; k < pairs; ++k) *dw++ = total(i, k);
          if (db != nullptr) *db++ = total(i, pairs);
        }
      }
  }

 private:
  WeightGradient<T> g;
  bool with_dw;
  Index parts;
  int threads;
  Index pairs = with_dw ? g.C * g.taps : 0;
  Index pair_blocks = (pairs + leaves_room(g) + dot_block - 1) / dot_block;
  Panels filters{g.F, dot_block};
  // What comes from a cache (up to a quarter of what is written past them) costs less than asking for it; so
  // does what few products share, from memory too.
  bool fetches = g.taps > 1 && use_non_temporal<T>(4 * g.s.N * g.s.F * g.OH * g.OW);
  Index sum_count = g.F * pair_blocks * dot_block;  // [block of filters][block of pairs][filter][pair]
  Index ones_at = g.C * g.staging.channel_size + S::size;
  Index ones_size = leaves_room(g) ? g.positions.rows * g.staging.pitch + S::size : 0;
  Index staged_size = ones_at + ones_size;
  Index most_vectors_of_block = g.positions.rows * (g.positions.cols / S::size + 1);

  Layout layout;
  ThreadPiece<T> staged_piece = layout.per_thread<T>(threads, staged_size);
  ThreadPiece<VectorAt> vector_piece = layout.per_thread<VectorAt>(threads, most_vectors_of_block);
  ThreadPiece<T> running_piece = layout.per_thread<T>(threads, sum_count* S::size);
  Piece<T> sum_piece = layout.array<T>(checked_product(parts, g.s.groups* sum_count));
  Piece<Index> offset_piece = layout.array<Index>(g.C * g.taps);
  Scratch scratch{layout.bytes()};
  T* sums = sum_piece.in(scratch.data());
  Index* offset = offset_piece.in(scratch.data());
};

}  // namespace cnnlib::CNNLIB_ISA
