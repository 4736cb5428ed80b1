// The gradients of layer norm.
#pragma once

#include "kernels/norm/row_tasks.hpp"

namespace cnnlib::CNNLIB_ISA {

// dx of D values of a row, whose shares of dgamma and dbeta are added to those of its run.
template <class T>
void layernorm_row_gradient(const T* dout, const T* x, const T* gamma, const Affine<T>& normal,
                            const NormGradient<T>& gradient, T* dx, T* run_gamma, T* run_beta, Index D,
                            bool non_temporal) {
  using S = Simd<T>;
  const auto high = S::fill(normal.high), scale = S::fill(normal.scale), shift = S::fill(normal.shift);
  const auto by_dout = S::fill(gradient.by_dout), by_x = S::fill(gradient.by_x);
  const auto constant = S::fill(gradient.constant);
  write_vectors(dx, D, non_temporal, [&](Index j, Index count) {
    const auto g = load_first(dout + j, count), d = S::sub(load_first(x + j, count), high);
    store_first(run_beta + j, count, S::add(load_first(run_beta + j, count), g));
    store_first(run_gamma + j, count, S::fma(g, S::fma(d, scale, shift), load_first(run_gamma + j, count)));
    return S::fma(S::mul(g, load_first(gamma + j, count)), by_dout, S::fma(d, by_x, constant));
  });
}

// Gradients of layer norm, x (N, D), where every column has its own gamma. The rows are cut into parts that
// depend on the shape alone; each adds up dgamma and dbeta, short runs of rows in T and these in double.
template <class T>
void layernorm_backward(const T* dout, const T* x, const double* mean, const double* inv_std, const T* gamma,
                        T* dx, T* dgamma, T* dbeta, Index N, Index D) {
  constexpr Index run = 16, most_parts = 64;
  const Index parts = std::clamp<Index>(N / run, 1, most_parts);
  const SumParts row_parts{D};
  const int threads = threads_for(3.0 * double(N) * double(D));
  // Few parts are cut by columns, too, of which the rows' sums have to be known before.
  const Index wanted = ceil_div(PlaneGrid::tasks_per_thread * threads, parts);
  const bool cut = threads > 1 && parts < 2 * threads;
  const Index block = cut ? even_part(D, ceil_div(D, wanted), PlaneGrid::column_unit) : D,
              blocks = ceil_div(D, block);
  const bool non_temporal = use_non_temporal<T>(N * D, D);
  const bool prefetches = prefetches_rows<T>(D, N * D) && !cut;
  const ScratchArray<TwoSums> total_memory(checked_product(parts, D));
  const ScratchArray<T, ThreadReserved> run_memory(threads, checked_product(2, block));
  const ScratchArray<TwoSums> row_memory(cut ? N * row_parts.count : 0);
  TwoSums* totals = total_memory.data();  // [part][D]: dbeta and dgamma
  TwoSums* partial = row_memory.data();
  const auto sums_of = [=](Index n, Index i) {
    const Index first = row_parts.first(i), at = n * D + first, count = row_parts.values(i);
    // x-hat's gradient is dout * gamma.
    return gradient_sums(dout + at, x + at, mean[n], 1, count, count,
                         [by = gamma + first](auto grad, auto, Index j, Index lanes) {
                           return Simd<T>::mul(grad, load_first(by + j, lanes));
                         });
  };
  if (cut)
    parallel_grid({N, row_parts.count}, threads,
                  [=](Index n, Index i, int) { partial[n * row_parts.count + i] = sums_of(n, i); });
  parallel_grid({parts, blocks}, threads, [&](Index part, Index columns, int slot) {
    const Index j = columns * block, width = std::min(block, D - j);
    T *run_gamma = run_memory[slot], *run_beta = run_gamma + width;
    TwoSums* total = totals + part * D + j;
    std::fill_n(total, width, TwoSums{});
    const Range own = range_of(N, part, parts);
    for (Index first = own.first; first < own.last; first += run) {
      std::fill_n(run_gamma, 2 * width, T(0));
      for (Index n = first; n < std::min(first + run, own.last); ++n) {
        const Index at = n * D + j;
        const TwoSums sums = sum_of_parts<TwoSums>(
            row_parts.count, [&](Index i) { return cut ? partial[n * row_parts.count + i] : sums_of(n, i); });
        if (prefetches && n + 1 < own.last) {
          prefetch(dout + at + D, D);
          prefetch(x + at + D, D);
        }
        const Affine<T> normal(mean[n], inv_std[n], 0);
        const NormGradient<T> of(mean[n], inv_std[n], 1, sums.a / double(D), sums.b * inv_std[n] / double(D));
        layernorm_row_gradient(dout + at, x + at, gamma + j, normal, of, dx + at, run_gamma, run_beta, width,
                               non_temporal);
      }
      for (Index i = 0; i < width; ++i) total[i].add({double(run_beta[i]), double(run_gamma[i])});
    }
    store_fence();
  });
  add_parts_up(parts, D, totals, dgamma, dbeta);
}

}  // namespace cnnlib::CNNLIB_ISA
