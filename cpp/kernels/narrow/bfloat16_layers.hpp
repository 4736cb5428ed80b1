// Layers of bfloat16 that memory bounds: they read and write bfloat16, and compute in float32.
#pragma once

#include "kernels/narrow/bfloat16_format.hpp"
#include "kernels/narrow/images.hpp"

namespace cnnlib::CNNLIB_ISA {

// x (images, C, H, W) of floats, rounded.
inline void narrow(const float* x, const BfloatImage& s, std::uint8_t* y, Index images) {
  constexpr Index L = BfloatLanes::size;
  fill_border(s, 0, y, images);
  parallel_grid({images, s.H}, threads_for(double(images * s.C * s.H * s.W)), [&](Index n, Index h, int) {
    const float* const from = x + (n * s.C * s.H + h) * s.W;
    std::uint8_t* const to = y + s.row_of(n, h);
    for (Index w = 0; w < s.W; w += L) {
      const __mmask16 pixels = BfloatLanes::first(s.W - w);
      for (Index c = 0; c < s.C; c += 2) {
        const float* const low = from + c * s.H * s.W + w;
        const __m512 a = _mm512_maskz_loadu_ps(pixels, low);
        const __m512 b = c + 1 < s.C ? _mm512_maskz_loadu_ps(pixels, low + s.H * s.W) : BfloatLanes::zero();
        const __m512i lower = _mm512_cvtepu16_epi32(reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(a)));
        const __m512i upper = _mm512_cvtepu16_epi32(reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(b)));
        alignas(64) std::uint32_t pairs[L];
        _mm512_store_si512(pairs, _mm512_or_si512(lower, _mm512_slli_epi32(upper, 16)));
        for (Index i = 0; i < std::min(L, s.W - w); ++i)
          std::memcpy(to + (w + i) * s.pixel() + 2 * c, pairs + i, sizeof *pairs);
      }
    }
  });
}

// The values as (images, C, H, W) of floats.
inline void widen(const std::uint8_t* x, const BfloatImage& s, float* y, Index images) {
  parallel_grid({images, s.H}, threads_for(double(images * s.C * s.H * s.W)), [&](Index n, Index h, int) {
    const std::uint8_t* const from = x + s.row_of(n, h);
    float* const to = y + (n * s.C * s.H + h) * s.W;
    for (Index c = 0; c < s.C; ++c)
      for (Index w = 0; w < s.W; ++w)
        to[c * s.H * s.W + w] = BfloatLanes::widened_one(from + w * s.pixel() + 2 * c);
  });
}

// 32 values as integers of their order, in which NaN is the largest: magnitudes of negative ones are
// complemented. And back.
struct BfloatOrder {
  static __m512i of(const std::uint8_t* p) {
    const __m512i v = _mm512_loadu_si512(p), magnitude = _mm512_set1_epi16(0x7FFF);
    const __mmask32 nan = _mm512_cmpgt_epi16_mask(_mm512_and_si512(v, magnitude), _mm512_set1_epi16(0x7F80));
    return _mm512_mask_mov_epi16(flipped(v), nan, magnitude);
  }
  static __m512i flipped(__m512i v) {
    return _mm512_xor_si512(v, _mm512_srli_epi16(_mm512_srai_epi16(v, 15), 1));
  }
};

// The channels of a pixel, a vector of them at a time: body(offset in bytes, how many).
template <class Body>
void each_vector(const BfloatImage& s, const Body& body) {
  for (Index c = 0; c < s.channels(); c += BfloatLanes::size) body(2 * c, s.channels() - c);
}

// Max pooling. Where it `keeps` them, the place of each maximum in its window, the first of several, goes to
// `places`, which are like y without a border.
template <bool keeps>
void pool_maxima(const BfloatPool& p, const std::uint8_t* x, std::uint8_t* y, std::uint16_t* places,
                 Index images) {
  fill_border(p.y, 0, y, images);
  const PoolShape& s = p.shape;
  const Index bytes = p.x.pixel(), dh = s.dilation_h, dw = s.dilation_w;
  parallel_grid({images, s.OH}, threads_for(double(images * s.OH * s.OW * s.PH * s.PW) * double(bytes) / 4),
                [&](Index n, Index oh, int) {
                  const Index top = oh * s.stride_h - s.pad_top, first_h = first_inside(top, dh);
                  for (Index ow = 0; ow < s.OW; ++ow) {
                    const Index left = ow * s.stride_w - s.pad_left, first_w = first_inside(left, dw);
                    const Index bottom = std::min(top + dh * (s.PH - 1) + 1, s.H),
                                right = std::min(left + dw * (s.PW - 1) + 1, s.W);
                    const Index pixel = (n * s.OH + oh) * s.OW + ow;
                    std::uint8_t* const to = y + p.y.row_of(n, oh) + ow * bytes;
                    for (Index at = 0; at < bytes; at += BfloatPair::bytes) {
                      const Index count = (bytes - at) / 2;
                      __m512i most = _mm512_set1_epi16(-0x8000), place = _mm512_setzero_si512();
                      for (Index h = first_h; h < bottom; h += dh)
                        for (Index w = first_w; w < right; w += dw) {
                          const __m512i v = BfloatOrder::of(x + p.x.row_of(n, h) + w * bytes + at);
                          if constexpr (keeps) {
                            const auto here = short((h - top) / dh * s.PW + (w - left) / dw);
                            place = _mm512_mask_mov_epi16(place, _mm512_cmpgt_epi16_mask(v, most),
                                                          _mm512_set1_epi16(here));
                          }
                          most = _mm512_max_epi16(most, v);
                        }
                      BfloatPair::store_numbers(to + at, BfloatOrder::flipped(most), count);
                      if constexpr (keeps)
                        BfloatPair::store_numbers(places + pixel * p.x.channels() + at / 2, place, count);
                    }
                  }
                });
}

