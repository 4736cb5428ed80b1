// A program with the arrays that its steps point into. Steps are checked once, as they are added.
#pragma once

#include "../../inference/weight_memory.hpp"
#include "../layers/image_layer.hpp"
#include "checks.hpp"

namespace cnnlib {

// A program as Python sees it. What adds a step to it, by family of layers, stands in *_steps.cpp and in
// layers/; arrays `like` of no images tell there what shape an image of the step's input has.
template <class T>
class BoundProgram {
 public:
  // Of each value its place (0 the input, 1 the output, 2 the arena), size and offset.
  BoundProgram(const std::vector<std::tuple<int, Index, Index>>& values, Index input_size, Index output_size,
               Index arena)
      : input_size_(input_size),
        output_size_(output_size),
        program_(kernels_, list(values), input_size, output_size, arena) {
    check_values(program_.values(), input_size, output_size, arena);
  }

  const Kernels<T>& kernels() const { return kernels_; }
  Index size_of(int value) const { return cnnlib::size_of(program_.values(), value); }

  // The step that is being added reads and writes values of which an image has these shapes.
  void reads(int input, const ShapeView& shape) const { check_read(program_.values(), input, shape); }
  void writes(int output, const ShapeView& shape) const { check_written(program_.values(), output, shape); }
  void reads_and_writes(int input, const ShapeView& shape, int output, const ShapeView& out_shape) const {
    reads(input, shape);
    writes(output, out_shape);
  }

  // For packed weights, which live as long as the program.
  T* new_weights(std::size_t bytes) { return static_cast<T*>(weights_.take(bytes)); }

  // The arrays live as long as the program, whose steps point into them.
  template <class... Arrays>
  void keep(const Arrays&... arrays) {
    (keep_one(arrays), ...);
  }

  void add_step(const std::string& name, double work, std::function<void(const Frame<T>&)> run,
                std::size_t weight_bytes = 0) {
    program_.add({name, work, weight_bytes, std::move(run)});
    packed_bytes_ += weight_bytes;
  }

  void add_layer(const std::string& name, int input, int output, const ImageLayer<T>& layer) {
    reads_and_writes(input, layer.x, output, layer.out);
    add_step(name, layer.work, [=, &k = kernels_, forward = layer.forward](const Frame<T>& f) {
      forward(k, f.read(input), f.write(output), nullptr, f.images);
    });
  }

  py::array run(const Array<T>& x, const std::vector<Index>& shape) const {
    check_samples(x, input_size_, shape, output_size_);
    Array<T> out = new_array<T>("Predictor", shape);
    T* y = out.mutable_data();
    const T* images = x.data();
    const Index N = x.shape(0);
    unlocked([&] { program_.run({images, nullptr, nullptr, nullptr, 0, 0}, y, N); });
    return out;
  }

  // Of uint8 images (N, C, S).
  py::array run_bytes(const Array<std::uint8_t>& x, const Array<T>& mean, const Array<T>& std,
                      const std::vector<Index>& shape) const {
    check_samples(x, input_size_, shape, output_size_);
    require(x.ndim() == 3, [&] { return "Predictor: x must have shape (N, C, S), got " + text(x); });
    require_shape("Predictor", "mean", mean, {x.shape(1)});
    require_shape("Predictor", "std", std, {x.shape(1)});
    Array<T> out = new_array<T>("Predictor", shape);
    T* y = out.mutable_data();
    const Samples<T> images{nullptr, x.data(), mean.data(), std.data(), x.shape(1), x.shape(2)};
    const Index N = x.shape(0);
    unlocked([&] { program_.run(images, y, N); });
    return out;
  }

  // [(step, seconds, operations of all images)], the least of the repeats; 2 operations a multiply-add.
  py::list profile(const Array<T>& x, const std::vector<Index>& shape, int repeats) const {
    check_samples(x, input_size_, shape, output_size_);
    Array<T> out = new_array<T>("Predictor", shape);
    std::vector<double> seconds;
    unlocked([&] { seconds = program_.profile(x.data(), out.mutable_data(), x.shape(0), repeats); });
    py::list steps;
    for (std::size_t i = 0; i < seconds.size(); ++i)
      steps.append(py::make_tuple(program_.steps()[i].name, seconds[i],
                                  16 * program_.steps()[i].work * double(x.shape(0))));
    return steps;
  }

  std::size_t packed_bytes() const { return packed_bytes_; }

 private:
  static std::vector<Value> list(const std::vector<std::tuple<int, Index, Index>>& values) {
    std::vector<Value> all;
    for (const auto& [place, size, offset] : values)
      all.push_back({static_cast<Value::Place>(place), size, offset});
    return all;
  }

  void keep_one(const py::array& array) { kept_.push_back(array); }
  void keep_one(const MaybeArray<T>& array) {
    if (array) kept_.push_back(*array);
  }

  const Kernels<T>& kernels_ = cnnlib::kernels<T>();
  Index input_size_, output_size_;
  Program<T> program_;
  std::vector<py::object> kept_;
  WeightMemory weights_;
  std::size_t packed_bytes_ = 0;
};

}  // namespace cnnlib
