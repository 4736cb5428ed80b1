// What adds steps to a program: a method of it for each kind of step, by family of layers.
#pragma once

#include "bound_program.hpp"

namespace cnnlib {

template <class T>
[[gnu::cold]] void bind_weighted_steps(py::class_<BoundProgram<T>>& program);
template <class T>
[[gnu::cold]] void bind_norm_steps(py::class_<BoundProgram<T>>& program);
template <class T>
[[gnu::cold]] void bind_elementwise_steps(py::class_<BoundProgram<T>>& program);
// Eight-bit networks are programs in float32.
[[gnu::cold]] void bind_byte_steps(py::class_<BoundProgram<float>>& program);

}  // namespace cnnlib
