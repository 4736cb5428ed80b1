// Layer and group norm of x (rows, channels, S): y = (x - mean) / sqrt(var + eps) * gamma + beta with
// statistics (rows,) of each row of channels * S values; channel c of row r has the parameters (r * channels
// + c) % C.
#pragma once

#include "kernels/norm/norm_sums.hpp"

namespace cnnlib::CNNLIB_ISA {

// body(row) for all rows of `size` values, in parallel.
template <class T, class Body>
void each_norm_row(Index rows, Index size, const Body& body) {
  parallel_ranges(rows, std::max<Index>(1, sum_slice / std::max<Index>(1, size)), 2.0 * double(size),
                  [&](Index begin, Index end) {
                    for (Index row = begin; row < end; ++row) body(row);
                    store_fence();
                  });
}

// Whether a pass over long rows should prefetch the next one meanwhile: where they come from memory.
template <class T>
bool prefetches_rows(Index size, Index all) {
  constexpr Index long_row_bytes = 2 << 10, cached_bytes = 8 << 20;
  return size * Index(sizeof(T)) >= long_row_bytes && all * Index(sizeof(T)) >= cached_bytes;
}

// mean and inv_std (rows,) are filled for the backward pass.
template <class T>
void rownorm_forward(const T* x, const T* gamma, const T* beta, double eps, T* y, double* mean,
                     double* inv_std, const RowNormShape& s) {
  using S = Simd<T>;
  const Index size = s.channels * s.S;
  const bool non_temporal = use_non_temporal<T>(s.rows * size) && s.S % S::size == 0;
  const bool non_temporal_rows = use_non_temporal<T>(s.rows * size) && size % S::size == 0;
  each_norm_row<T>(s.rows, size, [&](Index r) {
    const T* row = x + r * size;
    const Moments m = deviations_of(row, 1, size, size).moments();
    mean[r] = m.mean;
    inv_std[r] = 1 / std::sqrt(m.var + eps);
    if (s.S == 1 && s.channels == s.C) {  // layer norm: each column has its own gamma
      const Affine<T> a(m.mean, inv_std[r], 0);
      const auto high = S::fill(a.high), scale = S::fill(a.scale), shift = S::fill(a.shift);
      return write_vectors(y + r * size, size, non_temporal_rows, [&](Index c, Index count) {
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

// Sums of dout * gamma and of dout * gamma * (x - mean) over a row of layer norm.
template <class T>
TwoSums layernorm_row_sums(const T* dout, const T* x, const T* gamma, double mean, Index D) {
  using S = Simd<T>;
  const auto high = S::fill(T(mean));
  TwoSums sums;
  each_run(1, D, D, [&](Index at, Index, Index size) {
    sums.add(run_sums<T>(1, size, size, [&](Index i, Index count, auto& a, auto& b) {
      const auto g = S::mul(load_first(dout + at + i, count), load_first(gamma + at + i, count));
      a = S::add(a, g);
      b = S::fma(g, S::sub(load_first(x + at + i, count), high), b);
    }));
  });
  sums.b -= sums.a * (mean - double(T(mean)));
  return sums;
}

// dx of a row, whose shares of dgamma and dbeta are added to those of its run.
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
  constexpr Index run = 16, most_parts = 16;
  const int threads = threads_for(3.0 * N * D);
  const bool non_temporal = use_non_temporal<T>(N * D) && D % Simd<T>::size == 0;
  const bool prefetches = prefetches_rows<T>(D, N * D);
  const Index parts = std::clamp<Index>(N / run, 1, most_parts);
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
        const TwoSums sums = layernorm_row_sums(grad, row, gamma, mean[n], D);
        if (prefetches && n + 1 < last) {
          prefetch(grad + D, D);
          prefetch(row + D, D);
        }
        const Affine<T> normal(mean[n], inv_std[n], 0);
        const NormGradient<T> of(mean[n], inv_std[n], 1, sums.a / double(D), sums.b * inv_std[n] / double(D));
        layernorm_row_gradient(grad, row, gamma, normal, of, dx + n * D, run_gamma, run_beta, D,
                               non_temporal);
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

// total (C,) = the sums of each row and channel, added up over the rows in their order.
inline void add_channel_sums(const TwoSums* sums, Index count, Index C, TwoSums* total) {
  std::fill_n(total, C, TwoSums{});
  for (Index k = 0; k < count; k += C)
    for (Index c = 0; c < C; ++c) total[c].add(sums[k + c]);
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
  const bool prefetches = prefetches_rows<T>(size, s.rows * size);
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
      if (prefetches && r + 1 < s.rows) {
        prefetch(dout + at + size, s.S);
        prefetch(x + at + size, s.S);
      }
      gradient.by_dout = T(inv_std[r] * double(scales[c]));
      gradient.apply(dout + at, x + at, dx + at, s.S, non_temporal);
    }
  });
  TwoSums* total = total_piece.in(scratch.data());
  add_channel_sums(sums, s.rows * s.channels, s.C, total);
  for (Index c = 0; c < s.C; ++c) {
    dbeta[c] = T(total[c].a);
    dgamma[c] = T(total[c].b);
  }
}

}  // namespace cnnlib::CNNLIB_ISA
