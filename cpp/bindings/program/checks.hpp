// A program's values are what its steps take them for, whatever the caller or a file says.
#pragma once

#include <vector>

#include "../../inference/program.hpp"
#include "../arrays.hpp"

namespace cnnlib {

// The elements of a shape whose sizes are at least `least`; -1 of another, or where no array could hold them.
Index elements_of(const ShapeView& shape, Index least = 1);

// Each lies inside of the caller's arrays or of the arena (sizes in elements of an image).
void check_values(const std::vector<Value>& values, Index input_size, Index output_size, Index arena);

// The elements of an image's value, which there is.
Index size_of(const std::vector<Value>& values, int value);

// Steps read and write these, of which an image has the shape.
void check_read(const std::vector<Value>& values, int value, const ShapeView& shape);
void check_written(const std::vector<Value>& values, int value, const ShapeView& shape);

// x holds the samples and `shape` is that of the result; a sample has so many elements.
void check_samples(const py::array& x, Index input_size, const ShapeView& shape, Index output_size);

}  // namespace cnnlib
