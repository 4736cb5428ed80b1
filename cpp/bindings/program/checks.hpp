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

// Whether these are C-contiguous and aligned arrays of these shapes, of one dtype.
bool are_arrays_of(const std::vector<py::object>& arrays, const std::vector<std::vector<Index>>& shapes,
                   bool single);

// Runs what computes a batch of N without the interpreter's lock; a MemoryError says how large the batch is.
template <class F>
void run_batch_unlocked(Text function, Index N, const F& pass) {
  try {
    unlocked(pass);
  } catch (const std::bad_alloc&) {
    PyErr_SetString(PyExc_MemoryError, message_of(function, ": no memory for a batch of ", N).c_str());
    throw py::error_already_set();
  }
}

}  // namespace cnnlib
