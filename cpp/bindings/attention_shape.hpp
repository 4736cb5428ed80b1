// The shape of attention with a bias.
#pragma once

#include "arrays.hpp"

namespace cnnlib {

// The shape with the bias, each of whose four axes has the size of the scores' or 1.
AttentionShape with_bias(Text function, AttentionShape, const MaybeFloats& bias);

}  // namespace cnnlib
