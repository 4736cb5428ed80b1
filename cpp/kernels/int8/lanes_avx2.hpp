// AVX2, with AVX-VNNI or without.
#pragma once

#include <immintrin.h>

namespace cnnlib::CNNLIB_ISA {

struct Avx2Lanes : GenericLanes<__m256i, __m256> {
  static constexpr int registers = 16;

  static Sums bytes(const std::uint8_t* p) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
  }
  static Sums rounded(Scales v, Scales low, Scales high) {
    return _mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(v, low), high));
  }
  static Sums packed(Sums a, Sums b, Sums c, Sums d) {
    return _mm256_packus_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
  }
  static void store_words(std::uint8_t* p, Sums v, Index words) {
    const __m256i places = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    _mm256_maskstore_epi32(reinterpret_cast<int*>(p),
                           _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(words)), places), v);
  }
  static void store_bytes(std::uint8_t* p, Sums v) {
    const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packus_epi16(words, words));
  }
  static Sums dot_pairs(Sums sums, Sums x, Sums w) { return _mm256_add_epi32(sums, _mm256_madd_epi16(x, w)); }
#ifdef __AVXVNNI__
  static constexpr int tile_rows = 6;  // x 2 vectors of sums, 2 of weights, 1 of values
  static Sums dot(Sums sums, Sums x, Sums w) { return _mm256_dpbusd_avx_epi32(sums, x, w); }
};
using Lanes = ByteLanes<Avx2Lanes>;
#else
  static constexpr int tile_rows = 4;  // x 2 vectors of sums, 4 of weights, 2 of values, 1 of products
};
using Lanes = PairLanes<Avx2Lanes>;
#endif

}  // namespace cnnlib::CNNLIB_ISA
