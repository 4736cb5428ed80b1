// Values of a that lie side by side, each of which a step of a micro-kernel multiplies with vectors of b.
#pragma once

#include "kernels/simd/packet.hpp"

namespace cnnlib::CNNLIB_ISA {

// values[m] is the m-th of R values in every lane.
//
// Where a multiply-add takes a lane of a vector as a factor, they are loaded a vector at a time; the last
// vector overlaps with the one before, where R is no multiple of its size, so that nothing behind the values
// is read. Otherwise each is loaded by itself, as an operand in memory at best.
template <class T, int R, bool by_lanes = InstructionSet::lane_products && (R >= Simd<T>::size)>
struct BroadcastValues {
  static constexpr int vectors = 0;
  const T* p;

  [[gnu::always_inline]] Packet<T> operator[](int m) const { return Simd<T>::fill(p[m]); }
};

template <class T, int R>
struct BroadcastValues<T, R, true> {
  using S = Simd<T>;
  static constexpr int size = S::size, vectors = (R + size - 1) / size;
  const T* p;

  [[gnu::always_inline]] Packet<T> operator[](int m) const {
    const int first = std::min(m / size * size, R - size);
    return S::fill(S::load(p + first)[m - first]);
  }
};

}  // namespace cnnlib::CNNLIB_ISA
