// A program with the arrays that its steps point into. Steps are checked once, as they are added.
#pragma once

#include "../../inference/weight_memory.hpp"
#include "../layers/image_layer.hpp"
#include "checks.hpp"

namespace cnnlib {

// A program as Python sees it. What adds a step to it, by family of layers, stands in *_steps.cpp and in
// layers/; arrays `like` of no images tell there what shape an image of the step's input has.
template <class T>
class BoundProgram : public ProgramValues {
 public:
  BoundProgram(const std::vector<std::tuple<int, Index, Index>>& of_values, Index input_size,
               Index output_size, Index arena)
      : ProgramValues(of_values, input_size, output_size, arena),
        input_size_(input_size),
        output_size_(output_size),
        program_(kernels_, values(), input_size, output_size, arena) {}

  const Kernels<T>& kernels() const { return kernels_; }

  // For packed weights, which live as long as the program.
  T* new_weights(std::size_t bytes) { return static_cast<T*>(weights_.take(bytes)); }

  // The data of an array, which lives as long as the program, whose steps point to it.
  template <class U>
  const U* keep(const Array<U>& array) {
    kept_.push_back(array);
    return array.data();
  }
  template <class U>
  const U* keep(const MaybeArray<U>& array) {
    return array ? keep(*array) : nullptr;
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
    return run_samples(x, {x.data(), nullptr, nullptr, nullptr, 0, 0}, shape);
  }

  // Of uint8 images (N, C, S).
  py::array run_bytes(const Array<std::uint8_t>& x, const Array<T>& mean, const Array<T>& std,
                      const std::vector<Index>& shape) const {
    require(x.ndim() == 3, "Predictor: x must have shape (N, C, S), got ", x);
    require_channels("Predictor", x.shape(1), {{"mean", mean}, {"std", std}});
    return run_samples(x, {nullptr, x.data(), mean.data(), std.data(), x.shape(1), x.shape(2)}, shape);
  }

  // [(step, seconds, operations of all images)], the least of the repeats; 2 operations a multiply-add.
  py::list profile(const Array<T>& x, const std::vector<Index>& shape, int repeats) const {
    check_samples(x, input_size_, shape, output_size_);
    const Index N = x.shape(0);
    std::vector<double> seconds;
    computed<T>("Predictor", shape, [&](T* y) { seconds = program_.profile(x.data(), y, N, repeats); });
    py::list steps;
    for (std::size_t i = 0; i < seconds.size(); ++i)
      steps.append(
          py::make_tuple(program_.steps()[i].name, seconds[i], 16 * program_.steps()[i].work * double(N)));
    return steps;
  }

  std::size_t packed_bytes() const { return packed_bytes_; }

 private:
  py::array run_samples(const py::array& x, const Samples<T>& samples,
                        const std::vector<Index>& shape) const {
    check_samples(x, input_size_, shape, output_size_);
    const Index N = x.shape(0);
    return computed<T>("Predictor", shape, [&](T* y) { program_.run(samples, y, N); });
  }

  const Kernels<T>& kernels_ = cnnlib::kernels<T>();
  Index input_size_, output_size_;
  Program<T> program_;
  std::vector<py::object> kept_;
  WeightMemory weights_;
  std::size_t packed_bytes_ = 0;
};

// The steps by family.
template <class T>
[[gnu::cold]] void bind_weighted_steps(py::class_<BoundProgram<T>>& program);
template <class T>
[[gnu::cold]] void bind_norm_steps(py::class_<BoundProgram<T>>& program);
template <class T>
[[gnu::cold]] void bind_elementwise_steps(py::class_<BoundProgram<T>>& program);
// Eight-bit networks are programs in float32.
[[gnu::cold]] void bind_byte_steps(py::class_<BoundProgram<float>>& program);

}  // namespace cnnlib
