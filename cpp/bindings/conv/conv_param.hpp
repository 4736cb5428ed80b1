// The one parser of conv_param, the dictionary that every convolution takes.
#pragma once

#include "../arrays.hpp"

namespace cnnlib {

constexpr Index largest = Index{1} << 40;  // of any size or step, so that sums of products cannot overflow

// Pairs are (vertical, horizontal). The numbers are those of the dictionary, smaller than 2**31 in magnitude.
struct ConvParam {
  std::array<Index, 2> stride{1, 1}, dilation{1, 1}, output_pad{0, 0};
  std::array<Index, 4> pad{0, 0, 0, 0};  // top, bottom, left, right; not yet known for 'same'
  bool same = false;
  Index groups = 1;
  Method algorithm = Method::automatic;
};

enum class Direction { forward, transposed };

// TypeError or ValueError, which name `function`, for unknown keys and for values of a wrong type. Only a
// transposed convolution has output_pad, and only the other one 'same'.
ConvParam parse_conv_param(Text function, py::handle param, Direction direction = Direction::forward);

// Numbers that no convolution has are refused, and the pads of 'same' follow from the sizes: ceil(size /
// stride) outputs, the odd pixel below and right.
void settle_steps(Text function, ConvParam& param, const std::array<Index, 2>& size,
                  const std::array<Index, 2>& kernel);

// What a dilated kernel covers of an axis; PTRDIFF_MAX where that is more than any axis has.
Index window_size(Index kernel, Index dilation);

// Algorithms go by their names: the only place that knows them. `key` says in a message what was named.
Method algorithm_named(Text function, const char* key, py::handle name);
const char* name_of(Method algorithm);

}  // namespace cnnlib
