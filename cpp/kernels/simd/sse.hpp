// SSE4.1, what the x86-64 baseline has: 16 registers of 128 bits, no FMA.
#pragma once

#include "kernels/simd/packet.hpp"

namespace cnnlib::CNNLIB_ISA {

struct InstructionSet : SixteenRegisters {
  static constexpr Set set = Set::base;
  static constexpr bool rounds_once = false;
};

template <class T>
struct Simd : HalvesSimd<T> {
  static void store_non_temporal(T* p, Packet<T> v) {
    _mm_stream_si128(reinterpret_cast<__m128i*>(p), bit_cast<__m128i>(v));
  }
};

}  // namespace cnnlib::CNNLIB_ISA
