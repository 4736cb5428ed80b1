// NEON of 64-bit Arm: a product of a byte and a weight fits 16 bits, and pairs of them are added to 32.
#pragma once

#include <arm_neon.h>

namespace cnnlib::CNNLIB_ISA {

struct NeonLanes : GenericLanes<int32x4_t, float32x4_t> {
  static constexpr int registers = 32;
  static constexpr int tile_rows = 8;  // x 2 vectors of sums, 4 of weights, 2 of values, 1 of products
  static uint8x8_t four(const std::uint8_t* p) {
    return vreinterpret_u8_u32(vdup_n_u32(read<std::uint32_t>(p)));
  }
  static int16x8_t pairs(Sums v) { return vreinterpretq_s16_s32(v); }

  static Sums bytes(const std::uint8_t* p) {
    return vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(vmovl_u8(four(p)))));
  }
  static Sums rounded(Scales v, Scales low, Scales high) {
    return vcvtnq_s32_f32(vminq_f32(vmaxnmq_f32(v, low), high));
  }
  static void store_bytes(std::uint8_t* p, Sums v) {
    const uint16x4_t words = vmovn_u32(vreinterpretq_u32_s32(v));
    const uint8x8_t bytes = vmovn_u16(vcombine_u16(words, words));
    std::memcpy(p, &bytes, 4);
  }
  static Sums dot_pairs(Sums sums, Sums x, Sums w) {
    const Sums low = vmull_s16(vget_low_s16(pairs(x)), vget_low_s16(pairs(w)));
    return vaddq_s32(sums, vpaddq_s32(low, vmull_high_s16(pairs(x), pairs(w))));
  }
};

struct IntLanes : ProductLanes<NeonLanes> {
  static constexpr bool has_blocks = false;
  static Sums dot(Sums sums, const Values& x, const Weights& w) {
    sums = vpadalq_s16(sums, vmulq_s16(pairs(x.even), pairs(w.even)));
    return vpadalq_s16(sums, vmulq_s16(pairs(x.odd), pairs(w.odd)));
  }
  static Values interleave(const std::uint8_t* a, const std::uint8_t* b, const std::uint8_t* c,
                           const std::uint8_t* d) {
    const uint16x4_t ab = vreinterpret_u16_u8(vzip1_u8(four(a), four(b)));
    const uint16x4_t cd = vreinterpret_u16_u8(vzip1_u8(four(c), four(d)));
    return values(vreinterpretq_s32_u16(vcombine_u16(vzip1_u16(ab, cd), vzip2_u16(ab, cd))));
  }
};

}  // namespace cnnlib::CNNLIB_ISA
