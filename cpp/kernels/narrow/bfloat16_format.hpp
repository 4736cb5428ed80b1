// bfloat16 as a format of the narrow convolutions, for AVX-512 with AVX512_BF16: how values are multiplied
// and read, and how sums become values.
#pragma once

#include <immintrin.h>

#include "kernels/narrow/cuts.hpp"
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
  static void pack_weights(const Weights* weights, void* packed) { _mm512_storeu_si512(packed, *weights); }
  // The group at offset k of the terms at x, for every lane.
  static Values values_at(const std::uint8_t* x, Index k) {
    std::int32_t group;
    std::memcpy(&group, x + k, sizeof group);
    return _mm512_set1_epi32(group);
  }
  static Sums dot(Sums sums, Values x, Weights w) {
    return _mm512_dpbf16_ps(sums, reinterpret_cast<__m512bh>(x), reinterpret_cast<__m512bh>(w));
  }

  // Groups of two values that are rounded.
  static Values pairs(Sums a, Sums b) { return zipped(reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(b, a))); }
  // Groups of the values in the lower half and in the upper one.
  static Values zipped(__m512i halves) {
    const __m512i order = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23,
                                           7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_permutexvar_epi16(order, halves);
  }
  // Floats that lie a step apart, as many as there are lanes or `left`; the others are 0.
  class Gather {
   public:
    Gather(Index step, Index left)
        : offsets_(
              _mm512_mullo_epi32(_mm512_set1_epi32(int(step)),
                                 _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0))),
          lanes_(first(left)) {}
    Sums operator()(const float* from) const {
      return _mm512_mask_i32gather_ps(zero(), lanes_, offsets_, from, sizeof(float));
    }

   private:
    __m512i offsets_;
    __mmask16 lanes_;
  };

  // The first `count` lanes.
  static __mmask16 first(Index count) {
    return count >= size ? __mmask16(0xFFFF) : __mmask16((1u << count) - 1);
  }
  // The `size` values at p, or the first `count` and zeros.
  static __m256i half(const std::uint8_t* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
  static __m256i half(const std::uint8_t* p, Index count) {
    return _mm256_maskz_loadu_epi16(first(count), p);
  }
  static __m512i joined(__m256i lower, __m256i upper) {
    return _mm512_inserti64x4(_mm512_castsi256_si512(lower), upper, 1);
  }
  // The values at p as floats, or the first `count` and zeros.
  static Sums widened(const std::uint8_t* p) { return widened(half(p)); }
  static Sums widened(const std::uint8_t* p, Index count) { return widened(half(p, count)); }
  static Sums widened(__m256i values) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(values), 16));
  }
  // The single value at p, as a float.
  static float widened_one(const std::uint8_t* p) {
    std::uint16_t bits;
    std::memcpy(&bits, p, sizeof bits);
    const std::uint32_t wide = std::uint32_t(bits) << 16;
    float value;
    std::memcpy(&value, &wide, sizeof value);
    return value;
  }
  // Stores the first `count` lanes a step apart.
  static void scatter(float* to, Index step, Index count, Sums v) {
    alignas(64) float lanes[size];
    _mm512_store_ps(lanes, v);
    for (Index i = 0; i < std::min<Index>(size, count); ++i) to[i * step] = lanes[i];
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

// 32 values as two vectors of floats, those at even places and those at odd ones: half the instructions of
// two vectors of neighbours.
struct BfloatPair {
  using Sums = BfloatLanes::Sums;
  static constexpr Index size = 2 * BfloatLanes::size, bytes = 2 * size;
  Sums even, odd;

  static __mmask32 first(Index count) { return count >= size ? ~__mmask32{0} : (__mmask32{1} << count) - 1; }
  static BfloatPair load(const std::uint8_t* p) {
    const __m512i v = _mm512_loadu_si512(p);
    const __m512i upper = _mm512_and_si512(v, _mm512_set1_epi32(int(0xFFFF0000)));
    return {_mm512_castsi512_ps(_mm512_slli_epi32(v, 16)), _mm512_castsi512_ps(upper)};
  }
  // Stores the first `count` of 32 numbers of 16 bits.
  static void store_numbers(void* p, __m512i numbers, Index count) {
    if (count >= size)
      _mm512_storeu_si512(p, numbers);
    else
      _mm512_mask_storeu_epi16(p, first(count), numbers);
  }
  // Rounds and stores the first `count` values.
  void store(std::uint8_t* p, Index count) const { store_numbers(p, BfloatLanes::pairs(even, odd), count); }
  // Floats that lie in the order of their channels.
  static BfloatPair split(const float* p) {
    const __m512i order = _mm512_set_epi32(30, 28, 26, 24, 22, 20, 18, 16, 14, 12, 10, 8, 6, 4, 2, 0);
    const Sums low = _mm512_loadu_ps(p), high = _mm512_loadu_ps(p + BfloatLanes::size);
    return {_mm512_permutex2var_ps(low, order, high),
            _mm512_permutex2var_ps(low, _mm512_add_epi32(order, _mm512_set1_epi32(1)), high)};
  }
  static BfloatPair zero() { return {_mm512_setzero_ps(), _mm512_setzero_ps()}; }
};
// f(even), f(odd) of pairs.
template <class F, class... Pairs>
[[gnu::always_inline]] inline BfloatPair each_half(const F& f, const Pairs&... pairs) {
  return {f(pairs.even...), f(pairs.odd...)};
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
  // Adds the other term, values at `other`, before the activation.
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
  using Given = WeightView;
  using Packed = BfloatLanes::Weights;
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

  // The weights of a vector of filters of group g.
  template <class Panels>
  static Packed packed(const Given& w, const Panels& p, Index g, Index v, const Taps& t) {
    const BfloatLanes::Gather gather(w.filter, p.filters - p.filter(v, 0));
    const float* const from = w.at(g * p.filters + p.filter(v, 0), t.c, t.i, t.j);
    return BfloatLanes::pairs(t.count > 0 ? gather(from) : BfloatLanes::zero(),
                              t.count > 1 ? gather(from + w.channel) : BfloatLanes::zero());
  }

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
