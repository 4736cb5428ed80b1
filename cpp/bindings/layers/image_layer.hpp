// Layers without parameters that take each image by itself, as prepared networks and training steps run them.
#pragma once

#include <functional>
#include <vector>

#include "../arrays.hpp"

namespace cnnlib {

// From values of the shape x of an image to values of the shape out.
struct ImageLayer {
  enum class Keeps { nothing, x, out };

  std::vector<Index> x, out;
  double work;  // scalar operations of an image, as threads_for counts them
  // Of N images. Where a backward pass follows, `places` gets what it needs beside `keeps`, so many bytes an
  // image; else it is null.
  std::function<void(const AnyKernels&, In x, Out out, void* places, Index N)> forward;
  // `kept` is what the layer `keeps`, x or out.
  std::function<void(const AnyKernels&, In dout, In kept, const void* places, Out dx, Index N)> backward;
  Keeps keeps = Keeps::nothing;
  Index place_bytes = 0;
};

// Adds a method to the program, for prediction or for training, for each layer of images.
template <class Program>
[[gnu::cold]] void bind_image_layers(py::class_<Program>& program);

}  // namespace cnnlib
