// SSE4.1: the baseline.
#pragma once

#include <smmintrin.h>

#include "kernels/int8/pairs.hpp"

namespace cnnlib::CNNLIB_ISA {

struct Lanes {
  static constexpr int size = 4, registers = 16;
  static constexpr bool multiplies_bytes = false;
  static constexpr int tile_rows = 4;  // x 2 vectors of sums, 4 of weights, 2 of values, 1 of products
  static constexpr bool has_blocks = false;
  using Sums = __m128i;
  using Scales = __m128;

  static Sums zero() { return _mm_setzero_si128(); }
  static Sums fill(int v) { return _mm_set1_epi32(v); }
  static Sums load(const std::int32_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
  static Sums add(Sums a, Sums b) { return _mm_add_epi32(a, b); }
  static Sums subtract(Sums a, Sums b) { return _mm_sub_epi32(a, b); }
  static Sums quarter(Sums a) { return _mm_srai_epi32(a, 2); }
  static Sums multiply(Sums a, Sums b) { return _mm_mullo_epi32(a, b); }
  static Sums shift_left(Sums a, int bits) { return _mm_sll_epi32(a, _mm_cvtsi32_si128(bits)); }
  static Scales fill_scales(float v) { return _mm_set1_ps(v); }
  static Scales load_scales(const float* p) { return _mm_loadu_ps(p); }
  static Sums bytes(const std::uint8_t* p) { return _mm_cvtepu8_epi32(four(p)); }

  static Scales scaled(Sums sums, Scales scales) { return _mm_mul_ps(_mm_cvtepi32_ps(sums), scales); }
  static Scales divided(Scales a, Scales b) { return _mm_div_ps(a, b); }
  static Sums rounded(Scales v, Scales low, Scales high) {
    return _mm_cvtps_epi32(_mm_min_ps(_mm_max_ps(v, low), high));
  }
  static void store_bytes(std::uint8_t* p, Sums v) {
    v = _mm_packus_epi32(v, v);
    const int four_bytes = _mm_cvtsi128_si32(_mm_packus_epi16(v, v));
    std::memcpy(p, &four_bytes, 4);
  }
  static void store_sums(std::int32_t* p, Sums v) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), v); }
  static void store_floats(float* p, Scales v) { _mm_storeu_ps(p, v); }

  using Pairs = __m128i;
  static Pairs load_pairs(const std::int16_t* p) {
    return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p));
  }
  static Pairs broadcast_pair(const std::int16_t* p) {
    int v;
    std::memcpy(&v, p, 4);
    return _mm_set1_epi32(v);
  }
  static Sums dot_pairs(Sums sums, Pairs x, Pairs w) { return _mm_add_epi32(sums, _mm_madd_epi16(x, w)); }

  struct Values {
    __m128i even, odd;
  };
  using Weights = Values;
  static constexpr int weight_bytes = 32;
  static Weights load_weights(const std::uint8_t* p) {
    const auto* from = reinterpret_cast<const __m128i*>(p);
    return {_mm_loadu_si128(from), _mm_loadu_si128(from + 1)};
  }
  static void pack_weights(const std::int8_t* weights, void* packed) { pack_pairs(weights, size, packed); }
  static Values values(__m128i v) { return {_mm_and_si128(v, _mm_set1_epi16(255)), _mm_srli_epi16(v, 8)}; }
  static Sums dot(Sums sums, const Values& x, const Weights& w) {
    sums = _mm_add_epi32(sums, _mm_madd_epi16(x.even, w.even));
    return _mm_add_epi32(sums, _mm_madd_epi16(x.odd, w.odd));
  }
  static Values interleave(const std::uint8_t* a, const std::uint8_t* b, const std::uint8_t* c,
                           const std::uint8_t* d) {
    const __m128i ab = _mm_unpacklo_epi8(four(a), four(b)), cd = _mm_unpacklo_epi8(four(c), four(d));
    return values(_mm_unpacklo_epi16(ab, cd));
  }

 private:
  static __m128i four(const std::uint8_t* p) {
    int v;
    std::memcpy(&v, p, 4);
    return _mm_cvtsi32_si128(v);
  }
};

}  // namespace cnnlib::CNNLIB_ISA
