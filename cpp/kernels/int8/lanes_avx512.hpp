// AVX-512, with VNNI or without.
#pragma once

#include <immintrin.h>

#include "kernels/int8/pairs.hpp"

namespace cnnlib::CNNLIB_ISA {

struct Lanes {
  static constexpr int size = 16, registers = 32;
  static constexpr int tile_rows = 12;  // x 2 vectors of sums, 2 of weights (4 without VNNI), 1 of values (2)
  using Sums = __m512i;
  using Scales = __m512;

  static Sums zero() { return _mm512_setzero_si512(); }
  static Sums fill(int v) { return _mm512_set1_epi32(v); }
  static Sums load(const std::int32_t* p) { return _mm512_loadu_si512(p); }
  static Sums add(Sums a, Sums b) { return _mm512_add_epi32(a, b); }
  static Sums subtract(Sums a, Sums b) { return _mm512_sub_epi32(a, b); }
  static Sums quarter(Sums a) { return _mm512_srai_epi32(a, 2); }
  static Sums multiply(Sums a, Sums b) { return _mm512_mullo_epi32(a, b); }
  static Sums shift_left(Sums a, int bits) { return _mm512_sll_epi32(a, _mm_cvtsi32_si128(bits)); }
  static Scales fill_scales(float v) { return _mm512_set1_ps(v); }
  static Scales load_scales(const float* p) { return _mm512_loadu_ps(p); }
  static Sums bytes(const std::uint8_t* p) { return _mm512_cvtepu8_epi32(half(p)); }

  static Scales scaled(Sums sums, Scales scales) { return _mm512_mul_ps(_mm512_cvtepi32_ps(sums), scales); }
  static Scales divided(Scales a, Scales b) { return _mm512_div_ps(a, b); }
  static Sums rounded(Scales v, Scales low, Scales high) {
    return _mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(v, low), high));
  }
  static void store_bytes(std::uint8_t* p, Sums v) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(v));
  }
  static void store_sums(std::int32_t* p, Sums v) { _mm512_storeu_si512(p, v); }
  static void store_floats(float* p, Scales v) { _mm512_storeu_ps(p, v); }

  using Pairs = __m512i;
  static Pairs load_pairs(const std::int16_t* p) { return _mm512_loadu_si512(p); }
  static Pairs broadcast_pair(const std::int16_t* p) {
    int v;
    std::memcpy(&v, p, 4);
    return _mm512_set1_epi32(v);
  }
  static Sums dot_pairs(Sums sums, Pairs x, Pairs w) {
    return _mm512_add_epi32(sums, _mm512_madd_epi16(x, w));
  }

#ifdef __AVX512VNNI__
  static constexpr bool multiplies_bytes = true;
  using Values = __m512i;
  using Weights = __m512i;
  static constexpr int weight_bytes = 64;
  static Weights load_weights(const std::uint8_t* p) { return _mm512_loadu_si512(p); }
  static void pack_weights(const std::int8_t* weights, void* packed) { std::memcpy(packed, weights, 64); }
  static Values values(__m512i v) { return v; }
  static Sums dot(Sums sums, Values x, Weights w) { return _mm512_dpbusd_epi32(sums, x, w); }
  static Values broadcast(const std::uint8_t* p) {
    int v;
    std::memcpy(&v, p, 4);
    return values(_mm512_set1_epi32(v));
  }
#else
  static constexpr bool multiplies_bytes = false;
  struct Values {
    __m512i even, odd;
  };
  using Weights = Values;
  static constexpr int weight_bytes = 128;
  static Weights load_weights(const std::uint8_t* p) {
    return {_mm512_loadu_si512(p), _mm512_loadu_si512(p + 64)};
  }
  static void pack_weights(const std::int8_t* weights, void* packed) { pack_pairs(weights, size, packed); }
  static Values values(__m512i v) {
    return {_mm512_and_si512(v, _mm512_set1_epi16(255)), _mm512_srli_epi16(v, 8)};
  }
  static Sums dot(Sums sums, const Values& x, const Weights& w) {
    sums = _mm512_add_epi32(sums, _mm512_madd_epi16(x.even, w.even));
    return _mm512_add_epi32(sums, _mm512_madd_epi16(x.odd, w.odd));
  }
