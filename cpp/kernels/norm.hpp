// Batch norm, layer norm and group norm: y = (x - mean) / sqrt(var + eps) * gamma + beta.
//
// Statistics are double. A first pass finds a rough mean, a second one sums the deviations from it and
// their squares, which is as exact as the textbook's two passes. Means are then split into a T and the
// rest, so that x - mean stays exact where x is large.
#pragma once

#include <cmath>

#include "../parallel.hpp"
#include "arena.hpp"
#include "sums.hpp"

namespace cnnlib::CNNLIB_ISA {

struct Moments {
  double mean, var;
};

// mean and biased variance from the sums of d = x - rough and d * d over n values.
inline Moments moments(double rough, double sum_d, double sum_dd, double n) {
  const double shift = sum_d / n, var = sum_dd / n - shift * shift;
  return {rough + shift, var < 0 ? 0 : var};  // NaN stays NaN
}

// Sums over the S values of one plane, or of a row, that both passes need.
template <class T>
struct PlaneSums {
  using S = Simd<T>;
  static double deviation(const T* x, T rough, Index n) {
    return sum_over<T>(n, [&](Index i, auto tag) { return lift(x, rough, i, tag); });
  }
  static double squared_deviation(const T* x, T rough, Index n) {
    return sum_over<T>(n, [&](Index i, auto tag) {
      const auto d = lift(x, rough, i, tag);
      return multiply(d, d);
    });
  }
  static double dot(const T* dout, const T* x, T rough, Index n) {
    return sum_over<T>(
        n, [&](Index i, auto tag) { return multiply(at<T>(dout + i, tag), lift(x, rough, i, tag)); });
  }

  static double weighted_dot(const T* dout, const T* gamma, const T* x, T rough, Index n) {
    return sum_over<T>(n, [&](Index i, auto tag) {
      return multiply(multiply(at<T>(dout + i, tag), at<T>(gamma + i, tag)), lift(x, rough, i, tag));
    });
  }

