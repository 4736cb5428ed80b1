// Batch norm of bfloat16 in training: statistics, results and gradients in float32 and float64.
#pragma once

#include <cmath>

#include "kernels/narrow/bfloat16_format.hpp"
#include "kernels/narrow/images.hpp"
#include "memory/scratch.hpp"

namespace cnnlib::CNNLIB_ISA {

// How the images of a norm are cut, by the shape alone: bands of rows, each with sums of its own.
struct BfloatBands {
  static constexpr Index values =
      1 << 16;  // of a band: a tenth of a millisecond, so that many cores have work
  const BfloatImage& s;
  Index vectors, channels;  // of channels; these padded to whole vectors
  Index rows, of_image;     // of a band, and bands

  explicit BfloatBands(const BfloatImage& image)
      : s(image),
        vectors(ceil_div(s.C, BfloatLanes::size)),
        channels(vectors * BfloatLanes::size),
        rows(std::clamp<Index>(values / std::max<Index>(1, s.W * s.channels()), 1, s.H)),
        of_image(ceil_div(s.H, rows)) {}
  int threads(Index N) const { return threads_for(double(N * s.H * s.W) * double(s.C) / 4); }
  // body(image, rows, number of the band)
  template <class Body>
  void each(Index N, const Body& body) const {
    parallel_grid({N, of_image}, threads(N), [&](Index n, Index b, int) {
      body(n, Range{b * rows, std::min(s.H, (b + 1) * rows)}, n * of_image + b);
    });
  }
};

// Adds a vector of floats to doubles in memory.
inline void add_to_doubles(double* to, BfloatLanes::Sums v) {
  const __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(v));
  const __m512d high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1));
  _mm512_storeu_pd(to, _mm512_add_pd(_mm512_loadu_pd(to), low));
  _mm512_storeu_pd(to + 8, _mm512_add_pd(_mm512_loadu_pd(to + 8), high));
}

// Sums of a band, and of its squares, less the values of its first pixel: rows in float32, the rest in
// float64.
inline void band_sums(const BfloatBands& bands, const std::uint8_t* x, Index n, Range rows, double* sums,
                      double* squares) {
  using L = BfloatLanes;
  const BfloatImage& s = bands.s;
  const std::uint8_t* const first = x + s.row_of(n, rows.first);
  std::fill_n(sums, bands.channels, 0.0);
  std::fill_n(squares, bands.channels, 0.0);
  for (Index h = rows.first; h < rows.last; ++h)
    for (Index v = 0; v < bands.vectors; ++v) {
      const Index at = 2 * v * L::size;
      const std::uint8_t* const row = x + s.row_of(n, h) + at;
      const L::Sums shift = L::widened(first + at);
      L::Sums sum = L::zero(), square = L::zero();
      for (Index w = 0; w < s.W; ++w) {
        const L::Sums d = _mm512_sub_ps(L::widened(row + w * s.pixel()), shift);
        sum = _mm512_add_ps(sum, d);
        square = _mm512_fmadd_ps(d, d, square);
      }
      add_to_doubles(sums + v * L::size, sum);
      add_to_doubles(squares + v * L::size, square);
    }
}

