// AVX-512 (with DQ, BW and VL): 32 registers of 512 bits, and masks in registers of their own.
#pragma once

#include "kernels/simd/packet.hpp"

namespace cnnlib::CNNLIB_ISA {

struct InstructionSet {
  static constexpr int registers = 32;
  static constexpr int tile_rows = 14;  // 14 x 2 sums and 2 vectors of b; values of a are operands in memory
  static constexpr int dot_block = 5;   // 25 sums, 5 vectors of one side and 1 of the other
  static constexpr int stencil_rows = 8;  // 8 sums, the 9 weights and the input
  static constexpr int pointwise_panel_bytes = 16 << 10;
  static constexpr bool position_panels = false;
  static constexpr bool large_winograd_tile = true;
  static constexpr bool lane_products = false;
  static constexpr bool rounds_once = true;
};

template <>
struct MaskOf<__m512> {
  using type = __mmask16;
};
template <>
struct MaskOf<__m512d> {
  using type = __mmask8;
};

template <>
inline void Simd<float>::store_non_temporal(float* p, Packet v) {
  _mm512_stream_ps(p, v);
}
template <>
inline void Simd<double>::store_non_temporal(double* p, Packet v) {
  _mm512_stream_pd(p, v);
}

template <>
inline __mmask16 Simd<float>::equal(Packet a, Packet b) {
  return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ);
}
template <>
inline __mmask8 Simd<double>::equal(Packet a, Packet b) {
  return _mm512_cmp_pd_mask(a, b, _CMP_EQ_OQ);
}
template <>
inline __mmask16 Simd<float>::less_equal(Packet a, Packet b) {
  return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ);
}
template <>
inline __mmask8 Simd<double>::less_equal(Packet a, Packet b) {
  return _mm512_cmp_pd_mask(a, b, _CMP_LE_OQ);
}
template <>
inline __mmask16 Simd<float>::greater_or_nan(Packet v, Packet best) {
  return _mm512_mask_cmp_ps_mask(equal(best, best), v, best, _CMP_NLE_UQ);
}
template <>
inline __mmask8 Simd<double>::greater_or_nan(Packet v, Packet best) {
  return _mm512_mask_cmp_pd_mask(equal(best, best), v, best, _CMP_NLE_UQ);
}
template <>
inline __m512 Simd<float>::max_or_nan(Packet a, Packet b) {
  return _mm512_mask_mov_ps(_mm512_max_ps(a, b), _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q), a);
}
template <>
inline __m512d Simd<double>::max_or_nan(Packet a, Packet b) {
  return _mm512_mask_mov_pd(_mm512_max_pd(a, b), _mm512_cmp_pd_mask(a, a, _CMP_UNORD_Q), a);
}
template <>
inline __m512 Simd<float>::select(__mmask16 mask, Packet yes, Packet no) {
  return _mm512_mask_blend_ps(mask, no, yes);
}
template <>
inline __m512d Simd<double>::select(__mmask8 mask, Packet yes, Packet no) {
  return _mm512_mask_blend_pd(mask, no, yes);
}
template <>
inline bool Simd<float>::any(__mmask16 mask) {
  return mask != 0;
}
template <>
inline bool Simd<double>::any(__mmask8 mask) {
  return mask != 0;
}

template <>
inline unsigned Simd<float>::bits(__mmask16 mask) {
  return mask;
}
template <>
inline unsigned Simd<double>::bits(__mmask8 mask) {
  return mask;
}
template <>
inline __mmask16 Simd<float>::from_bits(unsigned bits) {
  return static_cast<__mmask16>(bits);
}
template <>
inline __mmask8 Simd<double>::from_bits(unsigned bits) {
  return static_cast<__mmask8>(bits);
}

inline unsigned lane_mask(Index first, Index count) { return ((1u << count) - 1) << first; }
template <>
inline __m512 Simd<float>::load_lanes(const float* p, Index first, Index count) {
  return _mm512_maskz_loadu_ps(static_cast<__mmask16>(lane_mask(first, count)), p);
}
template <>
inline __m512d Simd<double>::load_lanes(const double* p, Index first, Index count) {
  return _mm512_maskz_loadu_pd(static_cast<__mmask8>(lane_mask(first, count)), p);
}
template <>
inline __m512 Simd<float>::load_lanes(const float* p, Index first, Index count, float other) {
  return _mm512_mask_loadu_ps(fill(other), static_cast<__mmask16>(lane_mask(first, count)), p);
}
template <>
inline __m512d Simd<double>::load_lanes(const double* p, Index first, Index count, double other) {
  return _mm512_mask_loadu_pd(fill(other), static_cast<__mmask8>(lane_mask(first, count)), p);
}
template <>
inline void Simd<float>::store_lanes(float* p, Packet v, Index first, Index count) {
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>(lane_mask(first, count)), v);
}
template <>
inline void Simd<double>::store_lanes(double* p, Packet v, Index first, Index count) {
  _mm512_mask_storeu_pd(p, static_cast<__mmask8>(lane_mask(first, count)), v);
}

