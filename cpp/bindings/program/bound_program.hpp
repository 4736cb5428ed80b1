// A program with the arrays that its steps read. Steps are checked once, as they are added: values are what
// steps take them for, whatever the caller or a file says.
#pragma once

#include <memory>
#include <tuple>

#include "../../inference/program.hpp"
#include "../../inference/weight_memory.hpp"
#include "checks.hpp"

namespace cnnlib {

// The packed weights of a live program, and copies of the arrays that they were packed from. Nothing changes
// them, so that many threads may run on them.
struct PackedArrays {
  std::vector<In> copies;  // by the numbers of arrays, null for those that no step packs
  std::vector<Out> packed;
  WeightMemory memory;
};

class BoundProgram;

// The weights that a live program reads during a call.
struct BoundWeights {
  const BoundProgram* program;  // whose they are; Python keeps it alive
  Weights weights;
  std::vector<py::object> arrays;
  std::vector<double> statistics;  // of batch norms: mean and 1 / sqrt(variance + eps), one behind the other
  std::shared_ptr<const PackedArrays> packed;
};

// eps, running mean and running variance of a batch norm.
using RunningStatistics = std::tuple<double, Floats, Floats>;

// A program as Python sees it. What adds a step to it, by family of layers, stands in *_steps.cpp and in
// layers/; arrays `like` of no images tell there what shape an image of the step's input has.
//
// A prepared program keeps the arrays of its steps, and packs them once. A live one knows their shapes alone:
// `weights_of` reads and packs what a model has now.
class BoundProgram : public Program {
 public:
  friend Index float_size(const BoundProgram& p) { return p.kernels.item(); }

  // Of each value its place (0 the input, 1 the output, 2 the arena), size and offset; it has to lie inside
  // of the caller's arrays or of the arena. Sizes in bytes of an image.
  BoundProgram(const py::dtype& dtype, const std::vector<std::tuple<int, Index, Index>>& values,
               Index input_bytes, Index output_bytes, Index arena_bytes, bool live);

  bool live() const { return live_; }

  // The bytes of an image's value, which there is, and its elements if they are the program's floats.
  Index bytes_of_value(int value) const;
  Index size_of(int value) const { return bytes_of_value(value) / kernels.item(); }
  // The step that is being added reads and writes values of which an image has these shapes.
  void reads(int input, const ShapeView& shape) const { reads(input, bytes_of_floats(shape), shape); }
  void writes(int output, const ShapeView& shape) const { writes(output, bytes_of_floats(shape), shape); }
  void reads_and_writes(int input, const ShapeView& shape, int output, const ShapeView& out_shape) const {
    reads(input, shape);
    writes(output, out_shape);
  }

  // The step reads and writes images of narrow values.
  template <class Value>
  void reads_image(int input, const NarrowImage<Value>& s) const {
    reads(input, s.bytes(), {s.C, s.H, s.W});
  }
  template <class Value>
  void writes_image(int output, const NarrowImage<Value>& s) const {
    writes(output, s.bytes(), {s.C, s.H, s.W});
  }

  // For packed weights of narrow values, which live as long as the program.
  void* new_weights(std::size_t bytes) { return own_.take(bytes); }

  // The data of an array, which lives as long as the program, whose steps point to it.
  template <class A>
  auto keep(const A& array) {
    kept_.push_back(array);
    return array.data();
  }

  // The number by which the step that is being added finds an array of weights; -1 for none.
  int takes(const Floats& array);
  int takes(const MaybeFloats& array) { return array ? takes(*array) : -1; }
  // The same of the statistics (C,) of a batch norm: mean and 1 / sqrt(variance + eps), none of a live
  // program.
  std::size_t takes_statistics(Index C, const MaybeArray<double>& mean, const MaybeArray<double>& inv_std);

  // run(k, frame) with the program's kernels, or run(frame).
  template <class Run>
  void add_step(const std::string& name, double work, const Run& run, std::size_t weight_bytes = 0) {
    if constexpr (std::is_invocable_v<const Run&, const Frame&>)
      add({name, work, weight_bytes, run});
    else
      add({name, work, weight_bytes,
           [run, own = kernels](const Frame& f) { own([&](const auto& k) { run(k, f); }); }});
  }

  // pack(k, weights, packed) packs arrays of these numbers to so many bytes, and run(k, frame, packed) reads
  // them.
  template <class Pack, class Run>
  void add_packed_step(const std::string& name, double work, std::size_t bytes,
                       const std::vector<int>& arrays, const Pack& pack, const Run& run) {
    const std::size_t number = packed_steps_++;
    for (const int array : arrays)
      if (bytes > 0 && array >= 0) packed_arrays_.push_back(array);
    add({name, work, bytes,
         [run, own = kernels, number](const Frame& f) {
           own([&](const auto& k) { run(k, f, In(f.weights->packed[number])); });
         },
         [pack, own = kernels](const Weights& weights, Out packed) {
           own([&](const auto& k) { pack(k, weights, packed); });
         }});
    if (!live_) pack_step(steps_.back(), weights_, own_);
  }

