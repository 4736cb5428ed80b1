// SSE4.1, what the x86-64 baseline has: 16 registers of 128 bits, no FMA.
#pragma once

#include "kernels/simd/packet.hpp"

namespace cnnlib::CNNLIB_ISA {

struct InstructionSet : SixteenRegisters {
  static constexpr bool rounds_once = false;
};

template <>
struct Simd<float> : HalvesSimd<float> {
  static void store_non_temporal(float* p, Packet v) { _mm_stream_ps(p, v); }
};
template <>
struct Simd<double> : HalvesSimd<double> {
  static void store_non_temporal(double* p, Packet v) { _mm_stream_pd(p, v); }
};

}  // namespace cnnlib::CNNLIB_ISA
