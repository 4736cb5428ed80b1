// A program with the arrays that its steps point into. Steps are checked once, as they are added.
#pragma once

#include "../../inference/weight_memory.hpp"
#include "checks.hpp"

namespace cnnlib {

// A program as Python sees it. What adds a step to it, by family of layers, stands in *_steps.cpp and in
// layers/; arrays `like` of no images tell there what shape an image of the step's input has.
class BoundProgram : public ProgramValues {
 public:
  const AnyKernels kernels;  // that the steps run
  friend Index float_size(const BoundProgram& p) { return p.kernels.item(); }

  BoundProgram(const py::dtype& dtype, const std::vector<std::tuple<int, Index, Index>>& of_values,
               Index input_size, Index output_size, Index arena)
      : ProgramValues(of_values, input_size, output_size, arena),
        kernels(is_single("prepare", dtype)),
        input_size_(input_size),
        output_size_(output_size),
        program_(kernels, values(), input_size, output_size, arena) {}

  // For packed weights, which live as long as the program.
  void* new_weights(std::size_t bytes) { return weights_.take(bytes); }

  // The data of an array, which lives as long as the program, whose steps point to it.
  template <class A>
  auto keep(const A& array) {
    kept_.push_back(array);
    return array.data();
  }
  In keep(const MaybeFloats& array) { return array ? In(keep(*array)) : In(); }

  // run(k, frame) with the program's kernels, or run(frame).
  template <class Run>
  void add_step(const std::string& name, double work, const Run& run, std::size_t weight_bytes = 0) {
    if constexpr (std::is_invocable_v<const Run&, const Frame&>)
      program_.add({name, work, weight_bytes, run});
    else
      program_.add({name, work, weight_bytes,
                    [run, own = kernels](const Frame& f) { own([&](const auto& k) { run(k, f); }); }});
    packed_bytes_ += weight_bytes;
  }

  py::array run(const Floats& x, const std::vector<Index>& shape) const {
    require_one_dtype(*this, x);
    return run_samples(x, {x, nullptr, In(), In(), 0, 0}, shape);
  }

  // Of uint8 images (N, C, S).
  py::array run_bytes(const Array<std::uint8_t>& x, const Floats& mean, const Floats& std,
                      const std::vector<Index>& shape) const {
    require_one_dtype(*this, mean, std);
    require(x.ndim() == 3, "Predictor: x must have shape (N, C, S), got ", x);
    require_shapes("Predictor", {x.shape(1)}, {{"mean", mean}, {"std", std}});
    return run_samples(x, {In(), x, mean, std, x.shape(1), x.shape(2)}, shape);
  }

  // [(step, seconds, operations of all images)], the least of the repeats; 2 operations a multiply-add.
  py::list profile(const Floats& x, const std::vector<Index>& shape, int repeats) const {
    require_one_dtype(*this, x);
    check_samples(x, input_size_, shape, output_size_);
    const Index N = x.shape(0);
    std::vector<double> seconds;
    Floats y = new_array("Predictor", shape, kernels.single());
    unlocked([&, to = y.mutable_data()] { seconds = program_.profile(x, to, N, repeats); });
    py::list steps;
    for (std::size_t i = 0; i < seconds.size(); ++i)
      steps.append(
          py::make_tuple(program_.steps()[i].name, seconds[i], 16 * program_.steps()[i].work * double(N)));
    return steps;
  }

  std::size_t packed_bytes() const { return packed_bytes_; }

 private:
  py::array run_samples(const py::array& x, const Samples& samples, const std::vector<Index>& shape) const {
    check_samples(x, input_size_, shape, output_size_);
    const Index N = x.shape(0);
    Floats y = new_array("Predictor", shape, kernels.single());
    unlocked([&, to = y.mutable_data()] { program_.run(samples, to, N); });
    return y;
  }

  Index input_size_, output_size_;
  Program program_;
  std::vector<py::object> kept_;
  WeightMemory weights_;
  std::size_t packed_bytes_ = 0;
};

// The steps by family.
[[gnu::cold]] void bind_weighted_steps(py::class_<BoundProgram>& program);
[[gnu::cold]] void bind_elementwise_steps(py::class_<BoundProgram>& program);
[[gnu::cold]] void bind_byte_steps(py::class_<BoundProgram>& program);

}  // namespace cnnlib