inline void max_pool(const BfloatPool& p, const std::uint8_t* x, std::uint8_t* y, Index images) {
  pool_maxima<false>(p, x, y, nullptr, images);
}

// The sum of each window, row by row, over what its average divides by.
inline void avg_pool(const BfloatPool& p, const std::uint8_t* x, std::uint8_t* y, Index images) {
  fill_border(p.y, 0, y, images);
  with_windows(p.shape, [&](const auto& rows, const auto& columns) {
    each_window(p, images, [&](Index from, Index oh, Index ow, Index to) {
      const auto divisor = _mm512_set1_ps(float(rows.averaged(oh) * columns.averaged(ow)));
      each_vector(p.x, [&](Index at, Index count) {
        BfloatLanes::Sums sum = BfloatLanes::zero();
        for (Index h = rows.begin(oh); h < rows.end(oh); ++h)
          for (Index w = columns.begin(ow); w < columns.end(ow); ++w)
            sum = _mm512_add_ps(sum, BfloatLanes::widened(x + from + h * p.x.row() + w * p.x.pixel() + at));
        BfloatLanes::store(y + to + at, _mm512_div_ps(sum, divisor), count);
      });
    });
  });
}

// use(op), where op(a, b) joins two vectors.
template <class Use>
void with_bfloat_join(Join kind, const Use& use) {
  using V = BfloatLanes::Sums;
  switch (kind) {
    case Join::add: return use([](V a, V b) { return _mm512_add_ps(a, b); });
    case Join::add_relu:
      return use([](V a, V b) { return _mm512_max_ps(_mm512_setzero_ps(), _mm512_add_ps(a, b)); });
    case Join::multiply: return use([](V a, V b) { return _mm512_mul_ps(a, b); });
  }
}

inline void join(const BfloatJoin& s, const std::uint8_t* a, const std::uint8_t* b, std::uint8_t* y,
                 Index images) {
  constexpr Index L = BfloatLanes::size;
  fill_border(s.y, 0, y, images);
  const bool whole = s.a.H == s.b.H && s.a.W == s.b.W;
  with_bfloat_join(s.kind, [&](auto op) {
    if (whole) {
      each_row(s.a, s.b, s.y, a, b, y, images,
               [&](const std::uint8_t* p, const std::uint8_t* q, std::uint8_t* out, Index bytes) {
                 for (Index i = 0; i < bytes; i += 2 * L)
                   BfloatLanes::store(out + i, op(BfloatLanes::widened(p + i), BfloatLanes::widened(q + i)),
                                      (bytes - i) / 2);
               });
      return;
    }
    parallel_grid({images, s.y.H}, threads_for(double(images * s.y.H * s.y.W * s.y.pixel()) / 4),
                  [&](Index n, Index h, int) {
                    const std::uint8_t *const p = a + s.a.row_of(n, h), *const q = b + s.b.row_of(n, 0);
                    std::uint8_t* const out = y + s.y.row_of(n, h);
                    each_vector(s.y, [&](Index at, Index count) {
                      const BfloatLanes::Sums of_channel = BfloatLanes::widened(q + at);
                      for (Index w = 0; w < s.y.W; ++w)
                        BfloatLanes::store(out + w * s.y.pixel() + at,
                                           op(BfloatLanes::widened(p + w * s.a.pixel() + at), of_channel),
                                           count);
                    });
                  });
  });
}

// A function of each value, which `f` computes of floats.
inline void activate(const BfloatImage& x, const BfloatImage& y, Activation kind, float alpha,
                     BfloatFunction f, const std::uint8_t* from, std::uint8_t* to, Index images) {
  constexpr Index L = BfloatLanes::size, part = 512;  // floats that stay in the first level
  fill_border(y, 0, to, images);
  each_row(x, x, y, from, nullptr, to, images,
           [&](const std::uint8_t* p, const std::uint8_t*, std::uint8_t* out, Index bytes) {
             alignas(64) float values[part];
             for (Index first = 0; first < bytes / 2; first += part) {
               const Index count = std::min(part, bytes / 2 - first);
               for (Index i = 0; i < count; i += L)
                 _mm512_store_ps(values + i, BfloatLanes::widened(p + 2 * (first + i)));
               f(kind, values, values, nullptr, alpha, count);
               for (Index i = 0; i < count; i += L)
                 BfloatLanes::store(out + 2 * (first + i), _mm512_load_ps(values + i), count - i);
             }
           });
}

// The channels of x become those of y from `first` on; the padding of y is 0.
inline void copy_channels(const BfloatImage& x, const BfloatImage& y, Index first, const std::uint8_t* from,
                          std::uint8_t* to, Index images) {
  if (first == 0) fill_border(y, 0, to, images);
  const Index bytes = 2 * (first + x.C == y.C ? y.channels() - first : x.C);
  each_row(x, x, y, from, nullptr, to, images,
           [&](const std::uint8_t* p, const std::uint8_t*, std::uint8_t* out, Index) {
             for (Index w = 0; w < y.W; ++w) {
               std::uint8_t* const at = out + w * y.pixel() + 2 * first;
               if (bytes > 2 * x.C) std::memset(at + 2 * x.C, 0, std::size_t(bytes - 2 * x.C));
               std::memcpy(at, p + w * x.pixel(), std::size_t(2 * x.C));
             }
           });
}

}  // namespace cnnlib::CNNLIB_ISA
