// Dot products of several vectors with several others, both of which lie along the sum in memory: nothing has
// to be packed, and the lanes of each sum are added up at the end (S::sum, sum_each).
#pragma once

#include "kernels/gemm/micro_kernel.hpp"

namespace cnnlib::CNNLIB_ISA {

// A register block multiplies this number of vectors with as many others.
constexpr int dot_block = InstructionSet::dot_block;

// Where the next vectors lie from the beginnings of both sides.
struct VectorAt {
  Index left, right;
};

// sums[r][v] (+)= over the vectors of left[r] * right[v], lane by lane, r < R, v < dot_block. The last
// `partial` vectors have `lanes` lanes each.
template <class T, int R>
void add_dot_products(const T* const* left, const T* const* right, const VectorAt* at, Index whole,
                      Index partial, Index lanes, bool start, T* sums) {
  using S = Simd<T>;
  typename S::Packet sum[R][dot_block];
  const T *g[R], *x[dot_block];
#pragma GCC unroll 5
  for (int v = 0; v < dot_block; ++v) x[v] = right[v];
#pragma GCC unroll 5
  for (int r = 0; r < R; ++r) {
    g[r] = left[r];
#pragma GCC unroll 5
    for (int v = 0; v < dot_block; ++v) sum[r][v] = S::zero();
  }
  const auto step = [&](const auto& load, const VectorAt& p) {
    typename S::Packet xv[dot_block];
#pragma GCC unroll 5
    for (int v = 0; v < dot_block; ++v) xv[v] = load(x[v] + p.right);
#pragma GCC unroll 5
    for (int r = 0; r < R; ++r) {
      const auto gv = load(g[r] + p.left);
#pragma GCC unroll 5
      for (int v = 0; v < dot_block; ++v) sum[r][v] = S::fma(gv, xv[v], sum[r][v]);
    }
  };
  for (Index i = 0; i < whole; ++i) step([](const T* p) { return S::load(p); }, at[i]);
  for (Index i = whole; i < whole + partial; ++i)
    step([&](const T* p) { return S::load_lanes(p, 0, lanes); }, at[i]);
#pragma GCC unroll 5
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 5
    for (int v = 0; v < dot_block; ++v) {
      T* to = sums + (r * dot_block + v) * S::size;
      S::store(to, start ? sum[r][v] : S::add(S::load(to), sum[r][v]));
    }
}

// The kernel for `rows` vectors of the left side, 1 to dot_block.
template <class T>
auto dot_kernel(Index rows) {
  static constexpr auto table = kernels_by_rows<dot_block>([](auto R) { return &add_dot_products<T, R()>; });
  return table[rows - 1];
}

}  // namespace cnnlib::CNNLIB_ISA