 private:
  using Packet = typename S::Packet;
  static Packet lift(const T* x, T rough, Index i, Packet) { return S::sub(S::load(x + i), S::fill(rough)); }
  static T lift(const T* x, T rough, Index i, T) { return x[i] - rough; }
  static Packet multiply(Packet a, Packet b) { return S::mul(a, b); }
  static T multiply(T a, T b) { return a * b; }
};

// y = (x - high) * scale + shift, with the low part of the mean folded into shift.
template <class T>
struct Affine {
  T high, scale, shift;
  Affine(double mean, double scale_, double shift_)
      : high(T(mean)), scale(T(scale_)), shift(T(shift_ - (mean - double(T(mean))) * scale_)) {}
  template <bool Relu>
  void apply(const T* x, T* y, Index n) const {
    for (Index i = 0; i < n; ++i) {
      const T v = (x[i] - high) * scale + shift;
      y[i] = Relu && v < T(0) ? T(0) : v;
    }
  }
};

// Mean and variance of one channel over N planes of S values that lie `stride` apart.
template <class T>
Moments channel_moments(const T* x, Index N, Index S, Index stride) {
  double sum_x = 0, sum_d = 0, sum_dd = 0;
  for (Index n = 0; n < N; ++n) sum_x += sum(x + n * stride, S);
  const T rough = T(sum_x / (double(N) * S));
  for (Index n = 0; n < N; ++n) {
    sum_d += PlaneSums<T>::deviation(x + n * stride, rough, S);
    sum_dd += PlaneSums<T>::squared_deviation(x + n * stride, rough, S);
  }
  return moments(double(rough), sum_d, sum_dd, double(N) * S);
}

// Channels that a task of the S = 1 layout takes together, as neighbours in memory.
constexpr Index column_block = 64;

// The same for `count` neighbouring columns of a matrix (N, stride).
template <class T>
void column_moments(const T* x, Index N, Index stride, Index count, double* mean, double* var) {
  double sum_d[column_block] = {}, sum_dd[column_block] = {};
  T rough[column_block];
  for (Index n = 0; n < N; ++n)
    for (Index j = 0; j < count; ++j) sum_d[j] += double(x[n * stride + j]);
  for (Index j = 0; j < count; ++j) {
    rough[j] = T(sum_d[j] / double(N));
    sum_d[j] = 0;
  }
  for (Index n = 0; n < N; ++n)
    for (Index j = 0; j < count; ++j) {
      const double d = double(x[n * stride + j]) - double(rough[j]);
      sum_d[j] += d;
      sum_dd[j] += d * d;
    }
  for (Index j = 0; j < count; ++j) {
    const Moments m = moments(double(rough[j]), sum_d[j], sum_dd[j], double(N));
    mean[j] = m.mean;
    var[j] = m.var;
  }
}

// Fills mean and var (C,) from the batch.
template <class T>
void batchnorm_statistics(const T* x, double* mean, double* var, const BatchNormShape& s) {
  const double work = double(s.N) * s.C * s.S;
  if (s.S == 1) {
    parallel_for((s.C + column_block - 1) / column_block, threads_for(work), [&](Index block, int) {
      const Index c = block * column_block;
      column_moments(x + c, s.N, s.C, std::min(column_block, s.C - c), mean + c, var + c);
    });
    return;
  }
  parallel_for(s.C, threads_for(work), [&](Index c, int) {
    const Moments m = channel_moments(x + c * s.S, s.N, s.S, s.C * s.S);
    mean[c] = m.mean;
    var[c] = m.var;
  });
}

// y from given statistics; inv_std (C,) = 1 / sqrt(var + eps).
template <class T>
void batchnorm_normalize(const T* x, const double* mean, const double* inv_std, const T* gamma, const T* beta,
                         T* y, const BatchNormShape& s, bool relu) {
  const double work = double(s.N) * s.C * s.S;
  if (s.S == 1) {
    parallel_for((s.C + column_block - 1) / column_block, threads_for(work), [&](Index block, int) {
      const Index c = block * column_block, count = std::min(column_block, s.C - c);
      T high[column_block], scale[column_block], shift[column_block];
      for (Index j = 0; j < count; ++j) {
        const Affine<T> a(mean[c + j], inv_std[c + j] * double(gamma[c + j]), double(beta[c + j]));
        high[j] = a.high;
        scale[j] = a.scale;
        shift[j] = a.shift;
      }
      for (Index n = 0; n < s.N; ++n)
        for (Index j = 0; j < count; ++j) {
          const T v = (x[n * s.C + c + j] - high[j]) * scale[j] + shift[j];
          y[n * s.C + c + j] = relu && v < T(0) ? T(0) : v;
        }
    });
    return;
  }
  parallel_for(s.C, threads_for(work), [&](Index c, int) {
    const Affine<T> a(mean[c], inv_std[c] * double(gamma[c]), double(beta[c]));
    for (Index n = 0; n < s.N; ++n) {
      const Index at = (n * s.C + c) * s.S;
      relu ? a.template apply<true>(x + at, y + at, s.S) : a.template apply<false>(x + at, y + at, s.S);
    }
  });
}

// dx = dout * by_dout + (x - high) * by_x + constant.
template <class T>
struct NormGradient {
  T high, by_dout, by_x, constant;

