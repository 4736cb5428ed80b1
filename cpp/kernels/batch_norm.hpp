// Batch norm: of the planes of each channel, or of the columns of a matrix (S = 1).
#pragma once

#include "norm_sums.hpp"

namespace cnnlib::CNNLIB_ISA {

// Neighbouring columns that a task of the S = 1 layout takes together: `vectors` packets.
template <class T>
struct ColumnBlock {
  using S = Simd<T>;
  static constexpr Index vectors = 4, width = vectors * S::size;
  Index count;  // columns, at most `width`

  Index lanes(Index v) const { return std::clamp<Index>(count - v * S::size, 0, S::size); }

  // Two sums down each column of `rows` rows that lie `stride` apart: body(position, lanes, column, a, b).
  template <class Body>
  void two_sums(Index rows, Index stride, const Body& body, TwoSums* totals) const {
    constexpr Index run = 64;
    std::fill_n(totals, count, TwoSums{});
    for (Index first = 0; first < rows; first += run) {
      typename S::Packet a[vectors], b[vectors];
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) a[v] = b[v] = S::zero();
      if (count == width) {
        for (Index n = first; n < std::min(rows, first + run); ++n)
#pragma GCC unroll 4
          for (int v = 0; v < vectors; ++v) body(n * stride + v * S::size, S::size, v * S::size, a[v], b[v]);
      } else {
        for (Index n = first; n < std::min(rows, first + run); ++n)
          for (int v = 0; v < vectors; ++v)
            if (lanes(v) > 0) body(n * stride + v * S::size, lanes(v), v * S::size, a[v], b[v]);
      }
      T part_a[width], part_b[width];
#pragma GCC unroll 4
      for (int v = 0; v < vectors; ++v) {
        S::store(part_a + v * S::size, a[v]);
        S::store(part_b + v * S::size, b[v]);
      }
      for (Index j = 0; j < count; ++j) {
        totals[j].a += double(part_a[j]);
        totals[j].b += double(part_b[j]);
      }
    }
  }

  void moments_of(const T* x, Index rows, Index stride, double* mean, double* var) const {
    const Index first = std::min<Index>(rows, 16);
    T rough[width] = {};
    for (Index j = 0; j < count; ++j) {
      double sum = 0;
      for (Index n = 0; n < first; ++n) sum += double(x[n * stride + j]);
      rough[j] = T(sum / double(first));
    }
    bool any_far = false;
    TwoSums sums[width];
    const auto around = [&] {
      two_sums(
          rows, stride,
          [&](Index at, Index lanes, Index column, auto& a, auto& b) {
            const auto middle = S::load(rough + column);
            // Lanes without a column deviate from nothing.
            const auto d = lanes == S::size ? S::sub(S::load(x + at), middle)
                                            : S::sub(S::load_lanes(x + at, 0, lanes), middle);
            a = S::add(a, d);
            b = S::fma(d, d, b);
          },
          sums);
      any_far = false;
      for (Index j = 0; j < count; ++j) {
        bool far;
        const Moments m = moments(double(rough[j]), sums[j], double(rows), far);
        mean[j] = m.mean;
        var[j] = m.var;
        any_far = any_far || far;
      }
    };
    around();
    if (!any_far) return;
    for (Index j = 0; j < count; ++j) rough[j] = T(mean[j]);
    around();
  }
};

// body(first column, block) for blocks of the columns (N, C), in parallel.
template <class T, class Body>
void each_column_block(Index columns, double work, const Body& body) {
  constexpr Index width = ColumnBlock<T>::width;
  parallel_for((columns + width - 1) / width, threads_for(work), [&](Index block, int) {
    body(block * width, ColumnBlock<T>{std::min(width, columns - block * width)});
  });
}

// y of one block of columns (N, C).
template <class T, bool Relu>
void normalize_columns(const T* x, const double* mean, const double* inv_std, const T* gamma, const T* beta,
                       T* y, Index N, Index C, Index count) {
  T high[ColumnBlock<T>::width], scale[ColumnBlock<T>::width], shift[ColumnBlock<T>::width];
  for (Index j = 0; j < count; ++j) {
    const Affine<T> a(mean[j], inv_std[j] * double(gamma[j]), double(beta[j]));
    high[j] = a.high;
    scale[j] = a.scale;
    shift[j] = a.shift;
  }
  for (Index n = 0; n < N; ++n)
    for (Index j = 0; j < count; ++j) {
      const T v = (x[n * C + j] - high[j]) * scale[j] + shift[j];
      y[n * C + j] = Relu && v < T(0) ? T(0) : v;
    }
}

// y of one channel.
template <class T>
void normalize_planes(const T* x, const Affine<T>& a, T* y, const BatchNormShape& s, bool relu) {
  for (Index n = 0; n < s.N; ++n) {
    const Index at = n * s.C * s.S;
    relu ? a.template apply<true>(x + at, y + at, s.S) : a.template apply<false>(x + at, y + at, s.S);
  }
}

