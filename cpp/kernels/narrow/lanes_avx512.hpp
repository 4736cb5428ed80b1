// AVX-512, with VNNI or without.
#pragma once

#include <immintrin.h>

namespace cnnlib::CNNLIB_ISA {

struct Avx512Lanes : GenericLanes<__m512i, __m512> {
  static constexpr int registers = 32;
  static constexpr int tile_rows = 12;  // x 2 vectors of sums, 2 of weights (4 without VNNI), 1 of values (2)
  static __m128i half(const std::uint8_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }

  static Sums bytes(const std::uint8_t* p) { return _mm512_cvtepu8_epi32(half(p)); }
  static Sums rounded(Scales v, Scales low, Scales high) {
    return _mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(v, low), high));
  }
  static void store_bytes(std::uint8_t* p, Sums v) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(v));
  }
  static Sums dot_pairs(Sums sums, Sums x, Sums w) { return _mm512_add_epi32(sums, _mm512_madd_epi16(x, w)); }
#ifdef __AVX512VNNI__
  static Sums dot(Sums sums, Sums x, Sums w) { return _mm512_dpbusd_epi32(sums, x, w); }
#endif
};

struct IntLanes : ProductLanes<Avx512Lanes> {
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
};

}  // namespace cnnlib::CNNLIB_ISA
