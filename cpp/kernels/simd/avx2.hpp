// AVX2 with FMA: 16 registers of 256 bits. The shuffles work within halves of 128 bits.
#pragma once

#include "kernels/simd/packet.hpp"

namespace cnnlib::CNNLIB_ISA {

struct InstructionSet : SixteenRegisters {
  static constexpr Set set = Set::avx2;
  // A multiply-add takes no register for the product: 12 sums, 3 vectors of one side and 1 of the other.
  static constexpr int dot_rows = 4;
  static constexpr bool position_panels = true;
};

// What floats and doubles have alike, as words of 32 bits.
template <class T>
struct WordsSimd : GenericSimd<T> {
  using typename GenericSimd<T>::Packet;
  static void store_non_temporal(T* p, Packet v) {
    _mm256_stream_si256(reinterpret_cast<__m256i*>(p), bit_cast<__m256i>(v));
  }
  static Packet load_lanes(const T* p, Index first, Index count) {
    return masked(p, lane_mask(first, count));
  }
  static Packet load_lanes(const T* p, Index first, Index count, T other) {
    const __m256i mask = lane_mask(first, count);
    return GenericSimd<T>::select(bit_cast<Packet>(mask), masked(p, mask), GenericSimd<T>::fill(other));
  }

 private:
  // All ones in lanes [first, first + count).
  static __m256i lane_mask(Index first, Index count) {
    const __m256i lanes = sizeof(T) == 4 ? _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7)
                                         : _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);
    const auto every = [](Index lane) { return _mm256_set1_epi32(static_cast<int>(lane)); };
    return _mm256_and_si256(_mm256_cmpgt_epi32(lanes, every(first - 1)),
                            _mm256_cmpgt_epi32(every(first + count), lanes));
  }
  static Packet masked(const T* p, __m256i mask) {
    return bit_cast<Packet>(_mm256_maskload_ps(reinterpret_cast<const float*>(p), mask));
  }
};

template <>
struct Simd<float> : WordsSimd<float> {
  static unsigned bits(Mask mask) { return static_cast<unsigned>(_mm256_movemask_ps(mask)); }

  static Packet load_bytes(const std::uint8_t* p, Index first = 0, Index count = size) {
    std::uint8_t bytes[8] = {};
    if (count < size) std::copy_n(p + first, count, bytes + first);
    const auto* from = reinterpret_cast<const __m128i*>(count < size ? bytes : p);
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(from)));
  }
  static void store_bytes(std::uint8_t* p, Packet v, Index count = size) {
    const __m256i whole = _mm256_cvttps_epi32(v);
    const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
    std::uint8_t bytes[16];
    _mm_storeu_si128(reinterpret_cast<__m128i*>(bytes), _mm_packus_epi16(words, words));
    count == size ? std::copy_n(bytes, size, p) : std::copy_n(bytes, count, p);
  }

  // Two shuffles less than g++ takes for this one, and for joining doubles.
  static void split_pairs(Packet low, Packet high, Packet& even, Packet& odd) {
    const auto sorted = [](__m256 v) {
      return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(v), 0xD8));
    };
    even = sorted(_mm256_shuffle_ps(low, high, 0x88));
    odd = sorted(_mm256_shuffle_ps(low, high, 0xDD));
  }
};

template <>
struct Simd<double> : WordsSimd<double> {
  static unsigned bits(Mask mask) { return static_cast<unsigned>(_mm256_movemask_pd(mask)); }

  static void join_pairs(Packet even, Packet odd, Packet& low, Packet& high) {
    const Packet a = _mm256_unpacklo_pd(even, odd), b = _mm256_unpackhi_pd(even, odd);
    low = _mm256_permute2f128_pd(a, b, 0x20);
    high = _mm256_permute2f128_pd(a, b, 0x31);
  }
};

}  // namespace cnnlib::CNNLIB_ISA
