// A network that gives scores: a list of steps over values that lie in an arena.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "../numbers.hpp"

namespace cnnlib {

// A value of the network. It lies at the caller's input, at the caller's output, or in the arena, behind
// `offset` bytes for each image.
struct Value {
  enum class Place { input, output, arena } place;
  Index bytes;   // of an image
  Index offset;  // of the arena, for each image
};

// The steps read these beside values: arrays of weights and the statistics of batch norms, by their numbers,
// and what steps packed of them.
struct Weights {
  struct Statistics {
    const double *mean, *inv_std;
  };
  std::vector<In> arrays;
  std::vector<Statistics> norms;
  std::vector<Out> packed;

  In array(int i) const { return i < 0 ? In() : arrays[static_cast<std::size_t>(i)]; }
};

// The values while some images go through the network together.
struct Frame {
  const Value* values;
  const Weights* weights;
  In input;
  Out output, arena;
  Index images;

  In read(int value) const { return values[value].place == Value::Place::input ? input : In(write(value)); }
  Out write(int value) const {
    const Value& v = values[value];
    return v.place == Value::Place::output ? output : arena + v.offset * images;
  }
};

// The caller's samples: values as the network takes them, or the bytes of images (C, S), which
// (byte - mean[c]) / std[c] turns into them.
struct Samples {
  In values;
  const std::uint8_t* bytes;
  In mean, std;
  Index C, S;
};

struct Step {
  std::string name;
  double work;               // scalar operations of an image, as threads_for counts them
  std::size_t weight_bytes;  // that each run reads
  std::function<void(const Frame&)> run;
  // Packs weights to memory of weight_bytes; empty in a step that packs none.
  std::function<void(const Weights&, Out packed)> pack = {};
};

// Runs the steps: a few images at a time on each thread where there are many small ones, all threads on some
// images otherwise. No result depends on which. May be called from many threads at once.
class Program {
 public:
  const AnyKernels kernels;  // that the steps run

  // Sizes are the bytes that one image takes in the input, in the output and in the arena.
  Program(const AnyKernels& of_steps, std::vector<Value> values, Index input_bytes, Index output_bytes,
          Index arena_bytes)
      : kernels(of_steps),
        values_(std::move(values)),
        input_bytes_(input_bytes),
        output_bytes_(output_bytes),
        arena_bytes_(arena_bytes) {}

  void add(Step step);
  std::size_t weight_bytes() const { return weight_bytes_; }  // that all steps read

  // Runs N images from input to output.
  void run(const Samples& input, const Weights& weights, Out output, Index N) const;
  // The seconds of each step while all N images go through it, all threads on them: the least of the repeats,
  // of which there is at least one.
  std::vector<double> profile(In input, const Weights& weights, Out output, Index N, int repeats) const;

 protected:
  const std::vector<Value> values_;
  const Index input_bytes_, output_bytes_, arena_bytes_;
  std::vector<Step> steps_;

 private:
  void run_images(const Samples& input, const Weights& weights, Out output, Index first, Index images) const;
  bool small_images() const;
  Index images_at_a_time(Index N, int threads) const;

  double work_ = 0;
  std::size_t weight_bytes_ = 0;
};

}  // namespace cnnlib
