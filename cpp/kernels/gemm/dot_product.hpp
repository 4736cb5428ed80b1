// Dot products of several vectors with several others, where both lie along the sum.
#pragma once

#include "kernels/gemm/micro_kernel.hpp"

namespace cnnlib::CNNLIB_ISA {

// How many vectors of either side are multiplied with each other together.
constexpr int dots = InstructionSet::dot_block;

// Where the next vectors lie from the beginnings of both sides.
struct VectorAt {
  Index left, right;
};

// sums[r][v] (+)= over the vectors of left[r] * right[v], lane by lane, r < R, v < dots. The last `partial`
// vectors have `lanes` lanes each.
template <class T, int R>
void add_dot_products(const T* const* left, const T* const* right, const VectorAt* at, Index whole,
                      Index partial, Index lanes, bool start, T* sums) {
  using S = Simd<T>;
  typename S::Packet sum[R][dots];
  const T *g[R], *x[dots];
#pragma GCC unroll 5
  for (int v = 0; v < dots; ++v) x[v] = right[v];
#pragma GCC unroll 5
  for (int r = 0; r < R; ++r) {
    g[r] = left[r];
#pragma GCC unroll 5
    for (int v = 0; v < dots; ++v) sum[r][v] = S::zero();
  }
  const auto step = [&](const auto& load, const VectorAt& p) {
    typename S::Packet xv[dots];
#pragma GCC unroll 5
    for (int v = 0; v < dots; ++v) xv[v] = load(x[v] + p.right);
#pragma GCC unroll 5
    for (int r = 0; r < R; ++r) {
      const auto gv = load(g[r] + p.left);
#pragma GCC unroll 5
      for (int v = 0; v < dots; ++v) sum[r][v] = S::fma(gv, xv[v], sum[r][v]);
    }
  };
  for (Index i = 0; i < whole; ++i) step([](const T* p) { return S::load(p); }, at[i]);
  for (Index i = whole; i < whole + partial; ++i)
    step([&](const T* p) { return S::load_lanes(p, 0, lanes); }, at[i]);
#pragma GCC unroll 5
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 5
    for (int v = 0; v < dots; ++v) {
      T* to = sums + (r * dots + v) * S::size;
      S::store(to, start ? sum[r][v] : S::add(S::load(to), sum[r][v]));
    }
}

template <class T>
using DotKernel = void (*)(const T* const* left, const T* const* right, const VectorAt* at, Index whole,
                           Index partial, Index lanes, bool start, T* sums);

template <class T, int... R>
constexpr std::array<DotKernel<T>, sizeof...(R)> dot_kernels(std::integer_sequence<int, R...>) {
  return {&add_dot_products<T, R + 1>...};
}

// The kernel for `rows` vectors of the left side, 1 to dots.
template <class T>
DotKernel<T> dot_kernel(Index rows) {
  static constexpr auto table = dot_kernels<T>(std::make_integer_sequence<int, dots>());
  return table[rows - 1];
}

}  // namespace cnnlib::CNNLIB_ISA
