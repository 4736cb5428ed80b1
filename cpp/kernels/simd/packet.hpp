// Simd<T>: vectors of T in registers, for the instruction set that this file is compiled for. GenericSimd is
// the interface, in versions that serve any set. What a set does its own way stands in avx512.hpp, avx2.hpp,
// sse.hpp and neon.hpp, with its InstructionSet: the facts about its registers by which kernels cut their
// blocks. These files alone name Eigen's packet operations and intrinsics.
//
// A new set: a file here with its InstructionSet and its Simd, which replaces what is slow in GenericSimd,
// chosen at the end of this file; its flags in CMakeLists.txt and its check in dispatch.cpp.
#pragma once

#include <Eigen/Core>
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <utility>

#include "kernels/simd/memory.hpp"
#include "shapes.hpp"

// A vector type as a template argument loses its alignment attribute, which loads and stores here
// do not rely on.
#pragma GCC diagnostic ignored "-Wignored-attributes"

namespace cnnlib::CNNLIB_ISA {

enum class Set { base, neon, avx2, avx512 };

// How large a block of sums a set's registers hold: its InstructionSet, which these are for most.
struct SixteenRegisters {
  static constexpr int registers = 16;  // of a vector
  // Rows of the micro-kernel: 6 x 2 sums, 2 vectors of b and 1 for a value of a.
  static constexpr int MR = 6;
  // Dot products of 3 vectors with 3: 9 sums, 3 vectors of one side and 1 of the other.
  static constexpr int dot_block = 3, dot_rows = 3;
  // Rows of a depthwise stencil: 4 sums, the 9 weights of a 3x3 kernel and its input.
  static constexpr int stencil_rows = 4;
  // Weights of a 1x1 kernel's panel, beside which the lines of x, which no other tap shares, need room in the
  // first level: a quarter of 32 KB. It cuts sums, so that it may not follow from the processor at hand.
  static constexpr int pointwise_panel_bytes = 8 << 10;
  // Whether 1x1 layers gain by panels of positions that all filters share: elsewhere another method is always
  // cheaper.
  static constexpr bool position_panels = false;
  // Whether dw of first layers gains by tiles whose rows are taps: loads of wide vectors along an image cross
  // cache lines.
  static constexpr bool tap_rows = false;
  // Whether Winograd's F(5x5, 3x3) is worth the size of its code.
  static constexpr bool large_winograd_tile = false;
  // Whether a multiply-add takes one lane of a vector as a factor.
  static constexpr bool lane_products = false;
  // Whether a multiply-add rounds its sum alone, not the product too.
  static constexpr bool rounds_once = true;
};

// v in a register from then on: g++ takes a value with several uses from memory each time, or its lanes.
template <class Vector>
[[gnu::always_inline]] inline Vector in_register(Vector v) {
#if defined(__x86_64__)
  asm("" : "+v"(v));
#elif defined(__aarch64__)
  asm("" : "+w"(v));
#endif
  return v;
}

template <class To, class From>
To bit_cast(From v) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  std::memcpy(&to, &v, sizeof v);
  return to;
}

template <class T>
struct Simd;
template <class T>
using Packet = typename Simd<T>::Packet;

// A whole number of T's size, and where T keeps its exponent.
template <class T>
struct Format;
template <>
struct Format<float> {
  using Whole = std::uint32_t;
  static constexpr int fraction_bits = 23, exponent_bias = 127;
};
template <>
struct Format<double> {
  using Whole = std::uint64_t;
  static constexpr int fraction_bits = 52, exponent_bias = 1023;
};

// The version of each operation that serves any set. A set's own Simd hides those that it does its own way.
template <class T>
struct GenericSimd {
  using S = Simd<T>;
  using Packet = typename Eigen::internal::packet_traits<T>::type;
  using Mask = Packet;  // what a comparison gives: all bits of a lane
  static constexpr int size = Eigen::internal::packet_traits<T>::size;  // lanes
  static constexpr int bytes = size * int(sizeof(T));

  static Packet zero() { return Eigen::internal::pset1<Packet>(T(0)); }
  static Packet fill(T value) { return Eigen::internal::pset1<Packet>(value); }
  static Packet load(const T* p) { return Eigen::internal::ploadu<Packet>(p); }
  // The same in a register from then on.
  static Packet load_once(const T* p) { return in_register(load(p)); }
  static void store(T* p, Packet v) { Eigen::internal::pstoreu(p, v); }
  // Around the caches, to an address that is a multiple of the vector's size; store_fence() ends a series.
  static void store_non_temporal(T* p, Packet v) { store(p, v); }

