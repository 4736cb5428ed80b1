// Weights for the sets that multiply 16-bit numbers: of each lane's four, those at even places, then those at
// odd ones.
#pragma once

#include <cstdint>

namespace cnnlib::CNNLIB_ISA {

// weights (lanes, 4) of int8 to two vectors of 16-bit pairs.
inline void pack_pairs(const std::int8_t* weights, int lanes, void* packed) {
  auto* to = static_cast<std::int16_t*>(packed);
  for (int i = 0; i < lanes; ++i)
    for (int k = 0; k < 4; ++k) to[(k % 2) * 2 * lanes + 2 * i + k / 2] = weights[4 * i + k];
}

}  // namespace cnnlib::CNNLIB_ISA
