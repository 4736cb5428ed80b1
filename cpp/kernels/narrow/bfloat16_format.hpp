// bfloat16 as a format of the narrow convolutions, for AVX-512 with AVX512_BF16: how values are multiplied
// and read, and how sums become values.
#pragma once

#include <immintrin.h>

#include "narrow_shapes.hpp"

namespace cnnlib::CNNLIB_ISA {

struct BfloatLanes {
  using Sums = __m512;
  using Values = __m512i;   // 16 groups of two values
  using Weights = __m512i;  // the same
  static constexpr int size = 16, registers = 32, weight_bytes = 64;
  static constexpr int tile_rows = 12;  // x 2 vectors of sums, 2 of weights, 1 of values

  static Sums zero() { return _mm512_setzero_ps(); }
  static Sums load(const void* p) { return _mm512_loadu_ps(p); }
  static Weights load_weights(const void* p) { return _mm512_loadu_si512(p); }
  // weights (size, 2)
  static void pack_weights(const Bfloat16* weights, void* packed) {
    std::memcpy(packed, weights, weight_bytes);
  }
  // The group at offset k of the terms at x, for every lane.
  static Values values_at(const std::uint8_t* x, Index k) {
    std::int32_t group;
    std::memcpy(&group, x + k, sizeof group);
    return _mm512_set1_epi32(group);
  }
  static Sums dot(Sums sums, Values x, Weights w) {
    return _mm512_dpbf16_ps(sums, reinterpret_cast<__m512bh>(x), reinterpret_cast<__m512bh>(w));
  }

  // The first `count` lanes.
  static __mmask16 first(Index count) {
    return count >= size ? __mmask16(0xFFFF) : __mmask16((1u << count) - 1);
  }
  // The `size` values at p, as floats.
  static Sums widened(const std::uint8_t* p) {
    const __m512i words = _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
    return _mm512_castsi512_ps(_mm512_slli_epi32(words, 16));
  }
  // Rounds and stores the first `count` lanes at p.
  static void store(std::uint8_t* p, Sums v, Index count = size) {
    const auto rounded = reinterpret_cast<__m256i>(_mm512_cvtneps_pbh(v));
    if (count >= size)
      _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), rounded);
    else
      _mm256_mask_storeu_epi16(p, first(count), rounded);
  }
};

// A float rounded to nearest even; NaN stays NaN. Weights keep their subnormal numbers, which instructions
// then take for 0.
inline Bfloat16 rounded(float v) {
  std::uint32_t bits;
  std::memcpy(&bits, &v, sizeof bits);
  constexpr std::uint32_t half = 0x7FFF, quiet = 0x400000;
  if (v != v) return {static_cast<std::uint16_t>((bits | quiet) >> 16)};
  return {static_cast<std::uint16_t>((bits + half + (bits >> 16 & 1)) >> 16)};
}

// Clamps a vector; NaN stays NaN.
class BfloatClamp {
 public:
  explicit BfloatClamp(const Clamp<float>& c) : low_(_mm512_set1_ps(c.low)), high_(_mm512_set1_ps(c.high)) {}
  [[gnu::always_inline]] BfloatLanes::Sums operator()(BfloatLanes::Sums v) const {
    return _mm512_min_ps(high_, _mm512_max_ps(low_, v));
  }

 private:
  BfloatLanes::Sums low_, high_;
};

// Epilogue<Bfloat16> on vectors.
class BfloatFinish {
 public:
  // The biases of a vector of filters, which are padded to whole vectors.
  struct NumberVector {
    BfloatLanes::Sums bias;
    NumberVector(const FilterNumbers<Bfloat16>& n, Index f) : bias(BfloatLanes::load(n.bias + f)) {}
  };

  explicit BfloatFinish(const Epilogue<Bfloat16>& e) : clamp_(e.activation) {}

  [[gnu::always_inline]] void store(BfloatLanes::Sums sums, const NumberVector& n, std::uint8_t* y,
                                    Index count) const {
    BfloatLanes::store(y, clamp_(_mm512_add_ps(sums, n.bias)), count);
  }
  // The same with the other term, values at `other`.
  [[gnu::always_inline]] void store(BfloatLanes::Sums sums, const NumberVector& n, const std::uint8_t* other,
                                    std::uint8_t* y, Index count) const {
    const BfloatLanes::Sums sum = _mm512_add_ps(sums, n.bias);
    BfloatLanes::store(y, clamp_(_mm512_add_ps(sum, BfloatLanes::widened(other))), count);
  }
  // Stores the first `count` lanes as scores.
  [[gnu::always_inline]] void store_scores(BfloatLanes::Sums sums, const NumberVector& n, float* y,
                                           Index count) const {
    _mm512_mask_storeu_ps(y, BfloatLanes::first(count), clamp_(_mm512_add_ps(sums, n.bias)));
  }

 private:
  BfloatClamp clamp_;
};

struct BfloatFormat {
  using Value = Bfloat16;
  using Weight = Bfloat16;
  using Given = float;  // a weight that is to be packed
  using Sum = float;
  using Lanes = BfloatLanes;
  using Numbers = FilterNumbers<Value>;
  using NumberVector = BfloatFinish::NumberVector;
  using Finish = BfloatFinish;
  static constexpr bool widens = false, stores_pairs = false;

  static constexpr Index number_bytes = sizeof(float);
  static Numbers numbers_at(const void* packed, Index) { return {static_cast<const float*>(packed)}; }
  static void pack_number(const Numbers& from, Index f, void* packed, Index, Index at) {
    static_cast<float*>(packed)[at] = from.bias == nullptr ? 0 : from.bias[f];
  }

  static Weight weight(Given w) { return rounded(w); }

  static int border(const BfloatConv&) { return 0; }

#ifdef __AMX_BF16__
  // Adds the product of two tile registers to sum register s: see TileRegisters.
  template <int s>
  static void multiply_tiles() {
    if constexpr (s == 0) _tile_dpbf16ps(0, 4, 6);
    if constexpr (s == 1) _tile_dpbf16ps(1, 4, 7);
    if constexpr (s == 2) _tile_dpbf16ps(2, 5, 6);
    if constexpr (s == 3) _tile_dpbf16ps(3, 5, 7);
  }
#endif
};

}  // namespace cnnlib::CNNLIB_ISA