// y from given statistics; inv_std (C,) = 1 / sqrt(var + eps).
template <class T>
void batchnorm_normalize(const T* x, const double* mean, const double* inv_std, const T* gamma, const T* beta,
                         T* y, const BatchNormShape& s, bool relu) {
  const double work = double(s.N) * s.C * s.S;
  if (s.S == 1)
    return each_column_block<T>(s.C, work, [&](Index c, const ColumnBlock<T>& block) {
      (relu ? &normalize_columns<T, true> : &normalize_columns<T, false>)(x + c, mean + c, inv_std + c,
                                                                          gamma + c, beta + c, y + c, s.N,
                                                                          s.C, block.count);
    });
  parallel_for(s.C, threads_for(work), [&](Index c, int) {
    const Affine<T> a(mean[c], inv_std[c] * double(gamma[c]), double(beta[c]));
    normalize_planes(x + c * s.S, a, y + c * s.S, s, relu);
  });
}

// y with the batch's own statistics, a channel's after the other's so that its values are in the cache; fills
// mean, var and inv_std (C,).
template <class T>
void batchnorm_train(const T* x, const T* gamma, const T* beta, double eps, T* y, double* mean, double* var,
                     double* inv_std, const BatchNormShape& s, bool relu) {
  const double work = 2.0 * s.N * s.C * s.S;
  if (s.S == 1)
    return each_column_block<T>(s.C, work, [&](Index c, const ColumnBlock<T>& block) {
      block.moments_of(x + c, s.N, s.C, mean + c, var + c);
      for (Index j = c; j < c + block.count; ++j) inv_std[j] = 1 / std::sqrt(var[j] + eps);
      (relu ? &normalize_columns<T, true> : &normalize_columns<T, false>)(x + c, mean + c, inv_std + c,
                                                                          gamma + c, beta + c, y + c, s.N,
                                                                          s.C, block.count);
    });
  parallel_for(s.C, threads_for(work), [&](Index c, int) {
    const Moments m = moments_of(x + c * s.S, s.N, s.S, s.C * s.S);
    mean[c] = m.mean;
    var[c] = m.var;
    inv_std[c] = 1 / std::sqrt(m.var + eps);
    const Affine<T> a(m.mean, inv_std[c] * double(gamma[c]), double(beta[c]));
    normalize_planes(x + c * s.S, a, y + c * s.S, s, relu);
  });
}

// dgamma = sum dout * xhat, dbeta = sum dout; dx with the statistics' own gradient when they came from
// the batch.
template <class T>
void batchnorm_backward(const T* dout, const T* x, const double* mean, const double* inv_std, const T* gamma,
                        T* dx, T* dgamma, T* dbeta, const BatchNormShape& s, bool from_batch) {
  using S = Simd<T>;
  const double n_values = double(s.N) * s.S, work = 2 * n_values * s.C;
  const auto finish = [&](Index c, const TwoSums& sums) {
    const double sum_dot = sums.b * inv_std[c], scale = from_batch ? 1 / n_values : 0;
    dbeta[c] = T(sums.a);
    dgamma[c] = T(sum_dot);
    return NormGradient<T>(mean[c], inv_std[c], double(gamma[c]), sums.a * scale, sum_dot * scale);
  };
  if (s.S == 1)
    return each_column_block<T>(s.C, work, [&](Index c, const ColumnBlock<T>& block) {
      constexpr Index width = ColumnBlock<T>::width;
      T high[width] = {}, by_dout[width], by_x[width], constant[width];
      for (Index j = 0; j < block.count; ++j) high[j] = T(mean[c + j]);
      TwoSums sums[width];
      block.two_sums(
          s.N, s.C,
          [&](Index at, Index lanes, Index column, auto& a, auto& b) {
            const auto g = load_counted(dout + c + at, lanes, T(0));
            a = S::add(a, g);
            b = S::fma(g, S::sub(load_counted(x + c + at, lanes, T(0)), S::load(high + column)), b);
          },
          sums);
      for (Index j = 0; j < block.count; ++j) {
        sums[j].b -= sums[j].a * (mean[c + j] - double(high[j]));
        const NormGradient<T> g = finish(c + j, sums[j]);
        by_dout[j] = g.by_dout;
        by_x[j] = g.by_x;
        constant[j] = g.constant;
      }
      for (Index n = 0; n < s.N; ++n) {
        const T *grad = dout + n * s.C + c, *row = x + n * s.C + c;
        T* to = dx + n * s.C + c;
        for (Index j = 0; j < block.count; ++j)
          to[j] = grad[j] * by_dout[j] + ((row[j] - high[j]) * by_x[j] + constant[j]);
      }
    });
  parallel_for(s.C, threads_for(work), [&](Index c, int) {
    const Index first = c * s.S, stride = s.C * s.S;
    const auto g = finish(c, gradient_sums(dout + first, x + first, mean[c], s.N, s.S, stride));
    for (Index n = 0; n < s.N; ++n) {
      const Index at = first + n * stride;
      g.apply(dout + at, x + at, dx + at, s.S);
    }
  });
}

}  // namespace cnnlib::CNNLIB_ISA
