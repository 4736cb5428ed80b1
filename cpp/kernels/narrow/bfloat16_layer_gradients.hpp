// Gradients of layers of bfloat16 that memory bounds.
#pragma once

#include "kernels/narrow/bfloat16_layers.hpp"

namespace cnnlib::CNNLIB_ISA {

// dx of some images: of each pixel the sum over the windows that it is in. term(sum, image, oh, ow, tap,
// offset in bytes) adds what window (oh, ow) gives to the pixel that is its tap.
template <class Term>
void gather_pool_gradient(const BfloatPool& p, std::uint8_t* dx, Index images, const Term& term) {
  const PoolShape& s = p.shape;
  fill_border(p.x, 0, dx, images);
  const SlidingWindows rows = row_windows(s), columns = column_windows(s);
  parallel_grid({images, s.H}, threads_for(double(images * s.H * s.W) * double(p.x.pixel()) / 4),
                [&](Index n, Index h, int) {
                  const Range in_rows{rows.first_reaching(h), rows.last_reaching(h)};
                  for (Index w = 0; w < s.W; ++w) {
                    const Range in_columns{columns.first_reaching(w), columns.last_reaching(w)};
                    each_vector(p.x, [&](Index at, Index count) {
                      BfloatLanes::Sums sum = BfloatLanes::zero();
                      for (Index oh = in_rows.first; oh < in_rows.last; ++oh)
                        for (Index ow = in_columns.first; ow < in_columns.last; ++ow) {
                          const Index tap =
                              (h + s.pad_top - oh * s.stride_h) * s.PW + w + s.pad_left - ow * s.stride_w;
                          sum = term(sum, n, oh, ow, tap, at);
                        }
                      BfloatLanes::store(dx + p.x.row_of(n, h) + w * p.x.pixel() + at, sum, count);
                    });
                  }
                });
}

// Windows that do not overlap: each pixel gets the gradient of its one window, or 0.
inline void spread_max_gradient(const BfloatPool& p, const std::uint8_t* dout, const std::uint16_t* places,
                                std::uint8_t* dx, Index images) {
  const PoolShape& s = p.shape;
  const Index bytes = p.x.pixel();
  const bool covered = s.stride_h == s.PH && s.stride_w == s.PW && s.pad_top == 0 && s.pad_left == 0 &&
                       s.OH * s.PH >= s.H && s.OW * s.PW >= s.W;
  if (covered)
    fill_border(p.x, 0, dx, images);
  else
    std::memset(dx, 0, std::size_t(images * p.x.bytes()));
  parallel_grid({images, s.OH}, threads_for(double(images * s.H * s.W) * double(bytes) / 16),
                [&](Index n, Index oh, int) {
                  for (Index ow = 0; ow < s.OW; ++ow) {
                    const Index top = oh * s.stride_h - s.pad_top, left = ow * s.stride_w - s.pad_left;
                    const std::uint8_t* const from = dout + p.y.row_of(n, oh) + ow * p.y.pixel();
                    const std::uint16_t* const own = places + ((n * s.OH + oh) * s.OW + ow) * p.x.channels();
                    for (Index at = 0; at < bytes; at += BfloatPair::bytes) {
                      const __m512i gradient = _mm512_loadu_si512(from + at),
                                    place = _mm512_loadu_si512(own + at / 2);
                      for (Index h = std::max<Index>(top, 0); h < std::min(top + s.PH, s.H); ++h)
                        for (Index w = std::max<Index>(left, 0); w < std::min(left + s.PW, s.W); ++w) {
                          const auto tap = short((h - top) * s.PW + w - left);
                          const __mmask32 won = _mm512_cmpeq_epi16_mask(place, _mm512_set1_epi16(tap));
                          BfloatPair::store_numbers(dx + p.x.row_of(n, h) + w * bytes + at,
                                                    _mm512_maskz_mov_epi16(won, gradient), (bytes - at) / 2);
                        }
                    }
                  }
                });
}

inline void max_pool_backward(const BfloatPool& p, const std::uint8_t* dout, const std::uint16_t* places,
                              std::uint8_t* dx, Index images) {
  const PoolShape& s = p.shape;
  if (s.stride_h >= s.PH && s.stride_w >= s.PW) return spread_max_gradient(p, dout, places, dx, images);
  gather_pool_gradient(
      p, dx, images, [&](BfloatLanes::Sums sum, Index n, Index oh, Index ow, Index tap, Index at) {
        const std::uint16_t* const own = places + ((n * s.OH + oh) * s.OW + ow) * p.x.channels() + at / 2;
        const __m256i place = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(own));
        const __mmask16 won = _mm256_cmpeq_epi16_mask(place, _mm256_set1_epi16(short(tap)));
        const BfloatLanes::Sums gradient =
            BfloatLanes::widened(dout + p.y.row_of(n, oh) + ow * p.y.pixel() + at);
        return _mm512_mask_add_ps(sum, won, sum, gradient);
      });
}