  // Whether these are arrays like those that the steps of a live program read.
  bool fits(const std::vector<py::object>& arrays) const {
    return are_arrays_of(arrays, shapes_, kernels.single());
  }
  // The weights of a live program. They are packed as those of an earlier call, `before`, where the packed
  // arrays have the same bits: comparing takes less time than packing.
  std::unique_ptr<BoundWeights> weights_of(const std::vector<py::object>& arrays,
                                           const std::vector<RunningStatistics>& norms,
                                           const BoundWeights* before) const;

  py::array run(const Floats& x, const std::vector<Index>& shape) const {
    require_one_dtype(*this, x);
    return run_samples(x, {x, nullptr, In(), In(), 0, 0}, own(), shape);
  }

  // That of a live program.
  py::array scores(const Floats& x, const BoundWeights& weights, const std::vector<Index>& shape) const {
    require_one_dtype(*this, x);
    require_own(weights);
    return run_samples(x, {x, nullptr, In(), In(), 0, 0}, weights.weights, shape);
  }

  // Of uint8 images (N, C, S).
  py::array run_bytes(const Array<std::uint8_t>& x, const Floats& mean, const Floats& std,
                      const std::vector<Index>& shape) const {
    require_one_dtype(*this, mean, std);
    require(x.ndim() == 3, "Predictor: x must have shape (N, C, S), got ", x);
    require_shapes("Predictor", {x.shape(1)}, {{"mean", mean}, {"std", std}});
    return run_samples(x, {In(), x, mean, std, x.shape(1), x.shape(2)}, own(), shape);
  }

  // [(step, seconds, operations of all images)], the least of the repeats; 2 operations a multiply-add.
  py::list profile(const Floats& x, const std::vector<Index>& shape, int repeats) const {
    require_one_dtype(*this, x);
    std::vector<double> seconds;
    const Weights& weights = own();
    with_result(x, shape, [&](Out y, Index N) { seconds = Program::profile(x, weights, y, N, repeats); });
    py::list steps;
    for (std::size_t i = 0; i < seconds.size(); ++i)
      steps.append(py::make_tuple(steps_[i].name, seconds[i], 16 * steps_[i].work * double(x.shape(0))));
    return steps;
  }

 private:
  // Require that a value takes so many bytes; messages name `shape`.
  void reads(int input, Index bytes, const ShapeView& shape) const;
  void writes(int output, Index bytes, const ShapeView& shape) const;
  Index bytes_of_floats(const ShapeView& shape) const { return elements_of(shape) * kernels.item(); }

  // x holds the samples, and `shape` is that of the result.
  void check_samples(const py::array& x, const ShapeView& shape) const;
  Text caller() const { return live_ ? "loss" : "Predictor"; }

  // They are this program's, to which no step was added since.
  void require_own(const BoundWeights& weights) const {
    require(weights.program == this && weights.arrays.size() == shapes_.size() &&
                weights.weights.norms.size() == channels_.size() &&
                weights.weights.packed.size() == packed_steps_,
            "loss: weights of another network");
  }
  // Of a prepared program.
  const Weights& own() const {
    require(!live_, "prepare: a live program has no weights of its own");
    return weights_;
  }
  static void pack_step(const Step& step, Weights& weights, WeightMemory& memory);
  std::shared_ptr<const PackedArrays> packed(Weights& weights) const;
  bool have_bits(const PackedArrays& before, const Weights& weights) const;
  std::size_t bytes_of(int array) const;

  // run(y, N) of the result and the number of samples, without the interpreter's lock.
  template <class Run>
  py::array with_result(const py::array& x, const std::vector<Index>& shape, const Run& run) const {
    check_samples(x, shape);
    Floats y = new_array(caller(), shape, kernels.single());
    const auto pass = [&, to = y.mutable_data(), N = x.shape(0)] { run(to, N); };
    run_batch_unlocked(caller(), x.shape(0), pass);
    return y;
  }
  py::array run_samples(const py::array& x, const Samples& samples, const Weights& weights,
                        const std::vector<Index>& shape) const {
    return with_result(x, shape, [&](Out y, Index N) { Program::run(samples, weights, y, N); });
  }

  const bool live_;
  std::vector<py::object> kept_;
  Weights weights_;                         // of a prepared program
  WeightMemory own_;                        // where they are packed
  std::vector<std::vector<Index>> shapes_;  // of a live program's arrays
  std::vector<Index> channels_;             // of its batch norms
  std::vector<int> packed_arrays_;          // numbers of those that its steps pack
  std::size_t packed_steps_ = 0;
};

// The request of a convolution in a network that gives scores, of one image. In a `live` one it has the bits
// of the layer's function; the weights of a prepared one stream from memory.
ConvRequest network_request(ConvRequest, bool live, bool adds);

// The steps by family.
[[gnu::cold]] void bind_weighted_steps(py::class_<BoundProgram>& program);
[[gnu::cold]] void bind_elementwise_steps(py::class_<BoundProgram>& program);
[[gnu::cold]] void bind_attention_layer(py::class_<BoundProgram>& program);
[[gnu::cold]] void bind_tensor_steps(py::class_<BoundProgram>& program);
[[gnu::cold]] void bind_byte_steps(py::class_<BoundProgram>& program);
[[gnu::cold]] void bind_bfloat16_steps(py::module_& m, py::class_<BoundProgram>& program);

}  // namespace cnnlib
