// What becomes of a layer's sums: see ByteEpilogue.
#pragma once

#include "int8_shapes.hpp"
#include "kernels/int8/lanes.hpp"

namespace cnnlib::CNNLIB_ISA {

// Numbers of filters are padded to whole vectors.
class Epilogue {
 public:
  explicit Epilogue(const ByteEpilogue& e)
      : e_(e),
        low_(Lanes::fill_scales(float(e.low - e.zero))),
        high_(Lanes::fill_scales(float(e.high - e.zero))),
        zero_(Lanes::fill(e.zero)) {}

  // Filters f, f + 1, ... to the first `count` of the bytes at y; `other` are as many bytes of the other
  // term.
  void store(Lanes::Sums sums, const FilterNumbers& n, Index f, const std::uint8_t* other, std::uint8_t* y,
             Index count) const {
    if (e_.adds)
      sums = Lanes::add(Lanes::shift_left(sums, e_.shift),
                        Lanes::multiply(Lanes::bytes(other), Lanes::load(n.factor + f)));
    sums = Lanes::add(sums, Lanes::load(n.bias + f));
    const Lanes::Scales v = Lanes::scaled(sums, Lanes::load_scales(n.multiplier + f));
    const Lanes::Sums q = Lanes::add(Lanes::rounded(v, low_, high_), zero_);
    if (count >= Lanes::size) return Lanes::store_bytes(y, q);
    std::uint8_t bytes[Lanes::size];
    Lanes::store_bytes(bytes, q);
    for (Index i = 0; i < count; ++i) y[i] = bytes[i];
  }

  // The same as scores.
  void store_scores(Lanes::Sums sums, const FilterNumbers& n, Index f, float* y, Index count) const {
    sums = Lanes::add(sums, Lanes::load(n.bias + f));
    float scores[Lanes::size];
    Lanes::store_floats(scores, Lanes::scaled(sums, Lanes::load_scales(n.multiplier + f)));
    for (Index i = 0; i < std::min<Index>(count, Lanes::size); ++i) y[i] = scores[i];
  }

 private:
  ByteEpilogue e_;
  Lanes::Scales low_, high_;
  Lanes::Sums zero_;
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
