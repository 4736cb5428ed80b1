// Elements of one array to places in another, both by steps along axes: axes in another order, parts of axes,
// arrays one behind the other.
#pragma once

#include "numbers.hpp"

namespace cnnlib {

// Element (i, j, ...) goes from `from + i * from_step[0] + j * from_step[1] + ...` to `to + i * to_step[0] +
// ...`.
struct StridedCopy {
  static constexpr int most_axes = 32;  // as NumPy 1 has

  Index from = 0, to = 0;
  int axes = 0;
  Index size[most_axes] = {}, from_step[most_axes] = {}, to_step[most_axes] = {};

  Index elements() const;
};

// Joins and orders axes: as few as can be, and the one of the smallest steps to the result last.
StridedCopy simplified(const StridedCopy&);

// Copies the elements of so many images, which lie `from_image` and `to_image` elements apart.
void run_copy(const StridedCopy& simple, bool single, In from, Index from_image, Out to, Index to_image,
              Index images);

}  // namespace cnnlib
