// Bytes as a format of the narrow convolutions: how they are multiplied, and how their sums become bytes.
#pragma once

#include "kernels/narrow/cuts.hpp"
#include "kernels/narrow/lanes.hpp"
#include "narrow_shapes.hpp"

namespace cnnlib::CNNLIB_ISA {

// The numbers of a vector of filters; they are padded to whole vectors.
struct FilterVector {
  IntLanes::Sums bias, factor;
  IntLanes::Scales multiplier;

  FilterVector(const FilterNumbers<std::uint8_t>& n, Index f)
      : bias(IntLanes::load(n.bias + f)),
        factor(n.factor == nullptr ? IntLanes::zero() : IntLanes::load(n.factor + f)),
        multiplier(IntLanes::load_scales(n.multiplier + f)) {}
  FilterVector(int all_bias, float all_multiplier)
      : bias(IntLanes::fill(all_bias)),
        factor(IntLanes::zero()),
        multiplier(IntLanes::fill_scales(all_multiplier)) {}
};

// Epilogue<std::uint8_t> on vectors.
class Requantization {
 public:
  explicit Requantization(const Epilogue<std::uint8_t>& e)
      : low_(IntLanes::fill_scales(float(e.activation.low - e.zero))),
        high_(IntLanes::fill_scales(float(e.activation.high - e.zero))),
        zero_(IntLanes::fill(e.zero)),
        shift_(e.shift) {}

  // The values to be rounded.
  static IntLanes::Scales value(IntLanes::Sums sums, const FilterVector& n) {
    return IntLanes::scaled(IntLanes::add(sums, n.bias), n.multiplier);
  }
  // The same with the other term.
  IntLanes::Scales value(IntLanes::Sums sums, const FilterVector& n, IntLanes::Sums other) const {
    return value(IntLanes::add(IntLanes::shift_left(sums, shift_), IntLanes::multiply(other, n.factor)), n);
  }

  // Rounds and stores the first `count` lanes as bytes at y.
  [[gnu::always_inline]] void store(IntLanes::Sums sums, const FilterVector& n, std::uint8_t* y,
                                    Index count) const {
    store(value(sums, n), y, count);
  }
  // The same with the other term, bytes at `other`.
  [[gnu::always_inline]] void store(IntLanes::Sums sums, const FilterVector& n, const std::uint8_t* other,
                                    std::uint8_t* y, Index count) const {
    store(value(sums, n, IntLanes::bytes(other)), y, count);
  }
  // Stores the first `count` lanes as scores.
  static void store_scores(IntLanes::Sums sums, const FilterVector& n, float* y, Index count) {
    float scores[IntLanes::size];
    IntLanes::store_floats(scores, value(sums, n));
    for (Index i = 0; i < std::min<Index>(count, IntLanes::size); ++i) y[i] = scores[i];
  }

 private:
  [[gnu::always_inline]] void store(IntLanes::Scales v, std::uint8_t* y, Index count) const {
    const IntLanes::Sums q = IntLanes::add(IntLanes::rounded(v, low_, high_), zero_);
    if (count >= IntLanes::size) return IntLanes::store_bytes(y, q);
    std::uint8_t bytes[IntLanes::size];
    IntLanes::store_bytes(bytes, q);
    for (Index i = 0; i < count; ++i) y[i] = bytes[i];
  }

  IntLanes::Scales low_, high_;
  IntLanes::Sums zero_;
  int shift_;
};

struct ByteFormat {
  using Value = std::uint8_t;
  using Given = const std::int8_t*;  // weights (F, C / groups, KH, KW)
  struct Packed {
    std::int8_t weights[4 * IntLanes::size];
  };
  using Sum = std::int32_t;
  using Lanes = IntLanes;
  using Numbers = FilterNumbers<Value>;
  using NumberVector = FilterVector;
  using Finish = Requantization;
  // Whether the instruction takes wider values than those in memory.
  static constexpr bool widens = !IntLanes::multiplies_bytes;
  static constexpr bool stores_pairs = true;  // of vectors of filters: see IntLanes::store_pairs

  // Packed numbers of `count` filters: biases, multipliers, factors.
  static constexpr Index number_bytes = 12;
  static Numbers numbers_at(const void* packed, Index count) {
    const auto* bias = static_cast<const std::int32_t*>(packed);
    const auto* multiplier = reinterpret_cast<const float*>(bias + count);
    return {bias, multiplier, reinterpret_cast<const std::int32_t*>(multiplier + count)};
  }
  // Packs those of filter f as number `at`.
  static void pack_number(const Numbers& from, Index f, void* packed, Index count, Index at) {
    auto* const bias = static_cast<std::int32_t*>(packed);
    auto* const multiplier = reinterpret_cast<float*>(bias + count);
    bias[at] = from.bias[f];
    multiplier[at] = from.multiplier[f];
    if (from.factor != nullptr) reinterpret_cast<std::int32_t*>(multiplier + count)[at] = from.factor[f];
  }

  // The weights of a vector of filters of group g.
  template <class Panels>
  static Packed packed(Given w, const Panels& p, Index g, Index v, const Taps& t) {
    const ConvShape& s = p.c.shape;
    const Index C = s.C / s.groups;
    Packed made = {};
    for (Index i = 0; i < IntLanes::size && p.filter(v, i) < p.filters; ++i)
      for (Index k = 0; k < t.count; ++k) {
        const Index channel = (g * p.filters + p.filter(v, i)) * C + t.c + k;
        made.weights[4 * i + k] = w[(channel * s.KH + t.i) * s.KW + t.j];
      }
    return made;
  }

  static int border(const ByteConv& c) { return c.epilogue.zero; }

#ifdef __AMX_INT8__
  // Adds the product of two tile registers to sum register s: see TileRegisters.
  template <int s>
  static void multiply_tiles() {
    if constexpr (s == 0) _tile_dpbusd(0, 4, 6);
    if constexpr (s == 1) _tile_dpbusd(1, 4, 7);
    if constexpr (s == 2) _tile_dpbusd(2, 5, 6);
    if constexpr (s == 3) _tile_dpbusd(3, 5, 7);
  }
#endif
};

}  // namespace cnnlib::CNNLIB_ISA
