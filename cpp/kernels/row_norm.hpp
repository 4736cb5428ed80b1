// Layer and group norm: statistics of each row of channels * S values.
#pragma once

#include "norm_sums.hpp"

namespace cnnlib::CNNLIB_ISA {

// body(row) for all rows of `size` values, in parallel.
template <class Body>
void each_norm_row(Index rows, Index size, const Body& body) {
  parallel_ranges(rows, std::max<Index>(1, 8192 / std::max<Index>(1, size)), 2.0 * double(size),
                  [&](Index begin, Index end) {
                    for (Index row = begin; row < end; ++row) body(row);
                  });
}

// mean and inv_std (rows,) are filled for the backward pass.
template <class T>
void rownorm_forward(const T* x, const T* gamma, const T* beta, double eps, T* y, double* mean,
                     double* inv_std, const RowNormShape& s) {
  const Index size = s.channels * s.S;
  each_norm_row(s.rows, size, [&](Index r) {
    const T* row = x + r * size;
    const Moments m = moments_of(row, 1, size, size);
    mean[r] = m.mean;
    inv_std[r] = 1 / std::sqrt(m.var + eps);
    if (s.S == 1 && s.channels == s.C) {  // layer norm: each column has its own gamma
      const Affine<T> a(m.mean, inv_std[r], 0);
      for (Index c = 0; c < size; ++c)
        y[r * size + c] = ((row[c] - a.high) * a.scale + a.shift) * gamma[c] + beta[c];
      return;
    }
    for (Index c = 0; c < s.channels; ++c) {
      const Index channel = (r * s.channels + c) % s.C;
      const Affine<T> a(m.mean, inv_std[r] * double(gamma[channel]), double(beta[channel]));
      a.template apply<false>(row + c * s.S, y + r * size + c * s.S, s.S);
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
  const Index parts = std::clamp<Index>(N / run, 1, 16);
  Layout layout;
  const auto total_piece = layout.array<double>(checked_product(2 * parts, D));
  const Scratch scratch(layout.bytes());
  double* totals = total_piece.in(scratch.data());  // [part][dgamma, dbeta][D]
  std::fill_n(totals, 2 * parts * D, 0.0);
  parallel_for(parts, threads, [&](Index part, int) {
    double *sum_gamma = totals + 2 * part * D, *sum_beta = sum_gamma + D;
    const Index last = (part + 1) * N / parts;
    for (Index first = part * N / parts; first < last; first += run) {
      const Index rows = std::min(run, last - first);
      T high[run], by_dout[run], by_x[run], constant[run], scale[run], shift[run];
      for (Index r = 0; r < rows; ++r) {
        const Index n = first + r;
        const T *row = x + n * D, *grad = dout + n * D;
        high[r] = T(mean[n]);
        const auto middle = S::fill(high[r]);
        auto sums = two_sums<T>(1, D, D, [&](Index at, Index count, auto& a, auto& b) {
          const auto g = S::mul(load_counted(grad + at, count, T(0)), load_counted(gamma + at, count, T(0)));
          a = S::add(a, g);
          b = S::fma(g, S::sub(load_counted(row + at, count, T(0)), middle), b);
        });
        sums.b -= sums.a * (mean[n] - double(high[r]));
        const NormGradient<T> g(mean[n], inv_std[n], 1, sums.a / D, sums.b * inv_std[n] / D);
        by_dout[r] = g.by_dout;
        by_x[r] = g.by_x;
        constant[r] = g.constant;
        const Affine<T> normal(mean[n], inv_std[n], 0);
        scale[r] = normal.scale;
        shift[r] = normal.shift;
      }
      // These rows once more, column by column.
      for (Index j = 0; j < D; j += S::size) {
        const Index count = std::min<Index>(S::size, D - j);
        const auto weight = load_counted(gamma + j, count, T(0));
        auto d_gamma = S::zero(), d_beta = S::zero();
        for (Index r = 0; r < rows; ++r) {
          const Index at = (first + r) * D + j;
          const auto g = load_counted(dout + at, count, T(0));
          const auto d = S::sub(load_counted(x + at, count, T(0)), S::fill(high[r]));
          d_beta = S::add(d_beta, g);
          d_gamma = S::fma(g, S::fma(d, S::fill(scale[r]), S::fill(shift[r])), d_gamma);
          const auto value = S::fma(S::mul(g, weight), S::fill(by_dout[r]),
                                    S::fma(d, S::fill(by_x[r]), S::fill(constant[r])));
          count == S::size ? S::store(dx + at, value) : S::store_lanes(dx + at, value, 0, count);
        }
        T part_gamma[S::size], part_beta[S::size];
        S::store(part_gamma, d_gamma);
        S::store(part_beta, d_beta);
        for (Index i = 0; i < count; ++i) {
          sum_gamma[j + i] += double(part_gamma[i]);
          sum_beta[j + i] += double(part_beta[i]);
        }
      }
    }
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
  const auto piece = layout.array<TwoSums>(s.rows * s.channels);
  const Scratch scratch(layout.bytes());
  TwoSums* sums = piece.in(scratch.data());
  each_norm_row(s.rows, size, [&](Index r) {
    double mean_dout = 0, mean_dot = 0;
    for (Index c = 0; c < s.channels; ++c) {
      const Index at = r * size + c * s.S, k = r * s.channels + c;
      sums[k] = gradient_sums(dout + at, x + at, mean[r], 1, s.S, s.S);
      sums[k].b *= inv_std[r];
      mean_dout += sums[k].a * double(gamma[k % s.C]) / double(size);
      mean_dot += sums[k].b * double(gamma[k % s.C]) / double(size);
    }
    for (Index c = 0; c < s.channels; ++c) {
      const double scale = double(gamma[(r * s.channels + c) % s.C]);
      const Index at = r * size + c * s.S;
      NormGradient<T> g(mean[r], inv_std[r], 1, mean_dout, mean_dot);
      g.by_dout = T(inv_std[r] * scale);
      g.apply(dout + at, x + at, dx + at, s.S);
    }
  });
  const Index images = s.rows * s.channels / s.C;
  parallel_ranges(s.C, 64, double(images), [&](Index begin, Index end) {
    for (Index c = begin; c < end; ++c) {
      TwoSums total;
      for (Index n = 0; n < images; ++n) {
        total.a += sums[n * s.C + c].a;
        total.b += sums[n * s.C + c].b;
      }
      dbeta[c] = T(total.a);
      dgamma[c] = T(total.b);
    }
  });
}

}  // namespace cnnlib::CNNLIB_ISA
