// ReLU on the way to memory.
#pragma once

#include <limits>

#include "kernels/simd/packet.hpp"

namespace cnnlib::CNNLIB_ISA {

// What follows the last sum: min(max(v, 0), most), or nothing. NaN stays NaN.
template <class T>
struct Rectifier {
  bool relu = false;
  T most = std::numeric_limits<T>::infinity();

  bool clips() const { return most < std::numeric_limits<T>::infinity(); }
  Packet<T> operator()(Packet<T> v) const {
    using S = Simd<T>;
    return relu ? S::min(S::relu(v), S::fill(most)) : v;
  }
  T operator()(T v) const { return relu && v < T(0) ? T(0) : relu && v > most ? most : v; }
};

}  // namespace cnnlib::CNNLIB_ISA
