// NEON of 64-bit Arm: 32 registers of 128 bits. Every operation is the one of packet.hpp.
#pragma once

#include "kernels/simd/packet.hpp"

namespace cnnlib::CNNLIB_ISA {

struct InstructionSet : SixteenRegisters {  // its blocks are cautious: none was measured
  static constexpr int registers = 32;
  static constexpr int tile_rows = 8;  // 8 x 2 sums, 2 vectors of b and those that hold values of a
};

}  // namespace cnnlib::CNNLIB_ISA
