// AVX-512 (with DQ, BW and VL): 32 registers of 512 bits, and masks in registers of their own.
#pragma once

#include "kernels/simd/packet.hpp"

namespace cnnlib::CNNLIB_ISA {

struct InstructionSet : SixteenRegisters {
  static constexpr Set set = Set::avx512;
  static constexpr int registers = 32;
  static constexpr int MR = 14;  // 14 x 2 sums and 2 vectors of b; values of a are operands in memory
  static constexpr int dot_block = 5, dot_rows = 5;  // 25 sums, 5 vectors of one side and 1 of the other
  static constexpr int stencil_rows = 8;             // 8 sums, the 9 weights and the input
  static constexpr int pointwise_panel_bytes = 16 << 10;
  static constexpr bool tap_rows = true;
  static constexpr bool large_winograd_tile = true;
};

// What differs between floats and doubles: in `within`, or with a mask of all lanes that are meant.
template <int how>
__mmask16 compare(__m512 a, __m512 b, __mmask16 within = 0xFFFF) {
  return _mm512_mask_cmp_ps_mask(within, a, b, how);
}
template <int how>
__mmask8 compare(__m512d a, __m512d b, __mmask8 within = 0xFF) {
  return _mm512_mask_cmp_pd_mask(within, a, b, how);
}
inline __m512 blend(__mmask16 mask, __m512 no, __m512 yes) { return _mm512_mask_blend_ps(mask, no, yes); }
inline __m512d blend(__mmask8 mask, __m512d no, __m512d yes) { return _mm512_mask_blend_pd(mask, no, yes); }
inline __m512 load_some(__m512 other, __mmask16 mask, const float* p) {
  return _mm512_mask_loadu_ps(other, mask, p);
}
inline __m512d load_some(__m512d other, __mmask8 mask, const double* p) {
  return _mm512_mask_loadu_pd(other, mask, p);
}
inline void store_some(float* p, __mmask16 mask, __m512 v) { _mm512_mask_storeu_ps(p, mask, v); }
inline void store_some(double* p, __mmask8 mask, __m512d v) { _mm512_mask_storeu_pd(p, mask, v); }

template <class T>
struct Simd : GenericSimd<T> {
  using typename GenericSimd<T>::Packet;
  using GenericSimd<T>::size;
  // Comparisons give masks in registers of their own.
  using Mask = decltype(compare<_CMP_EQ_OQ>(Packet(), Packet()));

  static void store_non_temporal(T* p, Packet v) {
    _mm512_stream_si512(reinterpret_cast<__m512i*>(p), bit_cast<__m512i>(v));
  }

  static Mask equal(Packet a, Packet b) { return compare<_CMP_EQ_OQ>(a, b); }
  static Mask less_equal(Packet a, Packet b) { return compare<_CMP_LE_OQ>(a, b); }
  static Mask greater_or_nan(Packet v, Packet best) {
    return compare<_CMP_NLE_UQ>(v, best, equal(best, best));
  }
  static Packet max_or_nan(Packet a, Packet b) {
    return blend(compare<_CMP_UNORD_Q>(a, a), GenericSimd<T>::max(b, a), a);
  }
  static Packet select(Mask mask, Packet yes, Packet no) { return blend(mask, no, yes); }
  static bool any(Mask mask) { return mask != 0; }
  static unsigned bits(Mask mask) { return mask; }
  static Mask from_bits(unsigned bits) { return static_cast<Mask>(bits); }

  static Mask lane_mask(Index first, Index count) { return static_cast<Mask>(((1u << count) - 1) << first); }
  static Packet load_lanes(const T* p, Index first, Index count, T other = 0) {
    return load_some(GenericSimd<T>::fill(other), lane_mask(first, count), p);
  }
  static void store_lanes(T* p, Packet v, Index first, Index count) {
    store_some(p, lane_mask(first, count), v);
  }
  static Packet load_bytes(const std::uint8_t* p, Index first = 0, Index count = size) {
    const __m128i bytes = _mm_maskz_loadu_epi8(lane_mask(first, count), p);
    if constexpr (size == 16) return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(bytes));
    if constexpr (size == 8) return _mm512_cvtepi32_pd(_mm256_cvtepu8_epi32(bytes));
  }
  static void store_bytes(std::uint8_t* p, Packet v, Index count = size) {
    __m128i bytes;
    if constexpr (size == 16) bytes = _mm512_cvtepi32_epi8(_mm512_cvttps_epi32(v));
    if constexpr (size == 8) bytes = _mm256_cvtepi32_epi8(_mm512_cvttpd_epi32(v));
    // Else Clang joins the conversion and the masked store in one vpmovdb. Measured on Zen 5, that
    // instruction writes back the bytes beside those of its mask, too, which another thread may have changed
    // meanwhile.
    _mm_mask_storeu_epi8(p, lane_mask(0, count), in_register(bytes));
  }
};

// Rows that are n / 2 apart, lane by lane in turn, log2(n) times: two thirds of the shuffles that Eigen
// takes.
template <class T, int n>
void transpose_by_pairs(Packet<T> (&row)[n]) {
#pragma GCC unroll 4
  for (int step = 1; step < n; step *= 2) {
    Packet<T> next[n];
#pragma GCC unroll 8
    for (int i = 0; i < n / 2; ++i) Simd<T>::join_pairs(row[i], row[i + n / 2], next[2 * i], next[2 * i + 1]);
    std::copy_n(next, n, row);
  }
}
inline void transpose_packets(__m512 (&row)[16]) { transpose_by_pairs<float>(row); }
inline void transpose_packets(__m512d (&row)[8]) { transpose_by_pairs<double>(row); }

}  // namespace cnnlib::CNNLIB_ISA
