// A program's values are what its steps take them for, whatever the caller or a file says.
#pragma once

#include <array>
#include <tuple>
#include <vector>

#include "../../inference/program.hpp"
#include "../arrays.hpp"

namespace cnnlib {

// The elements of a shape whose sizes are at least `least`; -1 of another, or where no array could hold them.
Index elements_of(const ShapeView& shape, Index least = 1);

// Of an image: rows, their channels, values of a channel, C and pixels, as RowNormShape has them.
RowNormShape row_norm_shape(Text function, const std::array<Index, 5>& shape);
inline RowNormShape of_images(RowNormShape s, Index N) {
  s.rows *= N;
  return s;
}

// x holds the samples and `shape` is that of the result; a sample has so many elements.
void check_samples(const py::array& x, Index input_size, const ShapeView& shape, Index output_size);

// The values of a program as steps are added to it.
class ProgramValues {
 public:
  // Of each value its place (0 the input, 1 the output, 2 the arena), size and offset; it has to lie inside
  // of the caller's arrays or of the arena. Sizes in elements of an image.
  ProgramValues(const std::vector<std::tuple<int, Index, Index>>& values, Index input_size, Index output_size,
                Index arena);

  const std::vector<Value>& values() const { return values_; }
  // The elements of an image's value, which there is.
  Index size_of(int value) const;

  // The step that is being added reads and writes values of which an image has these shapes.
  void reads(int input, const ShapeView& shape) const;
  void writes(int output, const ShapeView& shape) const;
  void reads_and_writes(int input, const ShapeView& shape, int output, const ShapeView& out_shape) const {
    reads(input, shape);
    writes(output, out_shape);
  }

 private:
  std::vector<Value> values_;
};

}  // namespace cnnlib
