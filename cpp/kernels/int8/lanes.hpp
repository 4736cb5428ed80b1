// Vectors of 32-bit sums, for the instruction set that this file is compiled for, and the dot product of four
// bytes with four weights that all eight-bit kernels are made of. What a set does its own way stands in
// lanes_*.hpp; these files alone name intrinsics.
//
// A set with VNNI multiplies bytes by bytes. The others split a vector of bytes into those at even and at odd
// places, as 16-bit numbers, and add the products of pairs in 32 bits: exact, where the instruction for pairs
// of bytes saturates. Both give the same integers.
//
// Lanes has, for vectors of `size` lanes:
//   Sums, Scales            32-bit integers, floats
//   Values, Weights         four bytes a lane, and the weights that they are multiplied by
//   zero, fill, load, add, multiply, shift_left    of Sums
//   fill_scales, load_scales                       of Scales
//   broadcast(p)            the four bytes at p in every lane, where multiplies_bytes
//   interleave(a, b, c, d)  lane i has the bytes a[i], b[i], c[i], d[i]
//   bytes(p)                Sums of the `size` bytes at p
//   subtract, quarter       of Sums
//   Pairs, load_pairs, broadcast_pair, dot_pairs: of two 16-bit numbers a lane
//   multiplies_bytes        whether dot is one instruction
//   dot(sums, values, weights), load_weights, pack_weights, weight_bytes (of a vector)
//   has_blocks              whether there are: interleave_block, of four vectors of channels at once, and
//                           store_block(floats, Rounding, y), their bytes: round(v) + zero, clamped; NaN
//                           becomes low
//   scaled(sums, scales)    as floats, of a float each
//   rounded(floats, low, high)  clamped, then to the nearest integer, ties to even; NaN counts as low
//   store_bytes(p, sums), store_floats(p, floats)
#pragma once

#include <cstdint>
#include <cstring>

#include "shapes.hpp"

#pragma GCC diagnostic ignored "-Wignored-attributes"

#if defined(__AVX512BW__)
#include "kernels/int8/lanes_avx512.hpp"
#elif defined(__AVX2__)
#include "kernels/int8/lanes_avx2.hpp"
#elif defined(__SSE4_1__)
#include "kernels/int8/lanes_sse.hpp"
#elif defined(__aarch64__)
#include "kernels/int8/lanes_neon.hpp"
#endif
