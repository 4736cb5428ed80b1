// AVX2, with AVX-VNNI or without.
#pragma once

#include <immintrin.h>

#include "kernels/int8/pairs.hpp"

namespace cnnlib::CNNLIB_ISA {

struct Lanes {
  static constexpr int size = 8, registers = 16;
  using Sums = __m256i;
  using Scales = __m256;

  static Sums zero() { return _mm256_setzero_si256(); }
  static Sums fill(int v) { return _mm256_set1_epi32(v); }
  static Sums load(const std::int32_t* p) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)); }
  static Sums add(Sums a, Sums b) { return _mm256_add_epi32(a, b); }
  static Sums subtract(Sums a, Sums b) { return _mm256_sub_epi32(a, b); }
  static Sums quarter(Sums a) { return _mm256_srai_epi32(a, 2); }
  static Sums multiply(Sums a, Sums b) { return _mm256_mullo_epi32(a, b); }
  static Sums shift_left(Sums a, int bits) { return _mm256_sll_epi32(a, _mm_cvtsi32_si128(bits)); }
  static Scales fill_scales(float v) { return _mm256_set1_ps(v); }
  static Scales load_scales(const float* p) { return _mm256_loadu_ps(p); }
  static Sums bytes(const std::uint8_t* p) { return _mm256_cvtepu8_epi32(eight(p)); }

  static Scales scaled(Sums sums, Scales scales) { return _mm256_mul_ps(_mm256_cvtepi32_ps(sums), scales); }
  static Scales divided(Scales a, Scales b) { return _mm256_div_ps(a, b); }
  static Sums rounded(Scales v, Scales low, Scales high) {
    return _mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(v, low), high));
  }
  static void store_bytes(std::uint8_t* p, Sums v) {
    const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(words, words));
  }
  static void store_sums(std::int32_t* p, Sums v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v); }
  static void store_floats(float* p, Scales v) { _mm256_storeu_ps(p, v); }

  using Pairs = __m256i;
  static Pairs load_pairs(const std::int16_t* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
  static Pairs broadcast_pair(const std::int16_t* p) {
    int v;
    std::memcpy(&v, p, 4);
    return _mm256_set1_epi32(v);
  }
  static Sums dot_pairs(Sums sums, Pairs x, Pairs w) {
    return _mm256_add_epi32(sums, _mm256_madd_epi16(x, w));
  }

#ifdef __AVXVNNI__
  static constexpr bool multiplies_bytes = true;
  static constexpr int tile_rows = 6;  // x 2 vectors of sums, 2 of weights, 1 of values
  using Values = __m256i;
  using Weights = __m256i;
  static constexpr int weight_bytes = 32;
  static Weights load_weights(const std::uint8_t* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
  static void pack_weights(const std::int8_t* weights, void* packed) { std::memcpy(packed, weights, 32); }
  static Values values(__m256i v) { return v; }
  static Sums dot(Sums sums, Values x, Weights w) { return _mm256_dpbusd_avx_epi32(sums, x, w); }
  static Values broadcast(const std::uint8_t* p) {
    int v;
    std::memcpy(&v, p, 4);
    return values(_mm256_set1_epi32(v));
  }
#else
  static constexpr bool multiplies_bytes = false;
  static constexpr int tile_rows = 4;  // x 2 vectors of sums, 4 of weights, 2 of values, 1 of products
  struct Values {
    __m256i even, odd;
  };
  using Weights = Values;
  static constexpr int weight_bytes = 64;
  static Weights load_weights(const std::uint8_t* p) {
    const auto* from = reinterpret_cast<const __m256i*>(p);
    return {_mm256_loadu_si256(from), _mm256_loadu_si256(from + 1)};
  }
  static void pack_weights(const std::int8_t* weights, void* packed) { pack_pairs(weights, size, packed); }
  static Values values(__m256i v) {
    return {_mm256_and_si256(v, _mm256_set1_epi16(255)), _mm256_srli_epi16(v, 8)};
  }
  static Sums dot(Sums sums, const Values& x, const Weights& w) {
    sums = _mm256_add_epi32(sums, _mm256_madd_epi16(x.even, w.even));
    return _mm256_add_epi32(sums, _mm256_madd_epi16(x.odd, w.odd));
  }
#endif

  static Values interleave(const std::uint8_t* a, const std::uint8_t* b, const std::uint8_t* c,
                           const std::uint8_t* d) {
    const __m128i ab = _mm_unpacklo_epi8(eight(a), eight(b)), cd = _mm_unpacklo_epi8(eight(c), eight(d));
    return values(_mm256_set_m128i(_mm_unpackhi_epi16(ab, cd), _mm_unpacklo_epi16(ab, cd)));
  }

  // Blocks of four vectors: of 32 channels, vector j has channels 4 j to 4 j + 3 of each sixteen.
  static constexpr bool has_blocks = true;
  static void interleave_block(const std::uint8_t* const (&rows)[4], Values (&out)[4]) {
    __m256i r[4];
    for (int i = 0; i < 4; ++i) r[i] = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(rows[i]));
    const __m256i ab[2] = {_mm256_unpacklo_epi8(r[0], r[1]), _mm256_unpackhi_epi8(r[0], r[1])};
    const __m256i cd[2] = {_mm256_unpacklo_epi8(r[2], r[3]), _mm256_unpackhi_epi8(r[2], r[3])};
    for (int i = 0; i < 2; ++i) {
      out[2 * i] = values(_mm256_unpacklo_epi16(ab[i], cd[i]));
      out[2 * i + 1] = values(_mm256_unpackhi_epi16(ab[i], cd[i]));
    }
  }
  struct Rounding {
    __m256 most;  // saturates, and converts
    __m256i zero, low, high;
    Rounding(int zero_point, int low_byte, int high_byte)
        : most(_mm256_set1_ps(1e6F)),
          zero(_mm256_set1_epi16(short(zero_point))),
          low(_mm256_set1_epi8(char(low_byte))),
          high(_mm256_set1_epi8(char(high_byte))) {}
  };
  static void store_block(const Scales (&v)[4], const Rounding& r, std::uint8_t* y) {
    const auto whole = [&](Scales x) { return _mm256_cvtps_epi32(_mm256_min_ps(r.most, x)); };
    const auto words = [&](Scales a, Scales b) {
      return _mm256_adds_epi16(_mm256_packs_epi32(whole(a), whole(b)), r.zero);
    };
    const __m256i bytes = _mm256_packus_epi16(words(v[0], v[1]), words(v[2], v[3]));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(y),
                        _mm256_min_epu8(_mm256_max_epu8(bytes, r.low), r.high));
  }

 private:
  static __m128i eight(const std::uint8_t* p) { return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)); }
};

}  // namespace cnnlib::CNNLIB_ISA
