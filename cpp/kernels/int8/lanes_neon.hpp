// NEON of 64-bit Arm: a product of a byte and a weight fits 16 bits, and pairs of them are added to 32.
#pragma once

#include <arm_neon.h>

#include "kernels/int8/pairs.hpp"

namespace cnnlib::CNNLIB_ISA {

struct Lanes {
  static constexpr int size = 4, registers = 32;
  static constexpr bool multiplies_bytes = false;
  static constexpr int tile_rows = 8;  // x 2 vectors of sums, 4 of weights, 2 of values, 1 of products
  static constexpr bool has_blocks = false;
  using Sums = int32x4_t;
  using Scales = float32x4_t;

  static Sums zero() { return vdupq_n_s32(0); }
  static Sums fill(int v) { return vdupq_n_s32(v); }
  static Sums load(const std::int32_t* p) { return vld1q_s32(p); }
  static Sums add(Sums a, Sums b) { return vaddq_s32(a, b); }
  static Sums subtract(Sums a, Sums b) { return vsubq_s32(a, b); }
  static Sums quarter(Sums a) { return vshrq_n_s32(a, 2); }
  static Sums multiply(Sums a, Sums b) { return vmulq_s32(a, b); }
  static Sums shift_left(Sums a, int bits) { return vshlq_s32(a, vdupq_n_s32(bits)); }
  static Scales fill_scales(float v) { return vdupq_n_f32(v); }
  static Scales load_scales(const float* p) { return vld1q_f32(p); }
  static Sums bytes(const std::uint8_t* p) {
    return vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(vmovl_u8(four(p)))));
  }

  static Scales scaled(Sums sums, Scales scales) { return vmulq_f32(vcvtq_f32_s32(sums), scales); }
  static Scales divided(Scales a, Scales b) { return vdivq_f32(a, b); }
  static Sums rounded(Scales v, Scales low, Scales high) {
    return vcvtnq_s32_f32(vminq_f32(vmaxnmq_f32(v, low), high));
  }
  static void store_bytes(std::uint8_t* p, Sums v) {
    const uint16x4_t words = vmovn_u32(vreinterpretq_u32_s32(v));
    const uint8x8_t bytes = vmovn_u16(vcombine_u16(words, words));
    std::memcpy(p, &bytes, 4);
  }
  static void store_sums(std::int32_t* p, Sums v) { vst1q_s32(p, v); }
  static void store_floats(float* p, Scales v) { vst1q_f32(p, v); }

  using Pairs = int16x8_t;
  static Pairs load_pairs(const std::int16_t* p) { return vld1q_s16(p); }
  static Pairs broadcast_pair(const std::int16_t* p) {
    std::int32_t v;
    std::memcpy(&v, p, 4);
    return vreinterpretq_s16_s32(vdupq_n_s32(v));
  }
  static Sums dot_pairs(Sums sums, Pairs x, Pairs w) {
    const Sums low = vmull_s16(vget_low_s16(x), vget_low_s16(w)), high = vmull_high_s16(x, w);
    return vaddq_s32(sums, vpaddq_s32(low, high));
  }

  struct Values {
    int16x8_t even, odd;
  };
  using Weights = Values;
  static constexpr int weight_bytes = 32;
  static Weights load_weights(const std::uint8_t* p) {
    const auto* from = reinterpret_cast<const std::int16_t*>(p);
    return {vld1q_s16(from), vld1q_s16(from + 8)};
  }
  static void pack_weights(const std::int8_t* weights, void* packed) { pack_pairs(weights, size, packed); }
  static Values values(uint8x16_t v) {
    const uint16x8_t words = vreinterpretq_u16_u8(v);
    return {vreinterpretq_s16_u16(vandq_u16(words, vdupq_n_u16(255))),
            vreinterpretq_s16_u16(vshrq_n_u16(words, 8))};
  }
  static Sums dot(Sums sums, const Values& x, const Weights& w) {
    return vpadalq_s16(vpadalq_s16(sums, vmulq_s16(x.even, w.even)), vmulq_s16(x.odd, w.odd));
  }
  static Values interleave(const std::uint8_t* a, const std::uint8_t* b, const std::uint8_t* c,
                           const std::uint8_t* d) {
    const uint16x4_t ab = vreinterpret_u16_u8(vzip1_u8(four(a), four(b)));
    const uint16x4_t cd = vreinterpret_u16_u8(vzip1_u8(four(c), four(d)));
    return values(vreinterpretq_u8_u16(vcombine_u16(vzip1_u16(ab, cd), vzip2_u16(ab, cd))));
  }

 private:
  static uint8x8_t four(const std::uint8_t* p) {
    std::uint32_t v;
    std::memcpy(&v, p, 4);
    return vreinterpret_u8_u32(vdup_n_u32(v));
  }
};

}  // namespace cnnlib::CNNLIB_ISA
