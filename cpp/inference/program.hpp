// A network that gives scores: a list of steps over values that lie in an arena.
#pragma once

#include "step.hpp"

namespace cnnlib {

// The caller's samples: values as the network takes them, or the bytes of images (C, S), which
// (byte - mean[c]) / std[c] turns into them.
struct Samples {
  In values;
  const std::uint8_t* bytes;
  In mean, std;
  Index C, S;
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
