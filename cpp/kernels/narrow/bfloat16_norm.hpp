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
  Index vectors, channels;  // pairs of vectors of channels; channels that these have
  Index rows, of_image;     // of a band, and bands

  explicit BfloatBands(const BfloatImage& image)
      : s(image),
        vectors(ceil_div(s.C, BfloatPair::size)),
        channels(vectors * BfloatPair::size),
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

// Adds floats to doubles in memory, which lie as `even` and `odd`, one behind the other.
inline void add_to_doubles(double* to, const BfloatPair& values) {
  const auto add = [](double* at, BfloatLanes::Sums v) {
    const __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(v));
    const __m512d high = _mm512_cvtps_pd(_mm512_extractf32x8_ps(v, 1));
    _mm512_storeu_pd(at, _mm512_add_pd(_mm512_loadu_pd(at), low));
    _mm512_storeu_pd(at + 8, _mm512_add_pd(_mm512_loadu_pd(at + 8), high));
  };
  add(to, values.even);
  add(to + BfloatLanes::size, values.odd);
}
// Returns the place of a channel's sum among such doubles.
inline Index place_of_channel(Index c) {
  return c / BfloatPair::size * BfloatPair::size + c % 2 * BfloatLanes::size + c % BfloatPair::size / 2;
}

inline BfloatLanes::Sums total(BfloatLanes::Sums a, BfloatLanes::Sums b) { return _mm512_add_ps(a, b); }
inline BfloatLanes::Sums difference(BfloatLanes::Sums a, BfloatLanes::Sums b) { return _mm512_sub_ps(a, b); }
inline BfloatLanes::Sums product_sum(BfloatLanes::Sums a, BfloatLanes::Sums b, BfloatLanes::Sums sum) {
  return _mm512_fmadd_ps(a, b, sum);
}

// Sums of a band, and of its squares, less the values of its first pixel: rows in float32, the rest in
// float64.
inline void band_sums(const BfloatBands& bands, const std::uint8_t* x, Index n, Range rows, double* sums,
                      double* squares) {
  const BfloatImage& s = bands.s;
  const std::uint8_t* const first = x + s.row_of(n, rows.first);
  std::fill_n(sums, bands.channels, 0.0);
  std::fill_n(squares, bands.channels, 0.0);
  for (Index h = rows.first; h < rows.last; ++h)
    for (Index v = 0; v < bands.vectors; ++v) {
      const Index at = v * BfloatPair::bytes;
      const std::uint8_t* const row = x + s.row_of(n, h) + at;
      const BfloatPair shift = BfloatPair::load(first + at);
      BfloatPair sum = BfloatPair::zero(), square = BfloatPair::zero();
      for (Index w = 0; w < s.W; ++w) {
        const BfloatPair d = each_half(&difference, BfloatPair::load(row + w * s.pixel()), shift);
        sum = each_half(&total, sum, d);
        square = each_half(&product_sum, d, d, square);
      }
      add_to_doubles(sums + v * BfloatPair::size, sum);
      add_to_doubles(squares + v * BfloatPair::size, square);
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
    const double own = double((std::min(s.H, first + bands.rows) - first) * s.W), all_values = count + own;
    const double *const sum = sums + 2 * band * bands.channels, *const square = sum + bands.channels;
    const std::uint8_t* const pixel = x + s.row_of(n, first);
    for (Index c = 0; c < s.C; ++c) {
      const float shift = BfloatLanes::widened_one(pixel + 2 * c);
      const Index at = place_of_channel(c);
      const double of_mean = sum[at] / own, delta = double(shift) + of_mean - mean[c];
      mean[c] += delta * (own / all_values);
      var[c] += square[at] - sum[at] * of_mean + delta * delta * (count * own / all_values);
    }
    count = all_values;
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
  BfloatPair pair(int kind, Index v) const { return BfloatPair::split(of(kind) + v * BfloatPair::size); }

 private:
  Index channels_;
  Scratch memory_;
};

// y = clamp(x * scale + shift), where scale = gamma * inv_std and shift = beta - mean * scale, of a batch,
// whose mean, variance and 1 / sqrt(variance + eps) are left.
inline void bfloat_norm_train(const BfloatNorm& s, const std::uint8_t* x, const float* gamma,
                              const float* beta, double eps, std::uint8_t* y, double* mean, double* var,
                              double* inv_std, Index N) {
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
        const Index at = v * BfloatPair::bytes, left = in.channels() - v * BfloatPair::size;
        const std::uint8_t* const from = x + in.row_of(n, h) + at;
        std::uint8_t* const to = y + s.y.row_of(n, h) + at;
        const BfloatPair scale = numbers.pair(0, v), shift = numbers.pair(1, v);
        for (Index w = 0; w < in.W; ++w)
          each_half(clamp, each_half(&product_sum, BfloatPair::load(from + w * in.pixel()), scale, shift))
              .store(to + w * in.pixel(), left);
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
  // body(pixel, gradient before the ReLU, value less the mean) for a pair of vectors of a row.
  const auto each_pixel = [&](Index n, Index h, Index v, const auto& body) {
    const Index at = v * BfloatPair::bytes;
    const std::uint8_t *const from = g.x + in.row_of(n, h) + at, *const by = g.dout + s.y.row_of(n, h) + at;
    const BfloatPair a = numbers.pair(scale, v), b = numbers.pair(shift, v), m = numbers.pair(centre, v);
    for (Index w = 0; w < in.W; ++w) {
      const BfloatPair value = BfloatPair::load(from + w * in.pixel());
      BfloatPair dout = BfloatPair::load(by + w * in.pixel());
      if (s.relu)
        dout = each_half(
            [](L::Sums gradient, L::Sums x, L::Sums of_x, L::Sums constant_of) {
              const L::Sums y = _mm512_fmadd_ps(x, of_x, constant_of);
              return _mm512_maskz_mov_ps(_mm512_cmp_ps_mask(y, L::zero(), _CMP_NLE_UQ), gradient);
            },
            dout, value, a, b);
      body(w, dout, each_half(&difference, value, m));
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
        BfloatPair of_dout = BfloatPair::zero(), of_products = BfloatPair::zero();
        each_pixel(n, h, v, [&](Index, const BfloatPair& dout, const BfloatPair& centred) {
          of_dout = each_half(&total, of_dout, dout);
          of_products = each_half(&product_sum, dout, centred, of_products);
        });
        add_to_doubles(own + v * BfloatPair::size, of_dout);
        add_to_doubles(own + bands.channels + v * BfloatPair::size, of_products);
      }
  });
  const double count = double(N * in.H * in.W);
  for (Index c = 0; c < in.C; ++c) {
    double dbeta = 0, products = 0;
    for (Index band = 0; band < all; ++band) {
      dbeta += sums[2 * band * bands.channels + place_of_channel(c)];
      products += sums[(2 * band + 1) * bands.channels + place_of_channel(c)];
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
        std::uint8_t* const to = g.dx + in.row_of(n, h) + v * BfloatPair::bytes;
        const BfloatPair a = numbers.pair(scale, v), b = numbers.pair(of_x, v), c = numbers.pair(constant, v);
        const Index left = in.channels() - v * BfloatPair::size;
        each_pixel(n, h, v, [&](Index w, const BfloatPair& dout, const BfloatPair& centred) {
          const BfloatPair of_value = each_half(&product_sum, centred, b, c);
          each_half(&product_sum, dout, a, of_value).store(to + w * in.pixel(), left);
        });
      }
  });
}

}  // namespace cnnlib::CNNLIB_ISA
