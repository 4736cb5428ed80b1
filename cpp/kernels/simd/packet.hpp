// One vector type per scalar type, for the instruction set that this file is compiled for. The only
// place that names Eigen's packet operations.
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "shapes.hpp"

// A vector type as a template argument loses its alignment attribute, which loads and stores here
// do not rely on.
#pragma GCC diagnostic ignored "-Wignored-attributes"

namespace cnnlib::CNNLIB_ISA {

template <class T>
struct Simd {
  using Packet = typename Eigen::internal::packet_traits<T>::type;
  static constexpr int size = Eigen::internal::packet_traits<T>::size;

  static Packet zero() { return Eigen::internal::pset1<Packet>(T(0)); }
  static Packet fill(T value) { return Eigen::internal::pset1<Packet>(value); }
  static Packet load(const T* p) { return Eigen::internal::ploadu<Packet>(p); }
  // The same in a register from then on: g++ takes a value with several uses from memory each time.
  static Packet load_once(const T* p) {
    Packet v = load(p);
#if defined(__x86_64__)
    asm("" : "+v"(v));
#endif
    return v;
  }
  static void store(T* p, Packet v) { Eigen::internal::pstoreu(p, v); }
  static Packet add(Packet a, Packet b) { return Eigen::internal::padd(a, b); }
  static Packet sub(Packet a, Packet b) { return Eigen::internal::psub(a, b); }
  static Packet mul(Packet a, Packet b) { return Eigen::internal::pmul(a, b); }
  static Packet div(Packet a, Packet b) { return Eigen::internal::pdiv(a, b); }
  static Packet sqrt(Packet v) { return Eigen::internal::psqrt(v); }
  static Packet fma(Packet a, Packet b, Packet c) { return Eigen::internal::pmadd(a, b, c); }
  // max(v, 0), where NaN stays NaN.
  static Packet relu(Packet v) { return Eigen::internal::pmax<Eigen::PropagateNaN>(v, zero()); }
  static T sum(Packet v) { return Eigen::internal::predux(v); }
  static Packet max(Packet a, Packet b) { return Eigen::internal::pmax(a, b); }
  static T greatest(Packet v) { return Eigen::internal::predux_max(v); }
  static Packet exp(Packet v) { return Eigen::internal::pexp(v); }  // finite v

  // Stores past the caches to an address that is a multiple of the vector's size; fence() ends a series.
  static void stream(T* p, Packet v);
  static void fence() {
#if defined(__SSE2__)
    _mm_sfence();
#endif
  }

  // Lanes [first, first + count) of the vector at p: memory of the other lanes is not touched.
  static Packet load_lanes(const T* p, Index first, Index count);
  static void store_lanes(T* p, Packet v, Index first, Index count);

  // row[start + i] for each lane i, where `outside` stands for what is not in [0, size of the row).
  static Packet load_within(const T* row, Index row_size, Index start, T outside) {
    if (start >= 0 && start + size <= row_size) return load(row + start);
    const Index first = start < 0 ? std::min<Index>(-start, size) : 0;
    const Index last = std::clamp<Index>(row_size - start, first, size);
    return load_some(row + start, first, last - first, outside);
  }
  // load_lanes with a value for the other lanes.
  static Packet load_some(const T* p, Index first, Index count, T other);

  // The lower and the upper half of the lanes at addresses of their own.
  static Packet load_halves(const T* low, const T* high);
  static void store_halves(T* low, T* high, Packet v);

  // Whole numbers from 0 to 255, one byte for each of lanes [first, first + count); 0 in the other lanes.
  static Packet load_bytes(const std::uint8_t* p, Index first = 0, Index count = size);
  static void store_bytes(std::uint8_t* p, Packet v, Index count = size);

