// A program with the arrays that its steps point into. Steps are checked once, as they are added: values are
// what steps take them for, whatever the caller or a file says.
#pragma once

#include <tuple>

#include "../../inference/program.hpp"
#include "../../inference/weight_memory.hpp"
#include "checks.hpp"

namespace cnnlib {

// A program as Python sees it. What adds a step to it, by family of layers, stands in *_steps.cpp and in
// layers/; arrays `like` of no images tell there what shape an image of the step's input has.
class BoundProgram : public Program {
 public:
  friend Index float_size(const BoundProgram& p) { return p.kernels.item(); }

  // Of each value its place (0 the input, 1 the output, 2 the arena), size and offset; it has to lie inside
  // of the caller's arrays or of the arena. Sizes in elements of an image.
  BoundProgram(const py::dtype& dtype, const std::vector<std::tuple<int, Index, Index>>& values,
               Index input_size, Index output_size, Index arena);

  // The elements of an image's value, which there is.
  Index size_of(int value) const;
  // The step that is being added reads and writes values of which an image has these shapes.
  void reads(int input, const ShapeView& shape) const;
  void writes(int output, const ShapeView& shape) const;
  void reads_and_writes(int input, const ShapeView& shape, int output, const ShapeView& out_shape) const {
    reads(input, shape);
    writes(output, out_shape);
  }

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
      add({name, work, weight_bytes, run});
    else
      add({name, work, weight_bytes,
           [run, own = kernels](const Frame& f) { own([&](const auto& k) { run(k, f); }); }});
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
    std::vector<double> seconds;
    with_result(x, shape, [&](Out y, Index N) { seconds = Program::profile(x, y, N, repeats); });
    py::list steps;
    for (std::size_t i = 0; i < seconds.size(); ++i)
      steps.append(py::make_tuple(steps_[i].name, seconds[i], 16 * steps_[i].work * double(x.shape(0))));
    return steps;
  }

 private:
  // x holds the samples, and `shape` is that of the result.
  void check_samples(const py::array& x, const ShapeView& shape) const;

  // run(y, N) of the result and the number of samples, without the interpreter's lock.
  template <class Run>
  py::array with_result(const py::array& x, const std::vector<Index>& shape, const Run& run) const {
    check_samples(x, shape);
    Floats y = new_array("Predictor", shape, kernels.single());
    unlocked([&, to = y.mutable_data(), N = x.shape(0)] { run(to, N); });
    return y;
  }
  py::array run_samples(const py::array& x, const Samples& samples, const std::vector<Index>& shape) const {
    return with_result(x, shape, [&](Out y, Index N) { Program::run(samples, y, N); });
  }

  std::vector<py::object> kept_;
  WeightMemory weights_;
};

// The steps by family.
[[gnu::cold]] void bind_weighted_steps(py::class_<BoundProgram>& program);
[[gnu::cold]] void bind_elementwise_steps(py::class_<BoundProgram>& program);
[[gnu::cold]] void bind_byte_steps(py::class_<BoundProgram>& program);

}  // namespace cnnlib