// Mean and variance of each channel over a batch: of shifted sums of bands, which are joined in their order
// (Chan, Golub and LeVeque 1979).
inline void batch_moments(const BfloatBands& bands, const std::uint8_t* x, double* mean, double* var,
                          Index N) {
  const BfloatImage& s = bands.s;
  const Index all = N * bands.of_image;
  const Scratch memory(sizeof(double) * std::size_t(2 * all * bands.channels));
  auto* const sums = static_cast<double*>(memory.data());
  bands.each(N, [&](Index n, Range rows, Index band) {
    double* const own = sums + 2 * band * bands.channels;
    band_sums(bands, x, n, rows, own, own + bands.channels);
  });
  std::fill_n(mean, s.C, 0.0);
  std::fill_n(var, s.C, 0.0);
  double count = 0;
  for (Index band = 0; band < all; ++band) {
    const Index n = band / bands.of_image, first = band % bands.of_image * bands.rows;
    const double own = double((std::min(s.H, first + bands.rows) - first) * s.W), total = count + own;
    const double *const sum = sums + 2 * band * bands.channels, *const square = sum + bands.channels;
    const std::uint8_t* const pixel = x + s.row_of(n, first);
    for (Index v = 0; v < bands.vectors; ++v) {
      alignas(64) float shift[BfloatLanes::size];
      _mm512_store_ps(shift, BfloatLanes::widened(pixel + 2 * v * BfloatLanes::size));
      const Index begin = v * BfloatLanes::size, end = std::min(s.C, begin + BfloatLanes::size);
#pragma omp simd
      for (Index c = begin; c < end; ++c) {
        const double of_mean = sum[c] / own, delta = double(shift[c - begin]) + of_mean - mean[c];
        mean[c] += delta * (own / total);
        var[c] += square[c] - sum[c] * of_mean + delta * delta * (count * own / total);
      }
    }
    count = total;
  }
  for (Index c = 0; c < s.C; ++c) var[c] = std::max(0.0, var[c] / count);
}

// Numbers of each channel, padded to whole vectors.
template <int kinds>
class ChannelNumbers {
 public:
  explicit ChannelNumbers(const BfloatBands& bands)
      : channels_(bands.channels), memory_(sizeof(float) * std::size_t(kinds * bands.channels)) {
    std::fill_n(static_cast<float*>(memory_.data()), kinds * channels_, 0.0F);
  }
  float* of(int kind) const { return static_cast<float*>(memory_.data()) + kind * channels_; }
  BfloatLanes::Sums vector(int kind, Index v) const {
    return BfloatLanes::load(of(kind) + v * BfloatLanes::size);
  }

 private:
  Index channels_;
  Scratch memory_;
};

// y = clamp(x * scale + shift), where scale = gamma * inv_std and shift = beta - mean * scale, of a batch,
// whose mean, variance and 1 / sqrt(variance + eps) are left.
inline void bfloat_norm_train(const BfloatNorm& s, const std::uint8_t* x, const float* gamma,
                              const float* beta, double eps, std::uint8_t* y, double* mean, double* var,
                              double* inv_std, Index N) {
  using L = BfloatLanes;
  const BfloatImage& in = s.x;
  const BfloatBands bands(in);
  batch_moments(bands, x, mean, var, N);
  const ChannelNumbers<2> numbers(bands);
  for (Index c = 0; c < in.C; ++c) {
    inv_std[c] = 1 / std::sqrt(var[c] + eps);
    numbers.of(0)[c] = float(gamma[c] * inv_std[c]);
    numbers.of(1)[c] = float(beta[c] - mean[c] * inv_std[c] * gamma[c]);
  }
  fill_border(s.y, 0, y, N);
  const BfloatClamp clamp({s.relu ? 0.0F : -Clamp<float>::infinity, Clamp<float>::infinity});
  bands.each(N, [&](Index n, Range rows, Index) {
    for (Index h = rows.first; h < rows.last; ++h)
      for (Index v = 0; v < bands.vectors; ++v) {
        const Index at = 2 * v * L::size, left = in.channels() - v * L::size;
        const std::uint8_t* const from = x + in.row_of(n, h) + at;
        std::uint8_t* const to = y + s.y.row_of(n, h) + at;
        const L::Sums scale = numbers.vector(0, v), shift = numbers.vector(1, v);
        for (Index w = 0; w < in.W; ++w)
          L::store(to + w * in.pixel(),
                   clamp(_mm512_fmadd_ps(L::widened(from + w * in.pixel()), scale, shift)), left);
      }
  });
}

