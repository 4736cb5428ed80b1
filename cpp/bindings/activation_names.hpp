// Activations by the names that Python calls them.
#pragma once

#include "arrays.hpp"

namespace cnnlib {

// An unknown name is an error that names `function`.
Activation activation_named(const char* function, const std::string& name);

// Whether the gradient is taken from the result, not from x.
inline bool from_result(Activation kind) { return kind == Activation::sigmoid || kind == Activation::tanh; }

}  // namespace cnnlib
