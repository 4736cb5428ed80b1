// What adds a layer of images to a program, for prediction or for training: a method of it for each layer.
#pragma once

#include "../program/bound_program.hpp"
#include "../training/bound_training.hpp"

namespace cnnlib {

template <class T>
[[gnu::cold]] void bind_image_layers(py::class_<BoundProgram<T>>& program);
template <class T>
[[gnu::cold]] void bind_image_layers(py::class_<BoundTraining<T>>& program);

}  // namespace cnnlib
