// AVX-512, with VNNI or without.
#pragma once

#include <immintrin.h>

namespace cnnlib::CNNLIB_ISA {

struct Avx512Lanes : GenericLanes<__m512i, __m512> {
  static constexpr int registers = 32;
  static constexpr int tile_rows = 12;  // x 2 vectors of sums, 2 of weights (4 without VNNI), 1 of values (2)

  static Sums bytes(const std::uint8_t* p) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static Sums rounded(Scales v, Scales low, Scales high) {
    return _mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(v, low), high));
  }
  static Sums packed(Sums a, Sums b, Sums c, Sums d) {
    return _mm512_packus_epi16(_mm512_packs_epi32(a, b), _mm512_packs_epi32(c, d));
  }
  static void store_bytes(std::uint8_t* p, Sums v) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(v));
  }
  static void store_words(std::uint8_t* p, Sums v, Index words) {
    _mm512_mask_storeu_epi32(p, static_cast<__mmask16>((1u << words) - 1), v);
  }
  // Pairs of vectors, of 32 filters: vector j has filters 4 j to 4 j + 3 of each eight. The first two of four
  // to y0, the others to y1.
  static void store_pairs(Sums bytes, std::uint8_t* y0, std::uint8_t* y1) {
    const __m512i rows = _mm512_permutexvar_epi64(_mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7), bytes);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(y0), _mm512_castsi512_si256(rows));
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(y1), _mm512_extracti64x4_epi64(rows, 1));
  }
  static void load_pair(const std::uint8_t* p, Sums (&out)[2]) {
    const __m256i v = _mm256_permutevar8x32_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)),
                                                  _mm256_setr_epi32(0, 2, 4, 6, 1, 3, 5, 7));
    out[0] = _mm512_cvtepu8_epi32(_mm256_castsi256_si128(v));
    out[1] = _mm512_cvtepu8_epi32(_mm256_extracti128_si256(v, 1));
  }
  static Sums dot_pairs(Sums sums, Sums x, Sums w) { return _mm512_add_epi32(sums, _mm512_madd_epi16(x, w)); }
#ifdef __AVX512VNNI__
  static Sums dot(Sums sums, Sums x, Sums w) { return _mm512_dpbusd_epi32(sums, x, w); }
};
using Lanes = ByteLanes<Avx512Lanes>;
#else
};
using Lanes = PairLanes<Avx512Lanes>;
#endif

}  // namespace cnnlib::CNNLIB_ISA