#endif

  // A 16x4 transpose: of 4x4 blocks of channels by a permutation, then inside of each by a shuffle.
  static Values interleave(const std::uint8_t* a, const std::uint8_t* b, const std::uint8_t* c,
                           const std::uint8_t* d) {
    __m512i v = _mm512_castsi128_si512(half(a));
    v = _mm512_mask_broadcast_i32x4(v, 0x00F0, half(b));
    v = _mm512_mask_broadcast_i32x4(v, 0x0F00, half(c));
    v = _mm512_mask_broadcast_i32x4(v, 0xF000, half(d));
    const __m512i blocks = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i inside =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15));
    return values(_mm512_shuffle_epi8(_mm512_permutexvar_epi32(blocks, v), inside));
  }

  // Blocks of four vectors: of 64 channels, vector j has channels 4 j to 4 j + 3 of each sixteen.
  static constexpr bool has_blocks = true;
  static void interleave_block(const std::uint8_t* const (&rows)[4], Values (&out)[4]) {
    __m512i r[4];
    for (int i = 0; i < 4; ++i) r[i] = _mm512_loadu_si512(rows[i]);
    const __m512i ab[2] = {_mm512_unpacklo_epi8(r[0], r[1]), _mm512_unpackhi_epi8(r[0], r[1])};
    const __m512i cd[2] = {_mm512_unpacklo_epi8(r[2], r[3]), _mm512_unpackhi_epi8(r[2], r[3])};
    for (int i = 0; i < 2; ++i) {
      out[2 * i] = values(_mm512_unpacklo_epi16(ab[i], cd[i]));
      out[2 * i + 1] = values(_mm512_unpackhi_epi16(ab[i], cd[i]));
    }
  }
  struct Rounding {
    __m512 most;  // saturates, and converts
    __m512i zero, low, high;
    Rounding(int zero_point, int low_byte, int high_byte)
        : most(_mm512_set1_ps(1e6F)),
          zero(_mm512_set1_epi16(short(zero_point))),
          low(_mm512_set1_epi8(char(low_byte))),
          high(_mm512_set1_epi8(char(high_byte))) {}
  };
  static __m512i rounded_block(const Scales (&v)[4], const Rounding& r) {
    const auto whole = [&](Scales x) { return _mm512_cvtps_epi32(_mm512_min_ps(r.most, x)); };
    const auto words = [&](Scales a, Scales b) {
      return _mm512_adds_epi16(_mm512_packs_epi32(whole(a), whole(b)), r.zero);
    };
    const __m512i bytes = _mm512_packus_epi16(words(v[0], v[1]), words(v[2], v[3]));
    return _mm512_min_epu8(_mm512_max_epu8(bytes, r.low), r.high);
  }
  static void store_block(const Scales (&v)[4], const Rounding& r, std::uint8_t* y) {
    _mm512_storeu_si512(y, rounded_block(v, r));
  }
  // Pairs of vectors, of 32 filters: vector j has filters 4 j to 4 j + 3 of each eight. The first two to y0,
  // the others to y1.
  static void store_pairs(const Scales (&v)[4], const Rounding& r, std::uint8_t* y0, std::uint8_t* y1) {
    const __m512i bytes =
        _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), rounded_block(v, r));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(y0), _mm512_castsi512_si256(bytes));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(y1), _mm512_extracti64x4_epi64(bytes, 1));
  }
  static void load_pair(const std::uint8_t* p, Sums (&out)[2]) {
    const __m256i v = _mm256_permutevar8x32_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)),
                                                  _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7));
    out[0] = _mm512_cvtepu8_epi32(_mm256_castsi256_si128(v));
    out[1] = _mm512_cvtepu8_epi32(_mm256_extracti128_si256(v, 1));
  }

 private:
  static __m128i half(const std::uint8_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
};

}  // namespace cnnlib::CNNLIB_ISA
