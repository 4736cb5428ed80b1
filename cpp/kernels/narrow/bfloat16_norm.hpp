// Batch norm of bfloat16 in training: statistics, results and gradients in float32 and float64.
#pragma once

#include <cmath>
#include <vector>

#include "kernels/narrow/bfloat16_format.hpp"
#include "kernels/narrow/images.hpp"

namespace cnnlib::CNNLIB_ISA {

inline int norm_threads(const BfloatImage& s, Index N) {
  return threads_for(double(N * s.H * s.W) * double(s.C) / 4);
}

// Mean and squared deviations of so many values of each lane's channel (Chan, Golub and LeVeque 1979).
struct BfloatMoments {
  double count = 0;
  double mean[BfloatLanes::size] = {}, squares[BfloatLanes::size] = {};

  // Adds another group of values.
  template <class Number>
  void add(double n, const Number* other_mean, const Number* other_squares) {
    if (n == 0) return;
    const double total = count + n;
    for (Index i = 0; i < BfloatLanes::size; ++i) {
      const double delta = double(other_mean[i]) - mean[i];
      mean[i] += delta * (n / total);
      squares[i] += double(other_squares[i]) + delta * delta * (count * n / total);
    }
    count = total;
  }
};

// Moments of a row of pixels, twice through the first level.
inline void add_row_moments(const std::uint8_t* x, Index step, Index W, BfloatMoments& moments) {
  using L = BfloatLanes;
  L::Sums sum = L::zero(), squares = L::zero();
  for (Index w = 0; w < W; ++w) sum = _mm512_add_ps(sum, L::widened(x + w * step));
  const L::Sums mean = _mm512_div_ps(sum, _mm512_set1_ps(float(W)));
  for (Index w = 0; w < W; ++w) {
    const L::Sums d = _mm512_sub_ps(L::widened(x + w * step), mean);
    squares = _mm512_fmadd_ps(d, d, squares);
  }
  alignas(64) float of_mean[L::size], of_squares[L::size];
  _mm512_store_ps(of_mean, mean);
  _mm512_store_ps(of_squares, squares);
  moments.add(double(W), of_mean, of_squares);
}

// out = clamp((x - mean) * inv_std * gamma + beta) of a batch, whose mean, variance and 1 / sqrt(variance +
// eps) are left.
inline void bfloat_norm_train(const BfloatNorm& s, const std::uint8_t* x, const float* gamma,
                              const float* beta, double eps, std::uint8_t* y, double* mean, double* var,
                              double* inv_std, Index N) {
  using L = BfloatLanes;
  const BfloatImage& in = s.x;
  const Index vectors = ceil_div(in.C, L::size);
  const int threads = norm_threads(in, N);
  std::vector<BfloatMoments> moments(std::size_t(N * vectors));
  parallel_grid({N, vectors}, threads, [&](Index n, Index v, int) {
    for (Index h = 0; h < in.H; ++h)
      add_row_moments(x + in.row_of(n, h) + 2 * v * L::size, in.pixel(), in.W,
                      moments[std::size_t(n * vectors + v)]);
  });
  std::vector<float> scale(std::size_t(vectors * L::size)), shift(scale.size());
  for (Index v = 0; v < vectors; ++v) {
    BfloatMoments all;
    for (Index n = 0; n < N; ++n) {
      const BfloatMoments& own = moments[std::size_t(n * vectors + v)];
      all.add(own.count, own.mean, own.squares);
    }
    for (Index c = v * L::size; c < std::min(in.C, (v + 1) * L::size); ++c) {
      mean[c] = all.mean[c % L::size];
      var[c] = all.squares[c % L::size] / all.count;
      inv_std[c] = 1 / std::sqrt(var[c] + eps);
      scale[std::size_t(c)] = float(gamma[c] * inv_std[c]);
      shift[std::size_t(c)] = float(beta[c] - mean[c] * inv_std[c] * gamma[c]);
    }
  }
  fill_border(s.y, 0, y, N);
  const BfloatClamp clamp({s.relu ? 0.0F : -Clamp<float>::infinity, Clamp<float>::infinity});
  parallel_grid({N, in.H}, threads, [&](Index n, Index h, int) {
    for (Index v = 0; v < vectors; ++v) {
      const std::uint8_t* const from = x + in.row_of(n, h) + 2 * v * L::size;
      std::uint8_t* const to = y + s.y.row_of(n, h) + 2 * v * L::size;
      const L::Sums a = L::load(scale.data() + v * L::size), b = L::load(shift.data() + v * L::size);
      const Index left = in.channels() - v * L::size;
      for (Index w = 0; w < in.W; ++w)
        L::store(to + w * in.pixel(), clamp(_mm512_fmadd_ps(L::widened(from + w * in.pixel()), a, b)), left);
    }
  });
}

// dx like x, dout like y.
inline void bfloat_norm_backward(const BfloatNorm& s, const BfloatNormGradients& g, Index N) {
  using L = BfloatLanes;
  const BfloatImage& in = s.x;
  const Index vectors = ceil_div(in.C, L::size), padded = vectors * L::size;
  const int threads = norm_threads(in, N);
  constexpr Index kinds = 6;  // of numbers, one of each for every channel
  std::vector<float> numbers(std::size_t(kinds * padded));
  float *const scale = numbers.data(), *const shift = scale + padded, *const mean = shift + padded,
               *const inv_std = mean + padded, *const sum = inv_std + padded, *const products = sum + padded;
  for (Index c = 0; c < in.C; ++c) {
    scale[c] = float(g.gamma[c] * g.inv_std[c]);
    shift[c] = float(g.beta[c] - g.mean[c] * g.inv_std[c] * g.gamma[c]);
    mean[c] = float(g.mean[c]);
    inv_std[c] = float(g.inv_std[c]);
  }
  // The gradient before the ReLU, and the normalised value, of a vector of a pixel.
  const auto each_pixel = [&](Index n, Index h, Index v, const auto& body) {
    const std::uint8_t* const from = g.x + in.row_of(n, h) + 2 * v * L::size;
    const std::uint8_t* const by = g.dout + s.y.row_of(n, h) + 2 * v * L::size;
    const L::Sums a = L::load(scale + v * L::size), b = L::load(shift + v * L::size);
    const L::Sums m = L::load(mean + v * L::size), i = L::load(inv_std + v * L::size);
    for (Index w = 0; w < in.W; ++w) {
      const L::Sums value = L::widened(from + w * in.pixel());
      L::Sums dout = L::widened(by + w * in.pixel());
      if (s.relu) {
        const __mmask16 passes = _mm512_cmp_ps_mask(_mm512_fmadd_ps(value, a, b), L::zero(), _CMP_NLE_UQ);
        dout = _mm512_maskz_mov_ps(passes, dout);
      }
      body(w, dout, _mm512_mul_ps(_mm512_sub_ps(value, m), i));
    }
  };
  std::vector<double> partial(std::size_t(2 * N * padded));
  parallel_grid({N, vectors}, threads, [&](Index n, Index v, int) {
    double* const own = partial.data() + 2 * n * padded + v * L::size;
    for (Index h = 0; h < in.H; ++h) {
      L::Sums of_dout = L::zero(), of_products = L::zero();
      each_pixel(n, h, v, [&](Index, L::Sums dout, L::Sums normed) {
        of_dout = _mm512_add_ps(of_dout, dout);
        of_products = _mm512_fmadd_ps(dout, normed, of_products);
      });
      alignas(64) float lanes[2][L::size];
      _mm512_store_ps(lanes[0], of_dout);
      _mm512_store_ps(lanes[1], of_products);
      for (Index i = 0; i < L::size; ++i) {
        own[i] += double(lanes[0][i]);
        own[padded + i] += double(lanes[1][i]);
      }
    }
  });
  const double count = double(N * in.H * in.W);
  for (Index c = 0; c < in.C; ++c) {
    double dbeta = 0, dgamma = 0;
    for (Index n = 0; n < N; ++n) {
      dbeta += partial[std::size_t(2 * n * padded + c)];
      dgamma += partial[std::size_t((2 * n + 1) * padded + c)];
    }
    g.dbeta[c] = float(dbeta);
    g.dgamma[c] = float(dgamma);
    sum[c] = float(dbeta / count);
    products[c] = float(dgamma / count);
  }
  fill_border(in, 0, g.dx, N);
  parallel_grid({N, in.H}, threads, [&](Index n, Index h, int) {
    for (Index v = 0; v < vectors; ++v) {
      std::uint8_t* const to = g.dx + in.row_of(n, h) + 2 * v * L::size;
      const L::Sums a = L::load(scale + v * L::size), m = L::load(sum + v * L::size),
                    p = L::load(products + v * L::size);
      const Index left = in.channels() - v * L::size;
      each_pixel(n, h, v, [&](Index w, L::Sums dout, L::Sums normed) {
        const L::Sums centred = _mm512_sub_ps(_mm512_sub_ps(dout, m), _mm512_mul_ps(normed, p));
        L::store(to + w * in.pixel(), _mm512_mul_ps(a, centred), left);
      });
    }
  });
}

}  // namespace cnnlib::CNNLIB_ISA