  static Packet add(Packet a, Packet b) { return Eigen::internal::padd(a, b); }
  static Packet sub(Packet a, Packet b) { return Eigen::internal::psub(a, b); }
  static Packet mul(Packet a, Packet b) { return Eigen::internal::pmul(a, b); }
  static Packet div(Packet a, Packet b) { return Eigen::internal::pdiv(a, b); }
  static Packet sqrt(Packet v) { return Eigen::internal::psqrt(v); }
  static Packet fma(Packet a, Packet b, Packet c) { return Eigen::internal::pmadd(a, b, c); }  // a * b + c
  static Packet max(Packet a, Packet b) { return Eigen::internal::pmax(a, b); }  // NaN where a is
  static Packet min(Packet a, Packet b) { return Eigen::internal::pmin(a, b); }  // NaN where a is
  static Packet log(Packet v) { return Eigen::internal::plog(v); }
  // NaN where either is.
  static Packet max_or_nan(Packet a, Packet b) { return Eigen::internal::pmax<Eigen::PropagateNaN>(a, b); }
  static Packet relu(Packet v) { return max(v, zero()); }
  // Over the lanes.
  static T sum(Packet v) { return Eigen::internal::predux(v); }
  static T max_of_lanes(Packet v) { return Eigen::internal::predux_max(v); }

  // The lanes' bits as whole numbers.
  using Whole = typename Format<T>::Whole;
  using Bits [[gnu::vector_size(bytes)]] = Whole;
  static constexpr Whole sign_bit = Whole(1) << (8 * sizeof(T) - 1);
  static Bits to_bits(Packet v) { return bit_cast<Bits>(v); }
  static Packet of_bits(Bits bits) { return bit_cast<Packet>(bits); }
  static Packet bitwise_and(Packet a, Packet b) { return Eigen::internal::pand(a, b); }
  static Packet abs(Packet v) { return of_bits(to_bits(v) & ~sign_bit); }
  static Packet minus_abs(Packet v) { return of_bits(to_bits(v) | sign_bit); }
  static Packet with_sign_of(Packet sign, Packet v) {
    return of_bits((to_bits(v) & ~sign_bit) | (to_bits(sign) & sign_bit));
  }
  // v without the lower half of its fraction: its square is exact.
  static Packet upper_half(Packet v) {
    return of_bits(to_bits(v) & ~((Whole(1) << (Format<T>::fraction_bits + 2) / 2) - 1));
  }

  static Mask equal(Packet a, Packet b) { return Eigen::internal::pcmp_eq(a, b); }
  // False where one is NaN.
  static Mask less_equal(Packet a, Packet b) { return Eigen::internal::pcmp_le(a, b); }
  // v is greater than best, or v is NaN and best is not.
  static Mask greater_or_nan(Packet v, Packet best) {
    return Eigen::internal::pandnot(equal(best, best), less_equal(v, best));
  }
  static Packet select(Mask mask, Packet yes, Packet no) { return Eigen::internal::pselect(mask, yes, no); }
  static bool any(Mask mask) { return Eigen::internal::predux_any(mask); }
  // A mask as a number, bit l for lane l, and back.
  static unsigned bits(Mask mask) {
    const Bits lanes = to_bits(mask) & bit_of_lane(lane_numbers);
    Whole bits = 0;
    for (int l = 0; l < size; ++l) bits |= lanes[l];
    return static_cast<unsigned>(bits);
  }
  static Mask from_bits(unsigned bits) {
    const Bits own = bit_of_lane(lane_numbers);
    return bit_cast<Mask>((Whole(bits) & own) == own);
  }

  // Lanes [first, first + count) of the vector at p, and 0 or `other` in the other lanes, whose memory is not
  // touched.
  static Packet load_lanes(const T* p, Index first, Index count, T other = 0) {
    T lanes[size];
    for (Index l = 0; l < size; ++l) lanes[l] = l >= first && l < first + count ? p[l] : other;
    return load(lanes);
  }
  static void store_lanes(T* p, Packet v, Index first, Index count) {
    T lanes[size];
    store(lanes, v);
    copy_lanes<size>(lanes + first, p + first, count);
  }

  // Whole numbers from 0 to 255, one byte for each of lanes [first, first + count); 0 in the other lanes.
  static Packet load_bytes(const std::uint8_t* p, Index first = 0, Index count = size) {
    T lanes[size] = {};
    for (Index l = first; l < first + count; ++l) lanes[l] = static_cast<T>(static_cast<int>(p[l]));
    return load(lanes);
  }
  static void store_bytes(std::uint8_t* p, Packet v, Index count = size) {
    T lanes[size];
    store(lanes, v);
    for (Index l = 0; l < count; ++l) p[l] = static_cast<std::uint8_t>(static_cast<int>(lanes[l]));
  }

