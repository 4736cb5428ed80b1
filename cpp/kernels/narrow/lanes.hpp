// Vectors of 32-bit sums, for the instruction set that this file is compiled for, and the dot product of four
// bytes with four weights that all eight-bit kernels are made of. What a set does its own way stands in
// lanes_*.hpp; these files alone name intrinsics.
//
// A set with VNNI multiplies bytes by bytes (ByteLanes). The others split a vector of bytes into those at
// even and at odd places, as 16-bit numbers, and add the products of pairs in 32 bits: exact, where the
// instruction for pairs of bytes saturates (PairLanes). Both give the same integers.
//
// A set's Lanes adds to one of these:
//   registers, tile_rows    vectors, and rows of the tile that fits them
//   bytes(p)                Sums of the `size` bytes at p
//   interleave(a, b, c, d)  lane i has the bytes a[i], b[i], c[i], d[i]
//   dot_pairs(sums, a, b)   sums of products of two 16-bit numbers a lane
//   rounded(floats, low, high)  clamped, then to the nearest integer, ties to even; NaN counts as low
//   store_bytes(p, sums)
//   has_blocks              whether there are: interleave_block, of four vectors of channels at once, and
//                           store_block(floats, Rounding, y), their bytes: round(v) + zero, clamped; NaN
//                           becomes low
#pragma once

#include <cstdint>
#include <cstring>

#include "shapes.hpp"

#pragma GCC diagnostic ignored "-Wignored-attributes"

namespace cnnlib::CNNLIB_ISA {

// What all sets do alike. Sums wrap.
template <class SumsVector, class ScalesVector>
struct GenericLanes {
  using Sums = SumsVector;      // 32-bit integers, or pairs of 16-bit ones
  using Scales = ScalesVector;  // floats
  static constexpr int bytes_of_vector = sizeof(Sums), size = bytes_of_vector / 4;
  using Unsigned [[gnu::vector_size(bytes_of_vector)]] = std::uint32_t;
  using Signed [[gnu::vector_size(bytes_of_vector)]] = std::int32_t;
  using Floats [[gnu::vector_size(bytes_of_vector)]] = float;
  using Words [[gnu::vector_size(bytes_of_vector)]] = std::int16_t;
  using Bytes [[gnu::vector_size(bytes_of_vector)]] = std::uint8_t;

  static Sums zero() { return fill(0); }
  static Sums fill(int v) { return to<Sums>(Signed{} + v); }
  static Sums load(const void* p) { return read<Sums>(p); }
  static Sums broadcast(const void* p) { return fill(read<int>(p)); }  // the four bytes at p in every lane
  static void store_sums(std::int32_t* p, Sums v) { std::memcpy(p, &v, sizeof v); }
  static Sums add(Sums a, Sums b) { return to<Sums>(to<Unsigned>(a) + to<Unsigned>(b)); }
  static Sums subtract(Sums a, Sums b) { return to<Sums>(to<Unsigned>(a) - to<Unsigned>(b)); }
  static Sums multiply(Sums a, Sums b) { return to<Sums>(to<Unsigned>(a) * to<Unsigned>(b)); }
  static Sums shift_left(Sums a, int bits) { return to<Sums>(to<Unsigned>(a) << bits); }
  static Sums quarter(Sums a) { return to<Sums>(to<Signed>(a) >> 2); }

  static Scales fill_scales(float v) { return to<Scales>(v - Floats{}); }
  static Scales load_scales(const float* p) { return read<Scales>(p); }
  static void store_floats(float* p, Scales v) { std::memcpy(p, &v, sizeof v); }
  static Scales divided(Scales a, Scales b) { return to<Scales>(to<Floats>(a) / to<Floats>(b)); }
  // As floats, of a float each.
  static Scales scaled(Sums sums, Scales scales) {
    return to<Scales>(__builtin_convertvector(to<Signed>(sums), Floats) * to<Floats>(scales));
  }

