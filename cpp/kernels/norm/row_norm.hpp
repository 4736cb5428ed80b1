// Layer and group norm of x (rows, channels, S): y = (x - mean) / sqrt(var + eps) * gamma + beta with
// statistics (rows,) of each row of channels * S values; channel c of row r has the parameters (r * channels
// + c) % C.
#pragma once

#include "kernels/norm/group_norm.hpp"
#include "kernels/norm/layer_norm.hpp"
#include "kernels/norm/pixel_norm.hpp"

namespace cnnlib::CNNLIB_ISA {

// mean and inv_std (rows,) are for the backward pass, or null.
template <class T>
void rownorm_forward(const T* x, const T* gamma, const T* beta, double eps, T* y, double* mean,
                     double* inv_std, const RowNormShape& s) {
  using S = Simd<T>;
  if (s.pixels > 1)
    return pixel_norm_forward(x, gamma, beta, eps, y, mean, inv_std, s.rows / s.pixels, s.C, s.pixels);
  const ScratchArray<double> own(mean == nullptr ? 2 * s.rows : 0);
  if (mean == nullptr) {
    mean = own.data();
    inv_std = mean + s.rows;
  }
  const bool layer = is_layer_norm(s);  // whose row is a single channel
  const Index size = s.channels * s.S, channels = layer ? 1 : s.channels, plane = size / channels;
  const bool non_temporal = use_non_temporal<T>(s.rows * size, plane);
  const auto normalize = [=](Index r, Index c, Index first, Index count) {
    const Index at = r * size + c * s.S + first;
    if (!layer) {
      const Index channel = (r * s.channels + c) % s.C;
      const Affine<T> a(mean[r], inv_std[r] * double(gamma[channel]), double(beta[channel]));
      return a.apply(x + at, y + at, count, non_temporal, [](Packet<T> v) { return v; });
    }
    const Affine<T> a(mean[r], inv_std[r], 0);
    const auto high = S::fill(a.high), scale = S::fill(a.scale), shift = S::fill(a.shift);
    const T *from = x + at, *by = gamma + first, *plus = beta + first;
    write_vectors(y + at, count, non_temporal, [&](Index i, Index lanes) {
      const auto normal = S::fma(S::sub(load_first(from + i, lanes), high), scale, shift);
      return S::fma(normal, load_first(by + i, lanes), load_first(plus + i, lanes));
    });
  };
  const SumParts parts{size};
  const auto deviations = [=](Index r, Index i) {
    return deviations_of(x + r * size + parts.first(i), 1, parts.values(i), parts.values(i));
  };
  const auto finish = [=](Index r, const auto& part) {
    double var;
    sum_of_parts<Deviations>(parts.count, part).moments_to(mean + r, &var);
    inv_std[r] = inverse_deviation(size, var, eps);
  };
  const RowTasks tasks(s.rows, size, 2);
  const Index grain = std::max<Index>(1, sum_grain / size);
  if (!tasks.cut)
    return parallel_for(ceil_div(s.rows, grain), tasks.threads, [&](Index task, int) {
      for (Index r = task * grain; r < std::min(s.rows, (task + 1) * grain); ++r) {
        finish(r, [&](Index i) { return deviations(r, i); });
        for (Index c = 0; c < channels; ++c) normalize(r, c, 0, plane);
      }
      store_fence();
    });
  const ScratchArray<Deviations> memory(s.rows * parts.count);
  Deviations* partial = memory.data();
  parallel_grid({s.rows, parts.count}, tasks.threads,
                [=](Index r, Index i, int) { partial[r * parts.count + i] = deviations(r, i); });
  for (Index r = 0; r < s.rows; ++r) finish(r, [=](Index i) { return partial[r * parts.count + i]; });
  each_norm_block(s, layer, normalize);
}

template <class T>
void rownorm_backward(const T* dout, const T* x, const double* mean, const double* inv_std, const T* gamma,
                      T* dx, T* dgamma, T* dbeta, const RowNormShape& s) {
  if (s.pixels > 1)
    return pixel_norm_backward(dout, x, mean, inv_std, gamma, dx, dgamma, dbeta, s.rows / s.pixels, s.C,
                               s.pixels);
  if (is_layer_norm(s))
    return layernorm_backward(dout, x, mean, inv_std, gamma, dx, dgamma, dbeta, s.rows, s.channels);
  GroupGradient<T>{dout, x, mean, inv_std, gamma, dx, s}.run(dgamma, dbeta);
}

}  // namespace cnnlib::CNNLIB_ISA
