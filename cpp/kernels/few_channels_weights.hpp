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

// Where a vector of output positions lies in dout and in the staged image.
struct VectorAt {
  Index grad, image;
};

// sums[r][v] (+)= over the vectors of grad[r] * image[v], lane by lane. The last `partial` vectors have
// `lanes` lanes each.
template <class T>
void add_dot_products(const T* const* grad, const T* const* image, const VectorAt* at, Index whole,
                      Index partial, Index lanes, bool start, T* sums) {
  using S = Simd<T>;
  typename S::Packet sum[dots][dots];
  const T *g[dots], *x[dots];
#pragma GCC unroll 5
  for (int r = 0; r < dots; ++r) {
    g[r] = grad[r];
    x[r] = image[r];
#pragma GCC unroll 5
    for (int v = 0; v < dots; ++v) sum[r][v] = S::zero();
  }
  const auto step = [&](const auto& load, const VectorAt& p) {
    typename S::Packet xv[dots];
#pragma GCC unroll 5
    for (int v = 0; v < dots; ++v) xv[v] = load(x[v] + p.image);
#pragma GCC unroll 5
    for (int r = 0; r < dots; ++r) {
      const auto gv = load(g[r] + p.grad);
#pragma GCC unroll 5
      for (int v = 0; v < dots; ++v) sum[r][v] = S::fma(gv, xv[v], sum[r][v]);
    }
  };
  for (Index i = 0; i < whole; ++i) step([](const T* p) { return S::load(p); }, at[i]);
  for (Index i = whole; i < whole + partial; ++i)
    step([&](const T* p) { return S::load_lanes(p, 0, lanes); }, at[i]);
#pragma GCC unroll 5
  for (int r = 0; r < dots; ++r)
#pragma GCC unroll 5
    for (int v = 0; v < dots; ++v) {
      T* to = sums + (r * dots + v) * S::size;
      S::store(to, start ? sum[r][v] : S::add(S::load(to), sum[r][v]));
    }
}

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
        const Index ahead = (f + dots) * positions, bytes = dots * positions * Index(sizeof(T));
        for (Index at_byte = k / dots * bytes / pair_blocks / 64 * 64;
             at_byte < (k / dots + 1) * bytes / pair_blocks; at_byte += 64)
          __builtin_prefetch(reinterpret_cast<const char*>(grad + ahead) + at_byte);
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
