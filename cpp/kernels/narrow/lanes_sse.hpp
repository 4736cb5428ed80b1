// SSE4.1: the baseline.
#pragma once

#include <smmintrin.h>

namespace cnnlib::CNNLIB_ISA {

struct SseLanes : GenericLanes<__m128i, __m128> {
  static constexpr int registers = 16;
  static constexpr int tile_rows = 4;  // x 2 vectors of sums, 4 of weights, 2 of values, 1 of products
  static __m128i four(const std::uint8_t* p) { return _mm_cvtsi32_si128(read<int>(p)); }

  static Sums bytes(const std::uint8_t* p) { return _mm_cvtepu8_epi32(four(p)); }
  static Sums rounded(Scales v, Scales low, Scales high) {
    return _mm_cvtps_epi32(_mm_min_ps(_mm_max_ps(v, low), high));
  }
  static void store_bytes(std::uint8_t* p, Sums v) {
    v = _mm_packus_epi32(v, v);
    const int four_bytes = _mm_cvtsi128_si32(_mm_packus_epi16(v, v));
    std::memcpy(p, &four_bytes, 4);
  }
  static Sums dot_pairs(Sums sums, Sums x, Sums w) { return _mm_add_epi32(sums, _mm_madd_epi16(x, w)); }
};

struct IntLanes : ProductLanes<SseLanes> {
  static constexpr bool has_blocks = false;
  static Values interleave(const std::uint8_t* a, const std::uint8_t* b, const std::uint8_t* c,
                           const std::uint8_t* d) {
    const __m128i ab = _mm_unpacklo_epi8(four(a), four(b)), cd = _mm_unpacklo_epi8(four(c), four(d));
    return values(_mm_unpacklo_epi16(ab, cd));
  }
};

}  // namespace cnnlib::CNNLIB_ISA