template <>
inline __m512 Simd<float>::load_bytes(const std::uint8_t* p, Index first, Index count) {
  const auto mask = static_cast<__mmask16>(lane_mask(first, count));
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask, p)));
}
template <>
inline __m512d Simd<double>::load_bytes(const std::uint8_t* p, Index first, Index count) {
  const auto mask = static_cast<__mmask16>(lane_mask(first, count));
  return _mm512_cvtepi32_pd(_mm256_cvtepu8_epi32(_mm_maskz_loadu_epi8(mask, p)));
}
template <>
inline void Simd<float>::store_bytes(std::uint8_t* p, Packet v, Index count) {
  const __m128i bytes = _mm512_cvtepi32_epi8(_mm512_cvttps_epi32(v));
  _mm_mask_storeu_epi8(p, static_cast<__mmask16>(lane_mask(0, count)), bytes);
}
template <>
inline void Simd<double>::store_bytes(std::uint8_t* p, Packet v, Index count) {
  const __m128i bytes = _mm256_cvtepi32_epi8(_mm512_cvttpd_epi32(v));
  _mm_mask_storeu_epi8(p, static_cast<__mmask16>(lane_mask(0, count)), bytes);
}

// first, first + jump, then both a step on, and so on: 16 lanes.
inline __m512i pair_index(int first, int step, int jump) {
  alignas(64) int lanes[16];
  for (int i = 0; i < 16; ++i) lanes[i] = first + i / 2 * step + i % 2 * jump;
  return _mm512_load_si512(lanes);
}
template <>
inline void Simd<float>::split_pairs(Packet low, Packet high, Packet& even, Packet& odd) {
  even = _mm512_permutex2var_ps(low, pair_index(0, 4, 2), high);
  odd = _mm512_permutex2var_ps(low, pair_index(1, 4, 2), high);
}
template <>
inline void Simd<double>::split_pairs(Packet low, Packet high, Packet& even, Packet& odd) {
  even = _mm512_permutex2var_pd(low, _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14), high);
  odd = _mm512_permutex2var_pd(low, _mm512_setr_epi64(1, 3, 5, 7, 9, 11, 13, 15), high);
}
template <>
inline void Simd<float>::join_pairs(Packet even, Packet odd, Packet& low, Packet& high) {
  low = _mm512_permutex2var_ps(even, pair_index(0, 1, 16), odd);
  high = _mm512_permutex2var_ps(even, pair_index(8, 1, 16), odd);
}
template <>
inline void Simd<double>::join_pairs(Packet even, Packet odd, Packet& low, Packet& high) {
  low = _mm512_permutex2var_pd(even, _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11), odd);
  high = _mm512_permutex2var_pd(even, _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15), odd);
}

template <>
inline __m512 Simd<float>::shift_down(Packet v, Packet after) {
  return _mm512_castsi512_ps(_mm512_alignr_epi32(_mm512_castps_si512(after), _mm512_castps_si512(v), 1));
}
template <>
inline __m512d Simd<double>::shift_down(Packet v, Packet after) {
  return _mm512_castsi512_pd(_mm512_alignr_epi64(_mm512_castpd_si512(after), _mm512_castpd_si512(v), 1));
}

// row[k], row[step + k], ... <- the first quarters of the four, the second ones, ...
template <int step, class Packet, class Even, class Odd>
inline void transpose_quarters(Packet* row, const Even& even, const Odd& odd) {
#pragma GCC unroll 4
  for (int k = 0; k < step; ++k) {
    const Packet a = row[k], b = row[step + k], c = row[2 * step + k], d = row[3 * step + k];
    const Packet even_ab = even(a, b), odd_ab = odd(a, b), even_cd = even(c, d), odd_cd = odd(c, d);
    row[k] = even(even_ab, even_cd);
    row[step + k] = even(odd_ab, odd_cd);
    row[2 * step + k] = odd(even_ab, even_cd);
    row[3 * step + k] = odd(odd_ab, odd_cd);
  }
}
// Squares within the quarters of vectors, then the quarters: two thirds of the shuffles that Eigen takes.
inline void transpose_packets(__m512 (&row)[16]) {
  const auto pairs = [](__m512 v) { return _mm512_castps_pd(v); };
#pragma GCC unroll 4
  for (int g = 0; g < 16; g += 4) {
    const __m512d low_01 = pairs(_mm512_unpacklo_ps(row[g], row[g + 1])),
                  high_01 = pairs(_mm512_unpackhi_ps(row[g], row[g + 1])),
                  low_23 = pairs(_mm512_unpacklo_ps(row[g + 2], row[g + 3])),
                  high_23 = pairs(_mm512_unpackhi_ps(row[g + 2], row[g + 3]));
    row[g] = _mm512_castpd_ps(_mm512_unpacklo_pd(low_01, low_23));
    row[g + 1] = _mm512_castpd_ps(_mm512_unpackhi_pd(low_01, low_23));
    row[g + 2] = _mm512_castpd_ps(_mm512_unpacklo_pd(high_01, high_23));
    row[g + 3] = _mm512_castpd_ps(_mm512_unpackhi_pd(high_01, high_23));
  }
  transpose_quarters<4>(
      row, [](__m512 a, __m512 b) { return _mm512_shuffle_f32x4(a, b, 0x88); },
      [](__m512 a, __m512 b) { return _mm512_shuffle_f32x4(a, b, 0xDD); });
}
inline void transpose_packets(__m512d (&row)[8]) {
#pragma GCC unroll 4
  for (int g = 0; g < 8; g += 2) {
    const __m512d low = _mm512_unpacklo_pd(row[g], row[g + 1]);
    row[g + 1] = _mm512_unpackhi_pd(row[g], row[g + 1]);
    row[g] = low;
  }
  transpose_quarters<2>(
      row, [](__m512d a, __m512d b) { return _mm512_shuffle_f64x2(a, b, 0x88); },
      [](__m512d a, __m512d b) { return _mm512_shuffle_f64x2(a, b, 0xDD); });
}

}  // namespace cnnlib::CNNLIB_ISA
