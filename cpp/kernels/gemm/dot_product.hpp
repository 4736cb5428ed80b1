// Dot products of several vectors with several others, both of which lie along the sum in memory: nothing has
// to be packed, and the lanes of each sum are added up at the end (S::sum, sum_each).
#pragma once

#include "kernels/gemm/micro_kernel.hpp"

namespace cnnlib::CNNLIB_ISA {

// A register block multiplies up to dot_rows vectors with dot_block others.
constexpr int dot_block = InstructionSet::dot_block, dot_rows = InstructionSet::dot_rows;

// Where the next vectors lie from the beginnings of both sides.
struct VectorAt {
  Index left, right;
};

// sums[r][v] (+)= over `tails` vectors of left_tails[r] * right[v] and then `whole` vectors of left[r] *
// right[v], lane by lane, r < R, v < dot_block. `tail_mask` has all bits of the lanes that count in tails.
// The others are cleared after the tails, once for all: clearing them in each vector takes 15 % longer.
template <class T, int R>
void add_dot_products(const T* const* left, const T* const* left_tails, const T* const* right,
                      const VectorAt* at, Index whole, Index tails, const T* tail_mask, bool start, T* sums) {
  using S = Simd<T>;
  Packet<T> sum[R][dot_block];
  const T *g[R], *x[dot_block];
#pragma GCC unroll 5
  for (int v = 0; v < dot_block; ++v) x[v] = right[v];
#pragma GCC unroll 5
  for (int r = 0; r < R; ++r) {
    g[r] = left_tails[r];
#pragma GCC unroll 5
    for (int v = 0; v < dot_block; ++v) sum[r][v] = S::zero();
  }
  const auto step = [&](const VectorAt& p) {
    Packet<T> xv[dot_block];
#pragma GCC unroll 5
    for (int v = 0; v < dot_block; ++v) xv[v] = S::load(x[v] + p.right);
#pragma GCC unroll 5
    for (int r = 0; r < R; ++r) {
      const auto gv = S::load(g[r] + p.left);
#pragma GCC unroll 5
      for (int v = 0; v < dot_block; ++v) sum[r][v] = S::fma(gv, xv[v], sum[r][v]);
    }
  };
  if (tails > 0) {
    for (Index i = whole; i < whole + tails; ++i) step(at[i]);
    const auto mask = S::load(tail_mask);
#pragma GCC unroll 5
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 5
      for (int v = 0; v < dot_block; ++v) sum[r][v] = S::bitwise_and(sum[r][v], mask);
  }
#pragma GCC unroll 5
  for (int r = 0; r < R; ++r) g[r] = left[r];
  for (Index i = 0; i < whole; ++i) step(at[i]);
#pragma GCC unroll 5
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 5
    for (int v = 0; v < dot_block; ++v) {
      T* to = sums + (r * dot_block + v) * S::size;
      S::store(to, start ? sum[r][v] : S::add(S::load(to), sum[r][v]));
    }
}

// The kernel for `rows` vectors of the left side, 1 to dot_rows.
template <class T>
auto dot_kernel(Index rows) {
  static constexpr auto table = kernels_by_rows<dot_rows>([](auto R) { return &add_dot_products<T, R()>; });
  return table[rows - 1];
}

}  // namespace cnnlib::CNNLIB_ISA
