// Whether two convolutions have the same shape.
#pragma once

#include <cstddef>
#include <cstring>

#include "shapes.hpp"

namespace cnnlib {

// Without the padding behind the last member, whose bytes have any value.
inline bool same_shape(const ConvShape& a, const ConvShape& b) {
  return std::memcmp(&a, &b, offsetof(ConvShape, algorithm)) == 0 && a.algorithm == b.algorithm &&
         a.few_weights == b.few_weights;
}

}  // namespace cnnlib
