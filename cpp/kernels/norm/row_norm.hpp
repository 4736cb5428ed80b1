// Layer and group norm: statistics of each row of channels * S values.
#pragma once

#include "kernels/norm/norm_sums.hpp"

namespace cnnlib::CNNLIB_ISA {

// body(row) for all rows of `size` values, in parallel.
template <class T, class Body>
void each_norm_row(Index rows, Index size, const Body& body) {
  parallel_ranges(rows, std::max<Index>(1, 8192 / std::max<Index>(1, size)), 2.0 * double(size),
                  [&](Index begin, Index end) {
                    for (Index row = begin; row < end; ++row) body(row);
                    store_fence();
                  });
}

// Whether a pass over long rows should ask for the next one meanwhile: where they come from memory.
template <class T>
bool rows_from_memory(Index size, Index all) {
  constexpr Index long_row = 2 << 10, caches = 8 << 20;
  return size * Index(sizeof(T)) >= long_row && all * Index(sizeof(T)) >= caches;
}

// mean and inv_std (rows,) are filled for the backward pass.
template <class T>
void rownorm_forward(const T* x, const T* gamma, const T* beta, double eps, T* y, double* mean,
                     double* inv_std, const RowNormShape& s) {
  using S = Simd<T>;
  const Index size = s.channels * s.S;
  const bool non_temporal = use_non_temporal<T>(s.rows * size) && s.S % S::size == 0;
  const bool past_by_row = use_non_temporal<T>(s.rows * size) && size % S::size == 0;
  each_norm_row<T>(s.rows, size, [&](Index r) {
    const T* row = x + r * size;
    const Moments m = deviations_of(row, 1, size, size).moments();
    mean[r] = m.mean;
    inv_std[r] = 1 / std::sqrt(m.var + eps);
    if (s.S == 1 && s.channels == s.C) {  // layer norm: each column has its own gamma
      const Affine<T> a(m.mean, inv_std[r], 0);
      const auto high = S::fill(a.high), scale = S::fill(a.scale), shift = S::fill(a.shift);
      return write_vectors(y + r * size, size, past_by_row, [&](Index c, Index count) {
        const auto normal = S::fma(S::sub(load_first(row + c, count), high), scale, shift);
        return S::fma(normal, load_first(gamma + c, count), load_first(beta + c, count));
      });
    }
    for (Index c = 0; c < s.channels; ++c) {
      const Index channel = (r * s.channels + c) % s.C;
      const Affine<T> a(m.mean, inv_std[r] * double(gamma[channel]), double(beta[channel]));
      a.template apply<false>(row + c * s.S, y + r * size + c * s.S, s.S, non_temporal);
    }
  });
}

// Gradients of layer norm, where every column has its own gamma. The rows are cut into parts that depend on
// the shape alone; each adds up dgamma and dbeta, short runs of rows in T and these in double.
template <class T>
void layernorm_backward(const T* dout, const T* x, const double* mean, const double* inv_std, const T* gamma,
                        T* dx, T* dgamma, T* dbeta, Index N, Index D) {
  using S = Simd<T>;
  constexpr Index run = 16;
  const int threads = threads_for(3.0 * N * D);
  const bool non_temporal = use_non_temporal<T>(N * D) && D % S::size == 0,
             requests = rows_from_memory<T>(D, N * D);
  const Index parts = std::clamp<Index>(N / run, 1, 16);
  Layout layout;
  const auto total_piece = layout.array<double>(checked_product(2 * parts, D));
  const auto run_piece = layout.per_thread<T>(threads, checked_product(2, D));
  const Scratch scratch(layout.bytes());
  double* totals = total_piece.in(scratch.data());  // [part][dgamma, dbeta][D]
  std::fill_n(totals, 2 * parts * D, 0.0);
  parallel_for(parts, threads, [&](Index part, int slot) {
    T *run_gamma = run_piece.of(scratch.data(), slot), *run_beta = run_gamma + D;
    double* total = totals + 2 * part * D;
    const Index last = (part + 1) * N / parts;
    for (Index first = part * N / parts; first < last; first += run) {
      std::fill_n(run_gamma, 2 * D, T(0));
      for (Index n = first; n < std::min(first + run, last); ++n) {
        const T *row = x + n * D, *grad = dout + n * D;
        const Affine<T> normal(mean[n], inv_std[n], 0);
        const auto high = S::fill(normal.high), scale = S::fill(normal.scale), shift = S::fill(normal.shift);
        TwoSums sums;
        each_run(1, D, D, [&](Index at, Index, Index size) {
          const auto part = run_sums<T>(1, size, size, [&](Index i, Index count, auto& a, auto& b) {
            const auto g = S::mul(load_first(grad + at + i, count), load_first(gamma + at + i, count));
            a = S::add(a, g);
            b = S::fma(g, S::sub(load_first(row + at + i, count), high), b);
          });
          sums.a += part.a;
          sums.b += part.b;
        });
        sums.b -= sums.a * (mean[n] - double(normal.high));
        if (requests && n + 1 < last) {
          prefetch(grad + D, D);
          prefetch(row + D, D);
        }
        const NormGradient<T> of(mean[n], inv_std[n], 1, sums.a / double(D), sums.b * inv_std[n] / double(D));
        const auto by_dout = S::fill(of.by_dout), by_x = S::fill(of.by_x), constant = S::fill(of.constant);
        write_vectors(dx + n * D, D, non_temporal, [&](Index j, Index count) {
          const auto g = load_first(grad + j, count), d = S::sub(load_first(row + j, count), high);
          store_first(run_beta + j, count, S::add(load_first(run_beta + j, count), g));
          store_first(run_gamma + j, count,
                      S::fma(g, S::fma(d, scale, shift), load_first(run_gamma + j, count)));
          return S::fma(S::mul(g, load_first(gamma + j, count)), by_dout, S::fma(d, by_x, constant));
        });
      }
      for (Index j = 0; j < 2 * D; ++j) total[j] += double(run_gamma[j]);
    }
    store_fence();
  });
  for (Index part = 1; part < parts; ++part)
    for (Index j = 0; j < 2 * D; ++j) totals[j] += totals[2 * part * D + j];
  for (Index j = 0; j < D; ++j) {
    dgamma[j] = T(totals[j]);
    dbeta[j] = T(totals[D + j]);
  }
}

template <class T>
void rownorm_backward(const T* dout, const T* x, const double* mean, const double* inv_std, const T* gamma,
                      T* dx, T* dgamma, T* dbeta, const RowNormShape& s) {
  const Index size = s.channels * s.S;
  if (s.S == 1 && s.channels == s.C)
    return layernorm_backward(dout, x, mean, inv_std, gamma, dx, dgamma, dbeta, s.rows, size);
  // Sums of each (row, channel), from which both the row's and the channel's totals come.
  Layout layout;
  const auto piece = layout.array<TwoSums>(s.rows * s.channels), total_piece = layout.array<TwoSums>(s.C);
  const Scratch scratch(layout.bytes());
  TwoSums* sums = piece.in(scratch.data());
  const bool non_temporal = use_non_temporal<T>(s.rows * size) && s.S % Simd<T>::size == 0;
  const bool requests = rows_from_memory<T>(size, s.rows * size);
  each_norm_row<T>(s.rows, size, [&](Index r) {
    const Index first = r * s.channels;
    const T* scales = gamma + first % s.C;  // of the row's channels
    TwoSums total;
    for (Index c = 0; c < s.channels; ++c) {
      const Index at = (first + c) * s.S;
      TwoSums& own = sums[first + c];
      own = gradient_sums(dout + at, x + at, mean[r], 1, s.S, s.S);
      own.b *= inv_std[r];
      total.a += own.a * double(scales[c]);
      total.b += own.b * double(scales[c]);
    }
    NormGradient<T> gradient(mean[r], inv_std[r], 1, total.a / double(size), total.b / double(size));
    for (Index c = 0; c < s.channels; ++c) {
      const Index at = (first + c) * s.S;
      if (requests && r + 1 < s.rows) {
        prefetch(dout + at + size, s.S);
        prefetch(x + at + size, s.S);
      }
      gradient.by_dout = T(inv_std[r] * double(scales[c]));
      gradient.apply(dout + at, x + at, dx + at, s.S, non_temporal);
    }
  });
  TwoSums* total = total_piece.in(scratch.data());
  std::fill_n(total, s.C, TwoSums{});
  for (Index k = 0; k < s.rows * s.channels; k += s.C)
    for (Index c = 0; c < s.C; ++c) {
      total[c].a += sums[k + c].a;
      total[c].b += sums[k + c].b;
    }
  for (Index c = 0; c < s.C; ++c) {
    dbeta[c] = T(total[c].a);
    dgamma[c] = T(total[c].b);
  }
}

}  // namespace cnnlib::CNNLIB_ISA
