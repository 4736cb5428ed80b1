// Checks of the shapes that a program is made of.
#pragma once

#include "../arrays.hpp"

namespace cnnlib {

constexpr Index most_elements = PTRDIFF_MAX / 256;  // sums and bytes of sizes up to this do not overflow

// The elements of a shape whose sizes are at least `least`; -1 of another, or where no array could hold them.
Index elements_of(const ShapeView& shape, Index least = 1);

// Of an image: rows, their channels, values of a channel, C and pixels, as RowNormShape has them.
RowNormShape row_norm_shape(Text function, const std::array<Index, 5>& shape);
inline RowNormShape of_images(RowNormShape s, Index N) {
  s.rows *= N;
  return s;
}

}  // namespace cnnlib
