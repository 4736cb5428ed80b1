// Layer norm of each pixel over its channels, forward: x (N, C, S), statistics over C for each of N * S
// pixels.
#pragma once

#include "kernels/simd/loops.hpp"
#include "threads/parallel.hpp"

namespace cnnlib::CNNLIB_ISA {

// The sum of value(c) over the channels, in runs whose sums are added up: no chain of additions is long.
template <class T, class Value>
typename Simd<T>::Packet sum_of_channels(Index C, const Value& value) {
  using V = Simd<T>;
  constexpr Index run = 32;
  auto total = V::zero();
  for (Index first = 0; first < C; first += run) {
    auto part = value(first);
    for (Index c = first + 1; c < std::min(C, first + run); ++c) part = V::add(part, value(c));
    total = V::add(total, part);
  }
  return total;
}

// A vector of pixels, the first `count` of which exist: mean, then the mean square of what is left, then the
// result, channel by channel.
template <class T>
void pixel_norm(const T* x, const T* gamma, const T* beta, T eps, T* y, Index C, Index S, Index count) {
  using V = Simd<T>;
  const auto over = V::fill(T(C));
  const auto at = [=](Index c) { return load_first(x + c * S, count); };
  const auto mean = V::div(sum_of_channels<T>(C, at), over);
  const auto var = V::div(sum_of_channels<T>(C,
                                             [=](Index c) {
                                               const auto d = V::sub(at(c), mean);
                                               return V::mul(d, d);
                                             }),
                          over);
  const auto inv_std = V::div(V::fill(T(1)), V::sqrt(V::add(var, V::fill(eps))));
  for (Index c = 0; c < C; ++c) {
    const auto scaled = V::mul(V::sub(at(c), mean), inv_std);
    V::store_lanes(y + c * S, V::fma(scaled, V::fill(gamma[c]), V::fill(beta[c])), 0, count);
  }
}

template <class T>
void pixel_norm_forward(const T* x, const T* gamma, const T* beta, double eps, T* y, Index N, Index C,
                        Index S) {
  constexpr Index lanes = Simd<T>::size;
  const Index vectors = ceil_div(S, lanes);
  parallel_for(N * vectors, threads_for(double(N * C * S)), [&](Index task, int) {
    const Index at = task / vectors * C * S + task % vectors * lanes;
    const Index count = std::min(lanes, S - task % vectors * lanes);
    pixel_norm(x + at, gamma, beta, T(eps), y + at, C, S, count);
  });
}

}  // namespace cnnlib::CNNLIB_ISA
