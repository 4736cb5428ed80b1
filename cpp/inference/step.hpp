// A step of a network that gives scores, and what it reads and writes: values and weights.
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

struct Step {
  std::string name;
  double work;               // scalar operations of an image, as threads_for counts them
  std::size_t weight_bytes;  // that each run reads
  std::function<void(const Frame&)> run;
  // Packs weights to memory of weight_bytes; empty in a step that packs none.
  std::function<void(const Weights&, Out packed)> pack = {};
};

}  // namespace cnnlib
