// AVX2, with AVX-VNNI or without.
#pragma once

#include <immintrin.h>

namespace cnnlib::CNNLIB_ISA {

struct Avx2Lanes : GenericLanes<__m256i, __m256> {
  static constexpr int registers = 16;
  static __m128i eight(const std::uint8_t* p) { return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)); }

  static Sums bytes(const std::uint8_t* p) { return _mm256_cvtepu8_epi32(eight(p)); }
  static Sums rounded(Scales v, Scales low, Scales high) {
    return _mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(v, low), high));
  }
  static void store_bytes(std::uint8_t* p, Sums v) {
    const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(words, words));
  }
  static Sums dot_pairs(Sums sums, Sums x, Sums w) { return _mm256_add_epi32(sums, _mm256_madd_epi16(x, w)); }
#ifdef __AVXVNNI__
  static constexpr int tile_rows = 6;  // x 2 vectors of sums, 2 of weights, 1 of values
  static Sums dot(Sums sums, Sums x, Sums w) { return _mm256_dpbusd_avx_epi32(sums, x, w); }
#else
  static constexpr int tile_rows = 4;  // x 2 vectors of sums, 4 of weights, 2 of values, 1 of products
#endif
};

struct IntLanes : ProductLanes<Avx2Lanes> {
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
  static void store_block(const Scales (&v)[4], const Rounding& r, std::uint8_t* y) {
    const auto whole = [&](Scales x) { return _mm256_cvtps_epi32(_mm256_min_ps(r.most, x)); };
    const auto words = [&](Scales a, Scales b) {
      return _mm256_adds_epi16(_mm256_packs_epi32(whole(a), whole(b)), r.zero);
    };
    const __m256i bytes = _mm256_packus_epi16(words(v[0], v[1]), words(v[2], v[3]));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(y),
                        _mm256_min_epu8(_mm256_max_epu8(bytes, r.low), r.high));
  }
};

}  // namespace cnnlib::CNNLIB_ISA
