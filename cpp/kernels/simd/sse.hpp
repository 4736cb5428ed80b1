// SSE4.1, what the x86-64 baseline has: 16 registers of 128 bits, no FMA and no loads of some lanes.
#pragma once

#include "kernels/simd/packet.hpp"

namespace cnnlib::CNNLIB_ISA {

struct InstructionSet : SixteenRegisters {
  static constexpr bool rounds_once = false;
};

// All ones where the lane's own bit of `lanes` is set.
inline __m128i chosen_lanes(unsigned bits, __m128i lanes) {
  return _mm_cmpeq_epi32(_mm_and_si128(_mm_set1_epi32(static_cast<int>(bits)), lanes), lanes);
}

template <>
struct Simd<float> : GenericSimd<float> {
  static void store_non_temporal(float* p, Packet v) { _mm_stream_ps(p, v); }
  static unsigned bits(Mask mask) { return static_cast<unsigned>(_mm_movemask_ps(mask)); }
  static Mask from_bits(unsigned bits) {
    return _mm_castsi128_ps(chosen_lanes(bits, _mm_setr_epi32(1, 2, 4, 8)));
  }
  using GenericSimd<float>::load_lanes;
  static Packet load_lanes(const float* p, Index first, Index count) {
    const auto pair = [&](Index i) {  // lanes i and i + 1
      const bool even = first <= i && i < first + count, odd = first <= i + 1 && i + 1 < first + count;
      if (even && odd) return _mm_castsi128_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p + i)));
      if (even) return _mm_load_ss(p + i);
      return odd ? _mm_unpacklo_ps(_mm_setzero_ps(), _mm_load_ss(p + i + 1)) : _mm_setzero_ps();
    };
    return _mm_movelh_ps(pair(0), pair(2));
  }
};

template <>
struct Simd<double> : GenericSimd<double> {
  static void store_non_temporal(double* p, Packet v) { _mm_stream_pd(p, v); }
  static unsigned bits(Mask mask) { return static_cast<unsigned>(_mm_movemask_pd(mask)); }
  static Mask from_bits(unsigned bits) {
    return _mm_castsi128_pd(chosen_lanes(bits, _mm_setr_epi32(1, 1, 2, 2)));
  }
  using GenericSimd<double>::load_lanes;
  static Packet load_lanes(const double* p, Index first, Index count) {
    if (first == 0) return count == 2 ? _mm_loadu_pd(p) : count == 1 ? _mm_load_sd(p) : _mm_setzero_pd();
    return first == 1 && count == 1 ? _mm_loadh_pd(_mm_setzero_pd(), p + 1) : _mm_setzero_pd();
  }
};

}  // namespace cnnlib::CNNLIB_ISA