  // For store_block.
  struct Rounding {
    Scales most;  // saturates, and converts
    Sums zero, low, high;
    Rounding(int zero_point, int low_byte, int high_byte)
        : most(fill_scales(1e6F)),
          zero(to<Sums>(std::int16_t(zero_point) - Words{})),
          low(to<Sums>(std::uint8_t(low_byte) - Bytes{})),
          high(to<Sums>(std::uint8_t(high_byte) - Bytes{})) {}
  };

  template <class Value>
  static Value read(const void* p) {
    Value v;
    std::memcpy(&v, p, sizeof v);
    return v;
  }
  template <class To, class From>
  static To to(From v) {
    static_assert(sizeof(To) == sizeof(From));
    return read<To>(&v);
  }
};

// Products of bytes: Lane has dot, of a vector of four bytes a lane with one of four weights.
template <class Lane>
struct ByteLanes : Lane {
  static constexpr bool multiplies_bytes = true;
  using Values = typename Lane::Sums;
  using Weights = Values;
  static constexpr int weight_bytes = Lane::bytes_of_vector;  // of a vector

  static Weights load_weights(const void* p) { return Lane::load(p); }
  // weights (size, 4)
  static void pack_weights(const void* weights, void* packed) { std::memcpy(packed, weights, weight_bytes); }
  static Values values(Values bytes) { return bytes; }
  // The four bytes at offset k of the terms at x, for every lane.
  static Values values_at(const std::uint8_t* x, Index k) { return Lane::broadcast(x + k); }
};

// Products of pairs of 16-bit numbers: of each lane's four, those at even places, then those at odd ones.
template <class Lane>
struct PairLanes : Lane {
  static constexpr bool multiplies_bytes = false;
  using Sums = typename Lane::Sums;
  struct Values {
    Sums even, odd;
  };
  using Weights = Values;
  static constexpr int weight_bytes = 2 * Lane::bytes_of_vector;

  static Weights load_weights(const std::uint8_t* p) {
    return {Lane::load(p), Lane::load(p + Lane::bytes_of_vector)};
  }
  static void pack_weights(const void* of, void* packed) {
    const auto* const weights = static_cast<const std::int8_t*>(of);
    auto* to = static_cast<std::int16_t*>(packed);
    for (int i = 0; i < Lane::size; ++i)
      for (int k = 0; k < 4; ++k) to[(k % 2) * 2 * Lane::size + 2 * i + k / 2] = weights[4 * i + k];
  }
  static Values values(Sums bytes) {
    using Words [[gnu::vector_size(sizeof(Sums))]] = std::uint16_t;
    const auto words = Lane::template to<Words>(bytes);
    return {Lane::template to<Sums>(words & std::uint16_t(255)), Lane::template to<Sums>(words >> 8)};
  }
  // The same of terms that are widened.
  static Values values_at(const std::uint8_t* x, Index k) {
    const auto* const pairs = reinterpret_cast<const std::int16_t*>(x) + k;
    return {Lane::broadcast(pairs), Lane::broadcast(pairs + 2)};
  }
  static Sums dot(Sums sums, const Values& x, const Weights& w) {
    return Lane::dot_pairs(Lane::dot_pairs(sums, x.even, w.even), x.odd, w.odd);
  }
};

#if defined(__AVXVNNI__) || defined(__AVX512VNNI__)
template <class Lane>
using ProductLanes = ByteLanes<Lane>;
#else
template <class Lane>
using ProductLanes = PairLanes<Lane>;
#endif

}  // namespace cnnlib::CNNLIB_ISA

#if defined(__AVX512BW__)
#include "kernels/narrow/lanes_avx512.hpp"
#elif defined(__AVX2__)
#include "kernels/narrow/lanes_avx2.hpp"
#elif defined(__SSE4_1__)
#include "kernels/narrow/lanes_sse.hpp"
#elif defined(__aarch64__)
#include "kernels/narrow/lanes_neon.hpp"
#endif
