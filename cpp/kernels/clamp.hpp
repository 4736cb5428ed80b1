// Applies a Clamp to vectors and to single values.
#pragma once

#include "epilogue.hpp"
#include "kernels/simd/packet.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
Packet<T> clamp(const Clamp<T>& activation, Packet<T> v) {
  using S = Simd<T>;
  return S::min(S::max(v, S::fill(activation.low)), S::fill(activation.high));
}
template <class T>
T clamp(const Clamp<T>& activation, T v) {
  return v < activation.low ? activation.low : v > activation.high ? activation.high : v;
}

}  // namespace cnnlib::CNNLIB_ISA