  // even[i] = p[2 * i] and odd[i] = p[2 * i + 1], where p is the lanes of `low`, then those of `high`.
  static void split_pairs(Packet low, Packet high, Packet& even, Packet& odd);
  static void join_pairs(Packet even, Packet odd, Packet& low, Packet& high);
  // The lanes of v a place further, behind the last one of `before`; and a place back, before the first one
  // of `after`.
  static Packet shift_up(Packet before, Packet v);
  static Packet shift_down(Packet v, Packet after);
  static void load_pairs(const T* p, Packet& even, Packet& odd) {
    split_pairs(load(p), load(p + size), even, odd);
  }
  static void store_pairs(T* p, Packet even, Packet odd) {
    Packet low, high;
    join_pairs(even, odd, low, high);
    store(p, low);
    store(p + size, high);
  }

#if defined(__AVX512F__)
  using Mask = std::conditional_t<sizeof(T) == 4, __mmask16, __mmask8>;
#else
  using Mask = Packet;
#endif
  static Mask equal(Packet a, Packet b);
  // v is greater than best, or v is NaN and best is not.
  static Mask beats(Packet v, Packet best);
  static Mask not_above(Packet a, Packet b);  // a <= b; false where one is NaN
  static Packet select(Mask mask, Packet yes, Packet no);
  static bool any(Mask mask);
};

template <class T>
void Simd<T>::stream(T* p, Packet v) {
#if defined(__AVX512F__)
  _mm512_stream_si512(reinterpret_cast<__m512i*>(p), Eigen::numext::bit_cast<__m512i>(v));
#elif defined(__AVX2__)
  _mm256_stream_si256(reinterpret_cast<__m256i*>(p), Eigen::numext::bit_cast<__m256i>(v));
#elif defined(__SSE2__)
  _mm_stream_si128(reinterpret_cast<__m128i*>(p), Eigen::numext::bit_cast<__m128i>(v));
#else
  store(p, v);
#endif
}

#if defined(__AVX512F__)
inline unsigned lane_mask(Index first, Index count) { return ((1u << count) - 1) << first; }

template <>
inline __m512 Simd<float>::load_lanes(const float* p, Index first, Index count) {
  return _mm512_maskz_loadu_ps(static_cast<__mmask16>(lane_mask(first, count)), p);
}
template <>
inline void Simd<float>::store_lanes(float* p, Packet v, Index first, Index count) {
  _mm512_mask_storeu_ps(p, static_cast<__mmask16>(lane_mask(first, count)), v);
}
template <>
inline __m512 Simd<float>::load_some(const float* p, Index first, Index count, float other) {
  return _mm512_mask_loadu_ps(fill(other), static_cast<__mmask16>(lane_mask(first, count)), p);
}
template <>
inline __m512d Simd<double>::load_some(const double* p, Index first, Index count, double other) {
  return _mm512_mask_loadu_pd(fill(other), static_cast<__mmask8>(lane_mask(first, count)), p);
}
template <>
inline __m512 Simd<float>::load_halves(const float* low, const float* high) {
  return _mm512_insertf32x8(_mm512_castps256_ps512(_mm256_loadu_ps(low)), _mm256_loadu_ps(high), 1);
}
template <>
inline void Simd<float>::store_halves(float* low, float* high, Packet v) {
  _mm256_storeu_ps(low, _mm512_castps512_ps256(v));
  _mm256_storeu_ps(high, _mm512_extractf32x8_ps(v, 1));
}
template <>
inline __m512d Simd<double>::load_halves(const double* low, const double* high) {
  return _mm512_insertf64x4(_mm512_castpd256_pd512(_mm256_loadu_pd(low)), _mm256_loadu_pd(high), 1);
}
template <>
inline void Simd<double>::store_halves(double* low, double* high, Packet v) {
  _mm256_storeu_pd(low, _mm512_castpd512_pd256(v));
  _mm256_storeu_pd(high, _mm512_extractf64x4_pd(v, 1));
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
template <>
inline __m512d Simd<double>::load_lanes(const double* p, Index first, Index count) {
  return _mm512_maskz_loadu_pd(static_cast<__mmask8>(lane_mask(first, count)), p);
}
template <>
inline void Simd<double>::store_lanes(double* p, Packet v, Index first, Index count) {
  _mm512_mask_storeu_pd(p, static_cast<__mmask8>(lane_mask(first, count)), v);
}

inline __m512i pair_index(int first, int step,
                          int jump) {  // of 16 lanes: first, first + jump, then a step on
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
inline void Simd<float>::join_pairs(Packet even, Packet odd, Packet& low, Packet& high) {
  low = _mm512_permutex2var_ps(even, pair_index(0, 1, 16), odd);
  high = _mm512_permutex2var_ps(even, pair_index(8, 1, 16), odd);
}
template <>
inline void Simd<double>::split_pairs(Packet low, Packet high, Packet& even, Packet& odd) {
  even = _mm512_permutex2var_pd(low, _mm512_setr_epi64(0, 2, 4, 6, 8, 10, 12, 14), high);
  odd = _mm512_permutex2var_pd(low, _mm512_setr_epi64(1, 3, 5, 7, 9, 11, 13, 15), high);
}
template <>
inline void Simd<double>::join_pairs(Packet even, Packet odd, Packet& low, Packet& high) {
  low = _mm512_permutex2var_pd(even, _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11), odd);
  high = _mm512_permutex2var_pd(even, _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15), odd);
}
template <>
inline __m512 Simd<float>::shift_up(Packet before, Packet v) {
  return _mm512_castsi512_ps(_mm512_alignr_epi32(_mm512_castps_si512(v), _mm512_castps_si512(before), 15));
}
template <>
inline __m512 Simd<float>::shift_down(Packet v, Packet after) {
  return _mm512_castsi512_ps(_mm512_alignr_epi32(_mm512_castps_si512(after), _mm512_castps_si512(v), 1));
}
template <>
inline __m512d Simd<double>::shift_up(Packet before, Packet v) {
  return _mm512_castsi512_pd(_mm512_alignr_epi64(_mm512_castpd_si512(v), _mm512_castpd_si512(before), 7));
}
template <>
inline __m512d Simd<double>::shift_down(Packet v, Packet after) {
  return _mm512_castsi512_pd(_mm512_alignr_epi64(_mm512_castpd_si512(after), _mm512_castpd_si512(v), 1));
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
inline __mmask16 Simd<float>::not_above(Packet a, Packet b) {
  return _mm512_cmp_ps_mask(a, b, _CMP_LE_OQ);
}
template <>
inline __mmask8 Simd<double>::not_above(Packet a, Packet b) {
  return _mm512_cmp_pd_mask(a, b, _CMP_LE_OQ);
}
template <>
inline __mmask16 Simd<float>::beats(Packet v, Packet best) {
  return _mm512_mask_cmp_ps_mask(equal(best, best), v, best, _CMP_NLE_UQ);
}
template <>
inline __mmask8 Simd<double>::beats(Packet v, Packet best) {
  return _mm512_mask_cmp_pd_mask(equal(best, best), v, best, _CMP_NLE_UQ);
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
inline __m512 Simd<float>::select(__mmask16 mask, Packet yes, Packet no) {
  return _mm512_mask_blend_ps(mask, no, yes);
}
template <>
inline __m512d Simd<double>::select(__mmask8 mask, Packet yes, Packet no) {
  return _mm512_mask_blend_pd(mask, no, yes);
}
#else
#if defined(__AVX2__)
template <>
inline void Simd<float>::split_pairs(Packet low, Packet high, Packet& even, Packet& odd) {
  const auto sorted = [](__m256 v) {
    return _mm256_castpd_ps(_mm256_permute4x64_pd(_mm256_castps_pd(v), 0xD8));
  };
  even = sorted(_mm256_shuffle_ps(low, high, 0x88));
  odd = sorted(_mm256_shuffle_ps(low, high, 0xDD));
}
template <>
inline void Simd<float>::join_pairs(Packet even, Packet odd, Packet& low, Packet& high) {
  const Packet a = _mm256_unpacklo_ps(even, odd), b = _mm256_unpackhi_ps(even, odd);
  low = _mm256_permute2f128_ps(a, b, 0x20);
  high = _mm256_permute2f128_ps(a, b, 0x31);
}
template <>
inline void Simd<double>::split_pairs(Packet low, Packet high, Packet& even, Packet& odd) {
  even = _mm256_permute4x64_pd(_mm256_unpacklo_pd(low, high), 0xD8);
  odd = _mm256_permute4x64_pd(_mm256_unpackhi_pd(low, high), 0xD8);
}
template <>
inline void Simd<double>::join_pairs(Packet even, Packet odd, Packet& low, Packet& high) {
  const Packet a = _mm256_unpacklo_pd(even, odd), b = _mm256_unpackhi_pd(even, odd);
  low = _mm256_permute2f128_pd(a, b, 0x20);
  high = _mm256_permute2f128_pd(a, b, 0x31);
}
template <>
inline Eigen::internal::Packet8f Simd<float>::shift_up(Packet before, Packet v) {
  const __m256 middle = _mm256_permute2f128_ps(before, v, 0x21);
  return _mm256_castsi256_ps(_mm256_alignr_epi8(_mm256_castps_si256(v), _mm256_castps_si256(middle), 12));
}
template <>
inline Eigen::internal::Packet8f Simd<float>::shift_down(Packet v, Packet after) {
  const __m256 middle = _mm256_permute2f128_ps(v, after, 0x21);
  return _mm256_castsi256_ps(_mm256_alignr_epi8(_mm256_castps_si256(middle), _mm256_castps_si256(v), 4));
}
template <>
inline Eigen::internal::Packet4d Simd<double>::shift_up(Packet before, Packet v) {
  return _mm256_shuffle_pd(_mm256_permute2f128_pd(before, v, 0x21), v, 0b0101);
}
template <>
inline Eigen::internal::Packet4d Simd<double>::shift_down(Packet v, Packet after) {
  return _mm256_shuffle_pd(v, _mm256_permute2f128_pd(v, after, 0x21), 0b0101);
}
template <>
inline Eigen::internal::Packet8f Simd<float>::load_bytes(const std::uint8_t* p, Index first, Index count) {
  std::uint8_t bytes[8] = {};
  if (count < size) std::copy_n(p + first, count, bytes + first);
  const auto* from = reinterpret_cast<const __m128i*>(count < size ? bytes : p);
  return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(from)));
}
template <>
inline void Simd<float>::store_bytes(std::uint8_t* p, Packet v, Index count) {
  const __m256i whole = _mm256_cvttps_epi32(v);
  const __m128i words = _mm_packus_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
  std::uint8_t bytes[16];
  _mm_storeu_si128(reinterpret_cast<__m128i*>(bytes), _mm_packus_epi16(words, words));
  count == size ? std::copy_n(bytes, size, p) : std::copy_n(bytes, count, p);
}

template <class T>
__m256i lane_mask(Index first, Index count) {
  const __m256i lanes =
      sizeof(T) == 4 ? _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7) : _mm256_setr_epi32(0, 0, 1, 1, 2, 2, 3, 3);
  const auto every = [](Index i) { return _mm256_set1_epi32(static_cast<int>(i)); };
  return _mm256_and_si256(_mm256_cmpgt_epi32(lanes, every(first - 1)),
                          _mm256_cmpgt_epi32(every(first + count), lanes));
}
template <>
inline Eigen::internal::Packet8f Simd<float>::load_lanes(const float* p, Index first, Index count) {
  return _mm256_maskload_ps(p, lane_mask<float>(first, count));
}
template <>
inline Eigen::internal::Packet4d Simd<double>::load_lanes(const double* p, Index first, Index count) {
  return _mm256_maskload_pd(p, lane_mask<double>(first, count));
}
template <>
inline Eigen::internal::Packet8f Simd<float>::load_some(const float* p, Index first, Index count,
                                                        float other) {
  const __m256i mask = lane_mask<float>(first, count);
  return _mm256_blendv_ps(fill(other), _mm256_maskload_ps(p, mask), _mm256_castsi256_ps(mask));
}
template <>
inline Eigen::internal::Packet4d Simd<double>::load_some(const double* p, Index first, Index count,
                                                         double other) {
  const __m256i mask = lane_mask<double>(first, count);
  return _mm256_blendv_pd(fill(other), _mm256_maskload_pd(p, mask), _mm256_castsi256_pd(mask));
}
template <>
inline void Simd<float>::store_lanes(float* p, Packet v, Index first, Index count) {
  _mm256_maskstore_ps(p, lane_mask<float>(first, count), v);
}
template <>
inline void Simd<double>::store_lanes(double* p, Packet v, Index first, Index count) {
  _mm256_maskstore_pd(p, lane_mask<double>(first, count), v);
}
#endif
#if defined(__SSE2__) && !defined(__AVX2__)
template <>
inline Eigen::internal::Packet4f Simd<float>::load_lanes(const float* p, Index first, Index count) {
  const auto pair = [&](Index i) {  // lanes i and i + 1
    const bool even = first <= i && i < first + count, odd = first <= i + 1 && i + 1 < first + count;
    if (even && odd) return _mm_castsi128_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p + i)));
    if (even) return _mm_load_ss(p + i);
    return odd ? _mm_unpacklo_ps(_mm_setzero_ps(), _mm_load_ss(p + i + 1)) : _mm_setzero_ps();
  };
  return _mm_movelh_ps(pair(0), pair(2));
}
template <>
inline Eigen::internal::Packet2d Simd<double>::load_lanes(const double* p, Index first, Index count) {
  if (first == 0) return count == 2 ? _mm_loadu_pd(p) : count == 1 ? _mm_load_sd(p) : _mm_setzero_pd();
  return first == 1 && count == 1 ? _mm_loadh_pd(_mm_setzero_pd(), p + 1) : _mm_setzero_pd();
}
#endif
#if !defined(__AVX2__)
template <class T>
typename Simd<T>::Packet Simd<T>::shift_up(Packet before, Packet v) {
  T lanes[2 * size];
  store(lanes, before);
  store(lanes + size, v);
  return load(lanes + size - 1);
}
template <class T>
typename Simd<T>::Packet Simd<T>::shift_down(Packet v, Packet after) {
  T lanes[2 * size];
  store(lanes, v);
  store(lanes + size, after);
  return load(lanes + 1);
}
template <class T>
void Simd<T>::split_pairs(Packet low, Packet high, Packet& even, Packet& odd) {
  T pairs[2 * size], evens[size], odds[size];
  store(pairs, low);
  store(pairs + size, high);
  for (int i = 0; i < size; ++i) {
    evens[i] = pairs[2 * i];
    odds[i] = pairs[2 * i + 1];
  }
  even = load(evens);
  odd = load(odds);
}
template <class T>
void Simd<T>::join_pairs(Packet even, Packet odd, Packet& low, Packet& high) {
  T evens[size], odds[size], pairs[2 * size];
  store(evens, even);
  store(odds, odd);
  for (int i = 0; i < size; ++i) {
    pairs[2 * i] = evens[i];
    pairs[2 * i + 1] = odds[i];
  }
  low = load(pairs);
  high = load(pairs + size);
}
#endif
template <class T>
typename Simd<T>::Mask Simd<T>::equal(Packet a, Packet b) {
  return Eigen::internal::pcmp_eq(a, b);
}
template <class T>
typename Simd<T>::Mask Simd<T>::not_above(Packet a, Packet b) {
  return Eigen::internal::pcmp_le(a, b);
}
template <class T>
typename Simd<T>::Mask Simd<T>::beats(Packet v, Packet best) {
  return Eigen::internal::pandnot(equal(best, best), Eigen::internal::pcmp_le(v, best));
}
template <class T>
bool Simd<T>::any(Mask mask) {
  return Eigen::internal::predux_any(mask);
}
template <class T>
typename Simd<T>::Packet Simd<T>::select(Mask mask, Packet yes, Packet no) {
  return Eigen::internal::pselect(mask, yes, no);
}
template <class T>
typename Simd<T>::Packet Simd<T>::load_lanes(const T* p, Index first, Index count) {
  T lanes[size] = {};
  for (Index l = first; l < first + count; ++l) lanes[l] = p[l];
  return load(lanes);
}
template <class T>
typename Simd<T>::Packet Simd<T>::load_some(const T* p, Index first, Index count, T other) {
  T lanes[size];
  for (Index l = 0; l < size; ++l) lanes[l] = l >= first && l < first + count ? p[l] : other;
  return load(lanes);
}
template <class T>
typename Simd<T>::Packet Simd<T>::load_halves(const T* low, const T* high) {
  T lanes[size];
  std::copy_n(low, size / 2, lanes);
  std::copy_n(high, size / 2, lanes + size / 2);
  return load(lanes);
}
template <class T>
void Simd<T>::store_halves(T* low, T* high, Packet v) {
  T lanes[size];
  store(lanes, v);
  std::copy_n(lanes, size / 2, low);
  std::copy_n(lanes + size / 2, size / 2, high);
}
template <class T>
typename Simd<T>::Packet Simd<T>::load_bytes(const std::uint8_t* p, Index first, Index count) {
  T lanes[size] = {};
  for (Index l = first; l < first + count; ++l) lanes[l] = static_cast<T>(static_cast<int>(p[l]));
  return load(lanes);
}
template <class T>
void Simd<T>::store_bytes(std::uint8_t* p, Packet v, Index count) {
  T lanes[size];
  store(lanes, v);
  for (Index l = 0; l < count; ++l) p[l] = static_cast<std::uint8_t>(static_cast<int>(lanes[l]));
}
template <class T>
void Simd<T>::store_lanes(T* p, Packet v, Index first, Index count) {
  T lanes[size];
  store(lanes, v);
  for (Index l = first; l < first + count; ++l) p[l] = lanes[l];
}
#endif

// The largest register block of the matrix kernel: broadcast rows times vectors.
#if defined(__AVX512F__)
constexpr int max_rows = 14;
#elif defined(__aarch64__)
constexpr int max_rows = 8;
#else
constexpr int max_rows = 6;
#endif
constexpr int tile_vectors = 2;

template <class T>
constexpr int tile_lanes = tile_vectors * Simd<T>::size;

// Asks for the cache lines of p[0], ..., p[n - 1]; a locality of 2 is for the second-level cache.
template <int locality = 3, class T>
void prefetch(const T* p, Index n) {
  for (Index i = 0; i < n; i += 64 / Index(sizeof(T))) __builtin_prefetch(p + i, 0, locality);
}

// p + step, in an order of steps that the compiler may not undo: from an unrolled loop g++ would work out
// every address beforehand, which takes more registers than there are.
template <class T>
inline T* next_row(T* p, Index step) {
  p += step;
#if defined(__GNUC__)
  asm("" : "+r"(p));
#endif
  return p;
}

}  // namespace cnnlib::CNNLIB_ISA
