// NEON of 64-bit Arm: 32 registers of 128 bits. A multiply-add takes a lane of a vector as a factor.
#pragma once

#include <arm_neon.h>

#include <cstring>

#include "kernels/simd/packet.hpp"

namespace cnnlib::CNNLIB_ISA {

struct InstructionSet : SixteenRegisters {
  static constexpr Set set = Set::neon;
  static constexpr int registers = 32;
  // 12 x 2 sums, 2 vectors of b (Winograd's products have 4) and those that hold values of a.
  static constexpr int MR = 12;
  static constexpr int dot_block = 4, dot_rows = 4;  // 16 sums, 4 vectors of one side and some of the other
  static constexpr int stencil_rows = 8;             // 8 sums, the 9 weights and the input
  static constexpr bool lane_products = true;
  static constexpr bool position_panels = true;
};

template <>
struct Simd<float> : HalvesSimd<float> {
  static bool any(Mask mask) { return vmaxvq_u32(vreinterpretq_u32_f32(mask)) != 0; }
  static unsigned bits(Mask mask) {
    return vaddvq_u32(vandq_u32(vreinterpretq_u32_f32(mask), uint32x4_t{1, 2, 4, 8}));
  }
  static Packet load_bytes(const std::uint8_t* p, Index first = 0, Index count = size) {
    std::uint8_t bytes[8] = {};
    count == size ? std::memcpy(bytes, p, size) : std::copy_n(p + first, count, bytes + first);
    return vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(vld1_u8(bytes)))));
  }
  static void store_bytes(std::uint8_t* p, Packet v, Index count = size) {
    const uint16x4_t words = vmovn_u32(vcvtq_u32_f32(v));
    std::uint8_t bytes[8];
    vst1_u8(bytes, vmovn_u16(vcombine_u16(words, words)));
    count == size ? std::memcpy(p, bytes, size) : std::copy_n(bytes, count, p);
  }
};

template <>
struct Simd<double> : HalvesSimd<double> {
  static bool any(Mask mask) { return vmaxvq_u32(vreinterpretq_u32_f64(mask)) != 0; }
  static unsigned bits(Mask mask) {
    return static_cast<unsigned>(vaddvq_u64(vandq_u64(vreinterpretq_u64_f64(mask), uint64x2_t{1, 2})));
  }
};

}  // namespace cnnlib::CNNLIB_ISA