  // even[i] = p[2 * i] and odd[i] = p[2 * i + 1], where p is the lanes of `low`, then those of `high`.
  static void split_pairs(Packet low, Packet high, Packet& even, Packet& odd) {
    even = shuffled(low, high, [](int i) { return 2 * i; });
    odd = shuffled(low, high, [](int i) { return 2 * i + 1; });
  }
  static void join_pairs(Packet even, Packet odd, Packet& low, Packet& high) {
    low = shuffled(even, odd, [](int i) { return i / 2 + i % 2 * size; });
    high = shuffled(even, odd, [](int i) { return (size + i) / 2 + (size + i) % 2 * size; });
  }
  static void load_pairs(const T* p, Packet& even, Packet& odd) {
    S::split_pairs(load(p), load(p + size), even, odd);
  }
  static void store_pairs(T* p, Packet even, Packet odd) {
    Packet low, high;
    S::join_pairs(even, odd, low, high);
    store(p, low);
    store(p + size, high);
  }

  // The lanes of v a place back, before the first one of `after`.
  static Packet shift_down(Packet v, Packet after) {
    return shuffled(v, after, [](int i) { return i + 1; });
  }

 private:
  // By two pieces of the largest power of two that fits, which may overlap.
  template <int piece>
  [[gnu::always_inline]] static void copy_lanes(const T* from, T* to, Index count) {
    if (count >= piece) {
      std::memcpy(to, from, piece * sizeof(T));
      std::memcpy(to + count - piece, from + count - piece, piece * sizeof(T));
    } else if constexpr (piece > 1) {
      copy_lanes<piece / 2>(from, to, count);
    }
  }
  static constexpr std::make_integer_sequence<int, size> lane_numbers{};
  template <int... l>
  static Bits bit_of_lane(std::integer_sequence<int, l...>) {
    return Bits{(Whole(1) << l)...};
  }
  // Lane i is lane from(i) of a, and behind them of b.
  template <class From>
  static Packet shuffled(Packet a, Packet b, const From& from) {
    return shuffled(a, b, from, lane_numbers);
  }
  template <class From, int... i>
  static Packet shuffled(Packet a, Packet b, From from, std::integer_sequence<int, i...>) {
    using Lanes [[gnu::vector_size(bytes)]] = T;
    return bit_cast<Packet>(__builtin_shufflevector(bit_cast<Lanes>(a), bit_cast<Lanes>(b), from(i)...));
  }
};

// Loads of some lanes of 128 bits, for sets that have none: whole halves of the vector, and lanes of the
// others one by one.
template <class T>
struct HalvesSimd : GenericSimd<T> {
  using typename GenericSimd<T>::Packet;

  static Packet load_lanes(const T* p, Index first, Index count, T other = 0) {
    using Lanes [[gnu::vector_size(16)]] = T;
    using Halves [[gnu::vector_size(16)]] = std::uint64_t;
    constexpr Index half = GenericSimd<T>::size / 2;
    const auto within = [=](Index i) { return first <= i && i < first + count; };
    Lanes v = other - Lanes{};
#pragma GCC unroll 2
    for (Index h = 0; h < 2; ++h) {
      if (within(h * half) && within((h + 1) * half - 1)) {
        auto halves = bit_cast<Halves>(v);
        std::uint64_t whole;  // clang++ takes no address of an element of a vector
        std::memcpy(&whole, p + h * half, sizeof whole);
        halves[h] = whole;
        v = bit_cast<Lanes>(halves);
      } else {
#pragma GCC unroll 2
        for (Index i = h * half; i < (h + 1) * half; ++i)
          if (within(i)) v[i] = p[i];
      }
    }
    return bit_cast<Packet>(v);
  }
};

}  // namespace cnnlib::CNNLIB_ISA

#if defined(__AVX512F__)
#include "kernels/simd/avx512.hpp"
#elif defined(__AVX2__)
#include "kernels/simd/avx2.hpp"
#elif defined(__SSE4_1__)
#include "kernels/simd/sse.hpp"
#elif defined(__aarch64__)
#include "kernels/simd/neon.hpp"
#else
namespace cnnlib::CNNLIB_ISA {
struct InstructionSet : SixteenRegisters {
  static constexpr Set set = Set::base;
  static constexpr bool rounds_once = false;
};
template <class T>
struct Simd : GenericSimd<T> {};
}  // namespace cnnlib::CNNLIB_ISA
#endif
