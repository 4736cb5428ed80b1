// NEON of 64-bit Arm: 32 registers of 128 bits. A multiply-add takes a lane of a vector as a factor, and
// there are no loads of some lanes: these are put together from halves of a vector and single lanes.
#pragma once

#include <arm_neon.h>

#include <cstring>

#include "kernels/simd/packet.hpp"

namespace cnnlib::CNNLIB_ISA {

struct InstructionSet : SixteenRegisters {
  static constexpr int registers = 32;
  // 12 x 2 sums, 2 vectors of b (Winograd's products have 4) and those that hold values of a.
  static constexpr int tile_rows = 12;
  static constexpr int dot_block = 4, dot_rows = 4;  // 16 sums, 4 vectors of one side and some of the other
  static constexpr int stencil_rows = 8;             // 8 sums, the 9 weights and the input
  static constexpr bool lane_products = true;
  static constexpr bool position_panels = true;
};

// The kinds of vectors for T, and operations on halves of them, which are two floats or a double.
template <class T>
struct Neon;

template <>
struct Neon<float> {
  using Packet = float32x4_t;
  using Half = float32x2_t;
  static Half load(const float* p) { return vld1_f32(p); }
  // Lanes 0 and 1, of which [first, last) come from p and the others from `rest`.
  static Half load(const float* p, Index first, Index last, Half rest) {
    if (first <= 0 && last >= 2) return load(p);
    if (first <= 0 && last >= 1) return vld1_lane_f32(p, rest, 0);
    return first <= 1 && last >= 2 ? vld1_lane_f32(p + 1, rest, 1) : rest;
  }
  static void store(float* p, Half v) { vst1_f32(p, v); }
  static void store(float* p, Half v, Index first, Index last) {
    if (first <= 0 && last >= 2) return store(p, v);
    if (first <= 0 && last >= 1) vst1_lane_f32(p, v, 0);
    if (first <= 1 && last >= 2) vst1_lane_f32(p + 1, v, 1);
  }
  static Half fill(float value) { return vdup_n_f32(value); }
  static Half low(Packet v) { return vget_low_f32(v); }
  static Half high(Packet v) { return vget_high_f32(v); }
  static Packet join(Half low, Half high) { return vcombine_f32(low, high); }
};

template <>
struct Neon<double> {
  using Packet = float64x2_t;
  using Half = float64x1_t;
  static Half load(const double* p) { return vld1_f64(p); }
  static Half load(const double* p, Index first, Index last, Half rest) {
    return first <= 0 && last >= 1 ? load(p) : rest;
  }
  static void store(double* p, Half v) { vst1_f64(p, v); }
  static void store(double* p, Half v, Index first, Index last) {
    if (first <= 0 && last >= 1) store(p, v);
  }
  static Half fill(double value) { return vdup_n_f64(value); }
  static Half low(Packet v) { return vget_low_f64(v); }
  static Half high(Packet v) { return vget_high_f64(v); }
  static Packet join(Half low, Half high) { return vcombine_f64(low, high); }
};

template <class T>
struct NeonSimd : GenericSimd<T> {
  using N = Neon<T>;
  using typename GenericSimd<T>::Packet;
  static constexpr Index half = GenericSimd<T>::size / 2;

  static Packet load_lanes(const T* p, Index first, Index count) { return load_lanes(p, first, count, 0); }
  static Packet load_lanes(const T* p, Index first, Index count, T other) {
    const Index last = first + count;
    const auto rest = N::fill(other);
    return N::join(N::load(p, first, last, rest), N::load(p + half, first - half, last - half, rest));
  }
  static void store_lanes(T* p, Packet v, Index first, Index count) {
    const Index last = first + count;
    N::store(p, N::low(v), first, last);
    N::store(p + half, N::high(v), first - half, last - half);
  }
};

template <>
struct Simd<float> : NeonSimd<float> {
  static bool any(Mask mask) { return vmaxvq_u32(vreinterpretq_u32_f32(mask)) != 0; }
  static unsigned bits(Mask mask) {
    return vaddvq_u32(vandq_u32(vreinterpretq_u32_f32(mask), uint32x4_t{1, 2, 4, 8}));
  }
  static Mask from_bits(unsigned bits) {
    return vreinterpretq_f32_u32(vtstq_u32(vdupq_n_u32(bits), uint32x4_t{1, 2, 4, 8}));
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
struct Simd<double> : NeonSimd<double> {
  static bool any(Mask mask) { return vmaxvq_u32(vreinterpretq_u32_f64(mask)) != 0; }
  static unsigned bits(Mask mask) {
    return static_cast<unsigned>(vaddvq_u64(vandq_u64(vreinterpretq_u64_f64(mask), uint64x2_t{1, 2})));
  }
  static Mask from_bits(unsigned bits) {
    return vreinterpretq_f64_u64(vtstq_u64(vdupq_n_u64(bits), uint64x2_t{1, 2}));
  }
};

}  // namespace cnnlib::CNNLIB_ISA