  // sum_dout and sum_dot (of dout * xhat) are already divided by the number of values, or zero where
  // the statistics did not depend on x.
  NormGradient(double mean, double inv_std, double gamma, double mean_dout, double mean_dot)
      : high(T(mean)), by_dout(T(gamma * inv_std)), by_x(T(-gamma * inv_std * inv_std * mean_dot)) {
    const double low = mean - double(high);
    constant = T(-gamma * inv_std * mean_dout + gamma * inv_std * inv_std * mean_dot * low);
  }
  T operator()(T dout, T x) const { return dout * by_dout + ((x - high) * by_x + constant); }
};

// dgamma = sum dout * xhat, dbeta = sum dout; dx with the statistics' own gradient when they came from
// the batch.
template <class T>
void batchnorm_backward(const T* dout, const T* x, const double* mean, const double* inv_std, const T* gamma,
                        T* dx, T* dgamma, T* dbeta, const BatchNormShape& s, bool from_batch) {
  const double n_values = double(s.N) * s.S, work = 2 * n_values * s.C;
  const auto finish = [&](Index c, double sum_dout, double sum_dot) {
    dbeta[c] = T(sum_dout);
    dgamma[c] = T(sum_dot);
    const double scale = from_batch ? 1 / n_values : 0;
    return NormGradient<T>(mean[c], inv_std[c], double(gamma[c]), sum_dout * scale, sum_dot * scale);
  };
  if (s.S == 1) {
    parallel_for((s.C + column_block - 1) / column_block, threads_for(work), [&](Index block, int) {
      const Index c = block * column_block, count = std::min(column_block, s.C - c);
      double sum_dout[column_block] = {}, sum_dot[column_block] = {};
      for (Index n = 0; n < s.N; ++n)
        for (Index j = 0; j < count; ++j) {
          const Index i = n * s.C + c + j;
          sum_dout[j] += double(dout[i]);
          sum_dot[j] += double(dout[i]) * (double(x[i]) - mean[c + j]);
        }
      T high[column_block], by_dout[column_block], by_x[column_block], constant[column_block];
      for (Index j = 0; j < count; ++j) {
        const NormGradient<T> g = finish(c + j, sum_dout[j], sum_dot[j] * inv_std[c + j]);
        high[j] = g.high;
        by_dout[j] = g.by_dout;
        by_x[j] = g.by_x;
        constant[j] = g.constant;
      }
      for (Index n = 0; n < s.N; ++n) {
        const T *grad = dout + n * s.C + c, *row = x + n * s.C + c;
        T* to = dx + n * s.C + c;
        for (Index j = 0; j < count; ++j)
          to[j] = grad[j] * by_dout[j] + ((row[j] - high[j]) * by_x[j] + constant[j]);
      }
    });
    return;
  }
  parallel_for(s.C, threads_for(work), [&](Index c, int) {
    const T high = T(mean[c]);
    double sum_dout = 0, sum_dot = 0;
    for (Index n = 0; n < s.N; ++n) {
      const Index at = (n * s.C + c) * s.S;
      sum_dout += sum(dout + at, s.S);
      sum_dot += PlaneSums<T>::dot(dout + at, x + at, high, s.S);
    }
    sum_dot -= sum_dout * (mean[c] - double(high));
    const NormGradient<T> g = finish(c, sum_dout, sum_dot * inv_std[c]);
    for (Index n = 0; n < s.N; ++n) {
      const Index at = (n * s.C + c) * s.S;
      for (Index i = 0; i < s.S; ++i) dx[at + i] = g(dout[at + i], x[at + i]);
    }
  });
}

// Layer and group norm: statistics of each row of channels * S values; mean and inv_std (rows,) are
// filled for the backward pass.
template <class T>
void rownorm_forward(const T* x, const T* gamma, const T* beta, double eps, T* y, double* mean,
                     double* inv_std, const RowNormShape& s) {
  const Index size = s.channels * s.S;
  parallel_for(s.rows, threads_for(double(s.rows) * size), [&](Index r, int) {
    const T* row = x + r * size;
    const Moments m = channel_moments(row, 1, size, size);
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

// Gradients of layer norm, where every column has its own gamma: rows for dx, columns for the rest.
template <class T>
void layernorm_backward(const T* dout, const T* x, const double* mean, const double* inv_std, const T* gamma,
                        T* dx, T* dgamma, T* dbeta, Index N, Index D) {
  const int threads = threads_for(2.0 * N * D);
  parallel_for(N, threads, [&](Index n, int) {
    const T *row = x + n * D, *grad = dout + n * D;
    const T high = T(mean[n]);
    const double sum_dout = PlaneSums<T>::dot(grad, gamma, T(0), D);
    const double sum_dot =
        PlaneSums<T>::weighted_dot(grad, gamma, row, high, D) - sum_dout * (mean[n] - double(high));
    const NormGradient<T> g(mean[n], inv_std[n], 1, sum_dout / D, sum_dot * inv_std[n] / D);
    for (Index j = 0; j < D; ++j) dx[n * D + j] = g(grad[j] * gamma[j], row[j]);
  });
  parallel_for((D + column_block - 1) / column_block, threads, [&](Index block, int) {
    const Index first = block * column_block, count = std::min(column_block, D - first);
    double sum_dout[column_block] = {}, sum_dot[column_block] = {};
    for (Index n = 0; n < N; ++n)
      for (Index j = 0; j < count; ++j) {
        const Index at = n * D + first + j;
        sum_dout[j] += double(dout[at]);
        sum_dot[j] += double(dout[at]) * (double(x[at]) - mean[n]) * inv_std[n];
      }
    for (Index j = 0; j < count; ++j) {
      dbeta[first + j] = T(sum_dout[j]);
      dgamma[first + j] = T(sum_dot[j]);
    }
  });
}

template <class T>
void rownorm_backward(const T* dout, const T* x, const double* mean, const double* inv_std, const T* gamma,
                      T* dx, T* dgamma, T* dbeta, const RowNormShape& s) {
  const Index size = s.channels * s.S;
  if (s.S == 1 && s.channels == s.C)
    return layernorm_backward(dout, x, mean, inv_std, gamma, dx, dgamma, dbeta, s.rows, size);
  const double work = 2.0 * s.rows * size;
  // Sums of each (row, channel), from which both the row's and the channel's totals come.
  Layout layout;
  const auto dout_piece = layout.array<double>(s.rows * s.channels);
  const auto dot_piece = layout.array<double>(s.rows * s.channels);
  const Scratch scratch(layout.bytes());
  double* sum_dout = dout_piece.in(scratch.data());
  double* sum_dot = dot_piece.in(scratch.data());
  parallel_for(s.rows, threads_for(work), [&](Index r, int) {
    const T high = T(mean[r]);
    double mean_dout = 0, mean_dot = 0;
    for (Index c = 0; c < s.channels; ++c) {
      const Index at = r * size + c * s.S, k = r * s.channels + c, channel = k % s.C;
      sum_dout[k] = sum(dout + at, s.S);
      sum_dot[k] =
          (PlaneSums<T>::dot(dout + at, x + at, high, s.S) - sum_dout[k] * (mean[r] - double(high))) *
          inv_std[r];
      mean_dout += sum_dout[k] * double(gamma[channel]) / double(size);
      mean_dot += sum_dot[k] * double(gamma[channel]) / double(size);
    }
    const NormGradient<T> g(mean[r], inv_std[r], 1, mean_dout, mean_dot);
    for (Index c = 0; c < s.channels; ++c) {
      const T scale = gamma[(r * s.channels + c) % s.C];
      const Index at = r * size + c * s.S;
      for (Index i = 0; i < s.S; ++i) dx[at + i] = g(dout[at + i] * scale, x[at + i]);
    }
  });
  const Index images = s.rows * s.channels / s.C;
  parallel_ranges(s.C, column_block, double(images), [&](Index begin, Index end) {
    for (Index c = begin; c < end; ++c) {
      double total_dout = 0, total_dot = 0;
      for (Index n = 0; n < images; ++n) {
        total_dout += sum_dout[n * s.C + c];
        total_dot += sum_dot[n * s.C + c];
      }
      dbeta[c] = T(total_dout);
      dgamma[c] = T(total_dot);
    }
  });
}

}  // namespace cnnlib::CNNLIB_ISA