inline void avg_pool_backward(const BfloatPool& p, const std::uint8_t* dout, std::uint8_t* dx, Index images) {
  const PoolShape& s = p.shape;
  const SlidingWindows rows = row_windows(s), columns = column_windows(s);
  const auto share = [&](Index n, Index oh, Index ow, Index at) {
    const BfloatLanes::Sums gradient = BfloatLanes::widened(dout + p.y.row_of(n, oh) + ow * p.y.pixel() + at);
    return _mm512_div_ps(gradient, _mm512_set1_ps(float(rows.averaged(oh) * columns.averaged(ow))));
  };
  if (s.OH == 1 && s.OW == 1 && rows.end(0) == s.H && columns.end(0) == s.W) {  // all pixels get the same
    fill_border(p.x, 0, dx, images);
    parallel_grid({images, s.H}, threads_for(double(images * s.H * s.W) * double(p.x.pixel()) / 16),
                  [&](Index n, Index h, int) {
                    each_vector(p.x, [&](Index at, Index count) {
                      const BfloatLanes::Sums gradient = share(n, 0, 0, at);
                      for (Index w = 0; w < s.W; ++w)
                        BfloatLanes::store(dx + p.x.row_of(n, h) + w * p.x.pixel() + at, gradient, count);
                    });
                  });
    return;
  }
  gather_pool_gradient(p, dx, images,
                       [&](BfloatLanes::Sums sum, Index n, Index oh, Index ow, Index, Index at) {
                         return _mm512_add_ps(sum, share(n, oh, ow, at));
                       });
}

// dx = dout where y is not 0: y is the result of a ReLU.
inline void relu_backward(const BfloatImage& s, const std::uint8_t* dout, const std::uint8_t* y,
                          std::uint8_t* dx, Index images) {
  fill_border(s, 0, dx, images);
  each_row(s, s, s, dout, y, dx, images,
           [&](const std::uint8_t* p, const std::uint8_t* q, std::uint8_t* out, Index bytes) {
             for (Index i = 0; i < bytes; i += BfloatPair::bytes) {
               const __m512i result = _mm512_loadu_si512(q + i);
               const __mmask32 passes = _mm512_test_epi16_mask(result, _mm512_set1_epi16(0x7FFF));
               const __m512i gradient = _mm512_maskz_mov_epi16(passes, _mm512_loadu_si512(p + i));
               BfloatPair::store_numbers(out + i, gradient, (bytes - i) / 2);
             }
           });
}

// The gradient of a function, which `f` computes of floats: dout, and x or the result, as the function keeps.
inline void activate_backward(const BfloatImage& kept, const BfloatImage& y, const BfloatImage& x,
                              Activation kind, float alpha, BfloatFunctionGradient f,
                              const std::uint8_t* dout, const std::uint8_t* values, std::uint8_t* dx,
                              Index images) {
  constexpr Index L = BfloatLanes::size, part = 512;  // floats that stay in the first level
  fill_border(x, 0, dx, images);
  each_row(y, kept, x, dout, values, dx, images,
           [&](const std::uint8_t* p, const std::uint8_t* q, std::uint8_t* out, Index bytes) {
             alignas(64) float gradients[part], of[part];
             for (Index first = 0; first < bytes / 2; first += part) {
               const Index count = std::min(part, bytes / 2 - first);
               for (Index i = 0; i < count; i += L) {
                 _mm512_store_ps(gradients + i, BfloatLanes::widened(p + 2 * (first + i)));
                 _mm512_store_ps(of + i, BfloatLanes::widened(q + 2 * (first + i)));
               }
               f(kind, gradients, of, gradients, alpha, count);
               for (Index i = 0; i < count; i += L)
                 BfloatLanes::store(out + 2 * (first + i), _mm512_load_ps(gradients + i), count - i);
             }
           });
}

// The channels of x from `first` on become those of y, whose padding is 0.
inline void take_channels(const BfloatImage& x, Index first, const BfloatImage& y, const std::uint8_t* from,
                          std::uint8_t* to, Index images) {
  fill_border(y, 0, to, images);
  each_row(x, x, y, from, nullptr, to, images,
           [&](const std::uint8_t* p, const std::uint8_t*, std::uint8_t* out, Index) {
             for (Index w = 0; w < y.W; ++w, out += y.pixel()) {
               std::memcpy(out, p + w * x.pixel() + 2 * first, std::size_t(2 * y.C));
               std::memset(out + 2 * y.C, 0, std::size_t(y.pixel() - 2 * y.C));
             }
           });
}

}  // namespace cnnlib::CNNLIB_ISA