// With g the gradient before the ReLU and z = (x - mean) * inv_std:
//   dbeta = sum g, dgamma = sum g z, dx = gamma inv_std (g - dbeta / n - z dgamma / n)
inline void bfloat_norm_backward(const BfloatNorm& s, const BfloatNormGradients& g, Index N) {
  using L = BfloatLanes;
  const BfloatImage& in = s.x;
  const BfloatBands bands(in);
  enum { scale, shift, centre, of_x, constant, kinds };
  const ChannelNumbers<kinds> numbers(bands);
  for (Index c = 0; c < in.C; ++c) {
    numbers.of(scale)[c] = float(g.gamma[c] * g.inv_std[c]);
    numbers.of(shift)[c] = float(g.beta[c] - g.mean[c] * g.inv_std[c] * g.gamma[c]);
    numbers.of(centre)[c] = float(g.mean[c]);
  }
  // body(pixel, gradient before the ReLU, value) for a vector of a row.
  const auto each_pixel = [&](Index n, Index h, Index v, const auto& body) {
    const Index at = 2 * v * L::size;
    const std::uint8_t *const from = g.x + in.row_of(n, h) + at, *const by = g.dout + s.y.row_of(n, h) + at;
    const L::Sums a = numbers.vector(scale, v), b = numbers.vector(shift, v);
    for (Index w = 0; w < in.W; ++w) {
      const L::Sums value = L::widened(from + w * in.pixel());
      L::Sums dout = L::widened(by + w * in.pixel());
      if (s.relu) {
        const __mmask16 passes = _mm512_cmp_ps_mask(_mm512_fmadd_ps(value, a, b), L::zero(), _CMP_NLE_UQ);
        dout = _mm512_maskz_mov_ps(passes, dout);
      }
      body(w, dout, value);
    }
  };
  const Index all = N * bands.of_image;
  const Scratch memory(sizeof(double) * std::size_t(2 * all * bands.channels));
  auto* const sums = static_cast<double*>(memory.data());
  bands.each(N, [&](Index n, Range rows, Index band) {
    double* const own = sums + 2 * band * bands.channels;
    std::fill_n(own, 2 * bands.channels, 0.0);
    for (Index h = rows.first; h < rows.last; ++h)
      for (Index v = 0; v < bands.vectors; ++v) {
        const L::Sums m = numbers.vector(centre, v);
        L::Sums of_dout = L::zero(), of_products = L::zero();
        each_pixel(n, h, v, [&](Index, L::Sums dout, L::Sums value) {
          of_dout = _mm512_add_ps(of_dout, dout);
          of_products = _mm512_fmadd_ps(dout, _mm512_sub_ps(value, m), of_products);
        });
        add_to_doubles(own + v * L::size, of_dout);
        add_to_doubles(own + bands.channels + v * L::size, of_products);
      }
  });
  const double count = double(N * in.H * in.W);
  for (Index c = 0; c < in.C; ++c) {
    double dbeta = 0, products = 0;
    for (Index band = 0; band < all; ++band) {
      dbeta += sums[2 * band * bands.channels + c];
      products += sums[(2 * band + 1) * bands.channels + c];
    }
    const double inv_std = g.inv_std[c], dgamma = products * inv_std, factor = g.gamma[c] * inv_std;
    g.dbeta[c] = float(dbeta);
    g.dgamma[c] = float(dgamma);
    numbers.of(of_x)[c] = float(-factor * inv_std * dgamma / count);
    numbers.of(constant)[c] = float(-factor * dbeta / count);
  }
  fill_border(in, 0, g.dx, N);
  bands.each(N, [&](Index n, Range rows, Index) {
    for (Index h = rows.first; h < rows.last; ++h)
      for (Index v = 0; v < bands.vectors; ++v) {
        std::uint8_t* const to = g.dx + in.row_of(n, h) + 2 * v * L::size;
        const L::Sums a = numbers.vector(scale, v), b = numbers.vector(of_x, v),
                      m = numbers.vector(centre, v), c = numbers.vector(constant, v);
        const Index left = in.channels() - v * L::size;
        each_pixel(n, h, v, [&](Index w, L::Sums dout, L::Sums value) {
          const L::Sums of_value = _mm512_fmadd_ps(_mm512_sub_ps(value, m), b, c);
          L::store(to + w * in.pixel(), _mm512_fmadd_ps(dout, a, of_value), left);
        });
      }
  });
}

}  // namespace cnnlib::CNNLIB_ISA
