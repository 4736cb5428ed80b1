// How a pass of a convolution is computed: plain data that crosses the border between the bindings and the
// kernels. kernels/conv/plan.hpp makes it.
#pragma once

#include <cstddef>

#include "shapes.hpp"

namespace cnnlib {

// A size that a method cut its work by, for people to read.
struct Block {
  const char* name;
  Index size;
};

// What a pure function of shape, pass, dtype and instruction set says; blocks and threads depend on the
// process, too, and change no bit.
struct ConvPlan {
  static constexpr int most_blocks = 6;

  ConvShape shape;
  Pass pass;
  Method method;
  // Whether the weights are packed beforehand and kept. Then how they lie follows from everything but the
  // batch, the threads and the caches.
  bool prepacked;
  double cost;                    // estimated cycles of one image on a reference processor
  Index tile_rows, tile_columns;  // outputs of the micro-kernel, or of a Winograd tile
  Block blocks[most_blocks];      // those with a name
  int threads;
  std::size_t scratch_bytes;  // of all threads, without the packed weights
  std::size_t packed_bytes;   // of the packed weights, 0 where they are read as they are
  bool adds;                  // whether it takes ConvEpilogue::add
};

// Bytes that convolution, batch norm and ReLU in a row take beside their arrays, in all threads.
struct ConvNormScratch {
  std::size_t forward, backward;
};

// A method that fits and what it would cost.
struct ConvCost {
  Method method;
  double cycles;
};
using ConvCosts = ConvCost[static_cast<int>(Method::count)];

}  // namespace cnnlib
