// Layer norm of each pixel over its channels, x (N, C, S): statistics over C for each of N * S pixels, a
// vector of pixels at a time.
#pragma once

#include <utility>

#include "kernels/channel_parts.hpp"
#include "kernels/norm/norm_sums.hpp"

namespace cnnlib::CNNLIB_ISA {

// Two sums over the channels, of what body(c, a, b) adds to a and b, in runs whose sums are added up: no
// chain of additions is long.
template <class T, class Body>
[[gnu::always_inline]] inline auto sums_of_channels(Index C, const Body& body) {
  using V = Simd<T>;
  constexpr Index run = 32;
  auto total_a = V::zero(), total_b = V::zero();
  for (Index first = 0; first < C; first += run) {
    auto a = V::zero(), b = V::zero();
    for (Index c = first; c < std::min(C, first + run); ++c) body(c, a, b);
    total_a = V::add(total_a, a);
    total_b = V::add(total_b, b);
  }
  return std::make_pair(total_a, total_b);
}

// A value for each pixel of a vector.
template <class T>
using PerLane = T[Simd<T>::size];

// A vector of pixels, the first `count` of which exist; their statistics go to mean and inv_std unless those
// are null. The mean in T serves as the origin of the deviations.
template <class T>
void pixel_norm(const T* x, const T* gamma, const T* beta, double eps, T* y, double* mean, double* inv_std,
                Index C, Index S, Index count) {
  using V = Simd<T>;
  const auto at = [=](Index c) { return load_first(x + c * S, count); };
  const auto origin =
      V::div(sums_of_channels<T>(C, [&](Index c, auto& sum, auto&) { sum = V::add(sum, at(c)); }).first,
             V::fill(T(C)));
  const auto [sum, square] = sums_of_channels<T>(C, [&](Index c, auto& a, auto& b) {
    const auto d = V::sub(at(c), origin);
    a = V::add(a, d);
    b = V::fma(d, d, b);
  });
  PerLane<T> origins, sums, squares, high, scale, shift;
  V::store(origins, origin);
  V::store(sums, sum);
  V::store(squares, square);
  double means[V::size], inv_stds[V::size];
#pragma omp simd
  for (int i = 0; i < V::size; ++i) {
    double var;
    Deviations{double(C), double(origins[i]), {double(sums[i]), double(squares[i])}}.moments_to(means + i,
                                                                                                &var);
    inv_stds[i] = inverse_deviation(C, var, eps);
    const Affine<T> normal(means[i], inv_stds[i], 0);
    high[i] = normal.high;
    scale[i] = normal.scale;
    shift[i] = normal.shift;
  }
  if (mean != nullptr) {
    std::copy_n(means, count, mean);
    std::copy_n(inv_stds, count, inv_std);
  }
  const auto h = V::load(high), by = V::load(scale), plus = V::load(shift);
  for (Index c = 0; c < C; ++c) {
    const auto normal = V::fma(V::sub(at(c), h), by, plus);
    store_first(y + c * S, count, V::fma(normal, V::fill(gamma[c]), V::fill(beta[c])));
  }
}

// mean and inv_std (N * S,) are for the backward pass, or null.
template <class T>
void pixel_norm_forward(const T* x, const T* gamma, const T* beta, double eps, T* y, double* mean,
                        double* inv_std, Index N, Index C, Index S) {
  constexpr Index lanes = Simd<T>::size;
  const bool wanted = mean != nullptr;
  parallel_grid({N, ceil_div(S, lanes)}, threads_for(double(N * C * S)), [&](Index n, Index v, int) {
    const Index i = v * lanes, at = n * C * S + i, pixel = n * S + i;
    pixel_norm(x + at, gamma, beta, eps, y + at, wanted ? mean + pixel : nullptr,
               wanted ? inv_std + pixel : nullptr, C, S, std::min(lanes, S - i));
  });
}

// dx of a vector of pixels, whose shares of dgamma and dbeta are added, lane by lane, to run_gamma and
// run_beta (C, lanes).
template <class T>
void pixel_norm_gradient(const T* dout, const T* x, const T* gamma, const double* mean, const double* inv_std,
                         T* dx, T* run_gamma, T* run_beta, Index C, Index S, Index count) {
  using V = Simd<T>;
  double means[V::size] = {}, inv_stds[V::size] = {};
  std::copy_n(mean, count, means);
  std::copy_n(inv_std, count, inv_stds);
  PerLane<T> high, scale, shift, sums, dots, by_douts, by_xs, constants;
#pragma omp simd
  for (int i = 0; i < V::size; ++i) {
    const Affine<T> normal(means[i], inv_stds[i], 0);
    high[i] = normal.high;
    scale[i] = normal.scale;
    shift[i] = normal.shift;
  }
  const auto h = V::load(high), by = V::load(scale), plus = V::load(shift);
  const auto [sum, dot] = sums_of_channels<T>(C, [&](Index c, auto& a, auto& b) {
    const auto g = V::mul(load_first(dout + c * S, count), V::fill(gamma[c]));
    a = V::add(a, g);
    b = V::fma(g, V::sub(load_first(x + c * S, count), h), b);
  });
  V::store(sums, sum);
  V::store(dots, dot);
#pragma omp simd
  for (int i = 0; i < V::size; ++i) {
    const double a = double(sums[i]), b = double(dots[i]) - low_part<T>(means[i], a);
    const NormGradient<T> of(means[i], inv_stds[i], 1, a / double(C), b * inv_stds[i] / double(C));
    by_douts[i] = of.by_dout;
    by_xs[i] = of.by_x;
    constants[i] = of.constant;
  }
  const auto by_dout = V::load(by_douts), by_x = V::load(by_xs), constant = V::load(constants);
  for (Index c = 0; c < C; ++c) {
    const auto g = load_first(dout + c * S, count), d = V::sub(load_first(x + c * S, count), h);
    T *to_gamma = run_gamma + c * V::size, *to_beta = run_beta + c * V::size;
    V::store(to_beta, V::add(V::load(to_beta), g));
    V::store(to_gamma, V::fma(g, V::fma(d, by, plus), V::load(to_gamma)));
    store_first(dx + c * S, count, V::fma(V::mul(g, V::fill(gamma[c])), by_dout, V::fma(d, by_x, constant)));
  }
}

// The vectors are cut into parts that depend on the shape alone; each adds up dgamma and dbeta, runs of
// vectors in T and these in double.
template <class T>
void pixel_norm_backward(const T* dout, const T* x, const double* mean, const double* inv_std, const T* gamma,
                         T* dx, T* dgamma, T* dbeta, Index N, Index C, Index S) {
  using V = Simd<T>;
  constexpr Index run = 16, least = 8, most_parts = 64;
  const Index of_image = ceil_div(S, V::size), vectors = N * of_image,
              parts = std::clamp<Index>(vectors / least, 1, most_parts);
  const int threads = threads_for(3.0 * double(N * C * S));
  const ScratchArray<TwoSums> all_totals(checked_product(parts, C));
  const ScratchArray<T, ThreadReserved> all_runs(threads, checked_product(2 * V::size, C));
  TwoSums* totals = all_totals.data();  // [part][C]: dbeta and dgamma
  parallel_for(parts, threads, [&](Index part, int slot) {
    T *run_gamma = all_runs[slot], *run_beta = run_gamma + C * V::size;
    TwoSums* total = totals + part * C;
    std::fill_n(total, C, TwoSums{});
    const Range own = range_of(vectors, part, parts);
    for (Index first = own.first; first < own.last; first += run) {
      std::fill_n(run_gamma, 2 * C * V::size, T(0));
      for (Index v = first; v < std::min(first + run, own.last); ++v) {
        const Index n = v / of_image, i = v % of_image * V::size, at = n * C * S + i, pixel = n * S + i;
        pixel_norm_gradient(dout + at, x + at, gamma, mean + pixel, inv_std + pixel, dx + at, run_gamma,
                            run_beta, C, S, std::min<Index>(V::size, S - i));
      }
      for (Index c = 0; c < C; ++c)
        total[c].add({double(V::sum(V::load(run_beta + c * V::size))),
                      double(V::sum(V::load(run_gamma + c * V::size)))});
    }
  });
  add_parts_up(parts, C, totals, dgamma, dbeta);
}

}  // namespace cnnlib::CNNLIB_ISA
