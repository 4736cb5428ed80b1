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
  double cycles;  // estimated, of one image on a reference processor
  // Facts from the method's row: it makes db on the way to dw; makes all gradients at once, where dx and dw
  // both take it.
  bool makes_db, makes_all;
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
template <class T>
struct ConvCall {
  Index N;
  const T* in;
  const T* w;       // (F, C / groups, KH, KW) as the caller has it
  const T* packed;  // what the plan made of it; null: it packs for itself
  Epilogue<T> epilogue;
  T* out;
};

// Operands of dw (F, C / groups, KH, KW) and db (F,); either may be null: not wanted. A method that makes
// db on the way makes the same bits with dw and without.
template <class T>
struct WeightGradientOperands {
  const T *x, *dout;
  T *dw, *db;
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
  virtual void run(const ConvCall<T>&) const = 0;
  virtual ConvExplanation explain(Index N) const = 0;
};

// That of dw and db, of the request's batch.
template <class T>
class WeightGradientPlan {
 public:
  explicit WeightGradientPlan(const ConvChoice& chosen) : choice(chosen) {}
  WeightGradientPlan(const WeightGradientPlan&) = delete;
  virtual ~WeightGradientPlan();

  const ConvChoice choice;

  virtual void run(const WeightGradientOperands<T>&) const = 0;
  virtual ConvExplanation explain() const = 0;
};

// Each instruction set's units would define these with its own instructions: conv_plan.cpp alone does.
extern template class ConvPlan<float>;
extern template class ConvPlan<double>;
extern template class WeightGradientPlan<float>;
extern template class WeightGradientPlan<double>;

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
