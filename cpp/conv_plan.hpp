// A request for a convolution, and the plan that answers it: they cross the border between the bindings
// and the kernels. kernels/conv/plan.hpp makes plans.
#pragma once

#include <cstddef>
#include <memory>

#include "epilogue.hpp"
#include "shapes.hpp"

namespace cnnlib {

// How a pass gets its weights.
enum class WeightUse {
  given,    // each call packs them for itself
  kept,     // packed once, for many calls
  streamed  // so too, in a network that has more than the caches hold: they come from memory for every batch
};

// A convolution, the method that the caller wants, how it gets its weights, and whether it `adds` its result
// to what lies in the output (Epilogue::add).
struct ConvRequest {
  ConvShape shape;
  Method wish = Method::automatic;
  WeightUse weights = WeightUse::given;
  bool adds = false;

  // Then how packed weights lie must follow from the cut alone.
  bool keeps_weights() const { return weights != WeightUse::given; }
};

// Whether one plan of the forward pass, or of dx, answers both: it takes any number of images.
inline bool same_but_for_batch(const ConvRequest& a, const ConvRequest& b) {
  return a.wish == b.wish && a.weights == b.weights && a.adds == b.adds && same_images(a.shape, b.shape);
}

// A request's pass and the row of the table that it takes.
struct ConvChoice {
  ConvRequest request;
  Pass pass;
  Method method;
  double cycles;   // estimated, of one image on a reference processor
  bool makes_all;  // the method makes all gradients at once, where dx and dw both take it
};

// A size that a method cut its work by, for people to read.
struct Block {
  const char* name;
  Index size;
};

// How a plan computes its pass: what follows from the request and the instruction set, and the schedule,
// which depends on the process and changes no bit.
struct ConvExplanation {
  static constexpr int most_blocks = 6;

  Index tile_rows, tile_columns;  // outputs of the micro-kernel, or of a Winograd tile
  Block blocks[most_blocks];      // those with a name
  int threads;
  std::size_t scratch_bytes;  // of all threads, without the packed weights
  std::size_t packed_bytes;   // of the packed weights, 0 where they are read as they are
};

// Operands of a forward pass, or of dx, which is a correlation as well:
//   forward  in = x (N, C, H, W)        out = (N, F, OH, OW)
//   dx       in = dout (N, F, OH, OW)   out = dx (N, C, H, W)
// Arrays that a step does without are null: packing has the weights alone, and explaining nothing but N.
template <class T>
struct ConvOperands {
  Index N;
  const T* in = nullptr;
  const T* w = nullptr;       // (F, C / groups, KH, KW) as the caller has it
  const T* packed = nullptr;  // what the plan made of it; null: it packs for itself
  Epilogue<T> epilogue{};
  T* out = nullptr;
};

// Operands of the gradients dx, dw (F, C / groups, KH, KW) and db (F,); any of these may be null: not wanted,
// which changes no bit of the others. dx starts from `bias` (C,) unless that is null. A plan of dw and db
// leaves dx, w and bias alone.
template <class T>
struct GradientOperands {
  const T *x, *w, *dout, *bias;
  T *dx, *dw, *db;
};

// The plan of a forward pass or of dx: a method and its cut. It runs batches of any size, and weights that it
// packed for one of them serve all.
template <class T>
class ConvPlan {
 public:
  explicit ConvPlan(const ConvChoice& chosen) : choice(chosen) {}
  ConvPlan(const ConvPlan&) = delete;
  virtual ~ConvPlan();

  const ConvChoice choice;

  virtual void pack(const T* w, T* packed) const = 0;
  virtual void run(const ConvOperands<T>&) const = 0;
  virtual ConvExplanation explain(Index N) const = 0;
};

// The plan of dw and db, or of all gradients in one pass, for the request's batch.
template <class T>
class GradientPlan {
 public:
  explicit GradientPlan(const ConvChoice& chosen) : choice(chosen) {}
  GradientPlan(const GradientPlan&) = delete;
  virtual ~GradientPlan();

  const ConvChoice choice;

  virtual void run(const GradientOperands<T>&) const = 0;
  virtual ConvExplanation explain() const = 0;
};

// Each instruction set's units would define these with its own instructions: conv_plan.cpp alone does.
extern template class ConvPlan<float>;
extern template class ConvPlan<double>;
extern template class GradientPlan<float>;
extern template class GradientPlan<double>;

// Bytes that convolution, batch norm and ReLU in a row take beside their arrays, in all threads.
struct ConvNormScratch {
  std::size_t forward, backward;
};

// A method that fits and what it would cost.
struct ConvCost {
  Method method;
  double cycles;
};
using ConvCosts = ConvCost[static_cast<int>(Method::count)];

}  // namespace cnnlib
