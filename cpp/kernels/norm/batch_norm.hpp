// Batch norm of x (N, C, S): y = (x - mean) / sqrt(var + eps) * gamma + beta with statistics (C,) over N and
// S, and dx = gamma / sqrt(var + eps) * (dout - mean of dout - xhat * mean of dout * xhat), where xhat is y
// before gamma and beta. A plane of a channel is S values side by side; with S = 1 x is a matrix, of which
// column_norm.hpp takes the columns.
#pragma once

#include "kernels/channel_parts.hpp"
#include "kernels/elementwise/activations.hpp"
#include "kernels/norm/column_norm.hpp"

namespace cnnlib::CNNLIB_ISA {

// body(channel, position, values) for all planes, the last ones first: those are still in the cache.
template <class Body>
void each_plane(const BatchNormShape& s, const Body& body) {
  const PlaneGrid grid(s.N * s.C, 1, s.S, s.S, double(s.N * s.C) * double(s.S));
  grid.each(
      [&](const PlaneTask& task, int) {
        for (Index k = task.first_plane, c = k % s.C; k < task.last_plane; ++k) {
          body(c, k * s.S + task.first_column, task.last_column - task.first_column);
          if (++c == s.C) c = 0;
        }
        store_fence();
      },
      Order::backward);
}

// mean and biased variance of each channel.
template <class T>
void plane_moments(const T* x, const BatchNormShape& s, double* mean, double* var) {
  const ChannelParts parts{s};
  const ScratchArray<Deviations> memory(parts.parts * s.C);
  Deviations* partial = memory.data();
  sum_channels(parts, partial, [=](Index, Index at, Index planes, Index size) {
    return deviations_of(x + at, planes, size, s.C * s.S);
  });
  add_parts_up(parts.parts, s.C, partial,
               [=](Index c, const Deviations& total) { total.moments_to(mean + c, var + c); });
}

// dgamma and dbeta of a channel from the sums of dout and of dout * (x - mean), and what dx amounts to;
// n_values is zero where the statistics did not come from the batch.
template <class T>
NormGradient<T> finish_sums(Index c, const TwoSums& sums, const double* mean, const double* inv_std,
                            const T* gamma, T* dgamma, T* dbeta, double n_values) {
  const double sum_dot = sums.b * inv_std[c];
  dbeta[c] = T(sums.a);
  dgamma[c] = T(sum_dot);
  const bool from_batch = n_values > 0;
  return NormGradient<T>(mean[c], inv_std[c], double(gamma[c]), from_batch ? sums.a / n_values : 0,
                         from_batch ? sum_dot / n_values : 0);
}

// y from given statistics; inv_std (C,) = 1 / sqrt(var + eps).
template <class T>
void batchnorm_normalize(const T* x, const double* mean, const double* inv_std, const T* gamma, const T* beta,
                         T* y, const BatchNormShape& s, const Clamp<T>& activation) {
  if (s.S == 1) return column_normalize(x, mean, inv_std, gamma, beta, y, s.N, s.C, activation);
  const ScratchArray<Affine<T>> memory(s.C);
  Affine<T>* affine = memory.data();
  for (Index c = 0; c < s.C; ++c) affine[c] = forward_affine(mean, inv_std, gamma, beta, c);
  const bool non_temporal = use_non_temporal<T>(s.N * s.C * s.S, s.S);
  each_plane(s, [&](Index c, Index at, Index size) {
    affine[c].apply(x + at, y + at, size, non_temporal, [&](Packet<T> v) { return clamp(activation, v); });
  });
}

// y with the batch's own statistics; fills mean, var and inv_std (C,).
template <class T>
void batchnorm_train(const T* x, const T* gamma, const T* beta, double eps, T* y, double* mean, double* var,
                     double* inv_std, const BatchNormShape& s, const Clamp<T>& activation) {
  if (s.S == 1)
    column_moments(x, s.N, s.C, mean, var);
  else
    plane_moments(x, s, mean, var);
  for (Index c = 0; c < s.C; ++c) inv_std[c] = inverse_deviation(s.N * s.S, var[c], eps);
  batchnorm_normalize(x, mean, inv_std, gamma, beta, y, s, activation);
}

// dgamma = sum dout * xhat, dbeta = sum dout, and what dx amounts to in each channel, with the statistics'
// own gradient when they came from the batch.
template <class T, class Through>  // through(channel) says what of dout reaches y
void plane_sums(const T* dout, const T* x, const double* mean, const double* inv_std, const T* gamma,
                T* dgamma, T* dbeta, const BatchNormShape& s, bool from_batch, const Through& through,
                NormGradient<T>* gradient) {
  const double n_values = double(s.N) * s.S;
  const ChannelParts parts{s};
  const ScratchArray<TwoSums> memory(parts.parts * s.C);
  TwoSums* partial = memory.data();
  sum_channels(parts, partial, [&](Index c, Index at, Index planes, Index size) {
    return gradient_sums(dout + at, x + at, mean[c], planes, size, s.C * s.S, through(c));
  });
  add_parts_up(parts.parts, s.C, partial, [&](Index c, const TwoSums& total) {
    gradient[c] = finish_sums(c, total, mean, inv_std, gamma, dgamma, dbeta, from_batch ? n_values : 0);
  });
}

template <class T, class Through>
void plane_input_gradient(const T* dout, const T* x, const NormGradient<T>* gradient, T* dx,
                          const BatchNormShape& s, const Through& through) {
  const bool non_temporal = use_non_temporal<T>(s.N * s.C * s.S, s.S);
  each_plane(s, [&](Index c, Index at, Index size) {
    gradient[c].apply(dout + at, x + at, dx + at, size, non_temporal, through(c));
  });
}

// body(through), where through(channel) is Identity, or ReluGradient if `beta` is given.
template <class T, class Body>
void with_through(const double* mean, const double* inv_std, const T* gamma, const T* beta, Index C,
                  const Body& body) {
  if (beta == nullptr) return body([](Index) { return Identity(); });
  const ScratchArray<Affine<T>> memory(C);
  Affine<T>* affine = memory.data();
  for (Index c = 0; c < C; ++c) affine[c] = forward_affine(mean, inv_std, gamma, beta, c);
  body([=](Index c) { return ReluGradient<T>(affine[c]); });
}

// `beta` where a ReLU followed, through which dout has to pass, else null.
template <class T>
void batchnorm_backward(const T* dout, const T* x, const double* mean, const double* inv_std, const T* gamma,
                        const T* beta, T* dx, T* dgamma, T* dbeta, const BatchNormShape& s, bool from_batch) {
  if (s.S == 1) {
    if (beta != nullptr) {  // dx holds what passed through ReLU in the meantime
      column_normalize(x, mean, inv_std, gamma, beta, dx, s.N, s.C, Clamp<T>{T(0)});
      gradient_of(Relu<T>(), dout, dx, dx, s.N * s.C, 1);
      dout = dx;
    }
    return column_backward(dout, x, mean, dx, s.N, s.C, [&](Index c, const TwoSums& sums) {
      return finish_sums(c, sums, mean, inv_std, gamma, dgamma, dbeta, from_batch ? double(s.N) : 0);
    });
  }
  const ScratchArray<NormGradient<T>> memory(s.C);
  auto* gradient = memory.data();
  with_through(mean, inv_std, gamma, beta, s.C, [&](const auto& through) {
    plane_sums(dout, x, mean, inv_std, gamma, dgamma, dbeta, s, from_batch, through, gradient);
    plane_input_gradient(dout, x, gradient, dx, s, through);
  });
}

// What the sums of either pass take, beside the factors of each channel.
template <class T>
std::size_t batchnorm_sums_bytes(const BatchNormShape& s) {
  const std::size_t sums = ScratchArray<Deviations>::bytes(ChannelParts{s}.parts * s.C);
  if (s.S > 1) return sums;
  return sums + ScratchArray<TwoSums>::bytes(column_parts(s.N) * s.C) + ScratchArray<T>::bytes(4 * s.C);
}

}  // namespace cnnlib::CNNLIB_ISA
