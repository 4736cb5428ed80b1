// Epilogue<std::uint8_t> on vectors.
#pragma once

#include "int8_shapes.hpp"
#include "kernels/int8/lanes.hpp"

namespace cnnlib::CNNLIB_ISA {

// The numbers of a vector of filters; they are padded to whole vectors.
struct FilterVector {
  IntLanes::Sums bias, factor;
  IntLanes::Scales multiplier;

  FilterVector(const FilterNumbers& n, Index f)
      : bias(IntLanes::load(n.bias + f)),
        factor(n.factor == nullptr ? IntLanes::zero() : IntLanes::load(n.factor + f)),
        multiplier(IntLanes::load_scales(n.multiplier + f)) {}
  FilterVector(int all_bias, float all_multiplier)
      : bias(IntLanes::fill(all_bias)),
        factor(IntLanes::zero()),
        multiplier(IntLanes::fill_scales(all_multiplier)) {}
};

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

// The border of some images holds the zero point.
inline void fill_border(const ByteImage& s, int zero, std::uint8_t* y, Index images) {
  if (s.top + s.bottom + s.left + s.right == 0) return;
  const Index row = s.row(), left = s.left * s.channels(), right = s.right * s.channels();
  for (Index n = 0; n < images; ++n, y += s.bytes()) {
    std::memset(y, zero, std::size_t(s.top * row));
    std::memset(y + (s.top + s.H) * row, zero, std::size_t(s.bottom * row));
    for (Index h = s.top; h < s.top + s.H; ++h) {
      std::memset(y + h * row, zero, std::size_t(left));
      std::memset(y + (h + 1) * row - right, zero, std::size_t(right));
    }
  }
}

}  // namespace cnnlib::CNNLIB_ISA
