// What a method of convolution offers to the table in plan.hpp, and what it is handed.
#pragma once

#include "conv_plan.hpp"
#include "kernels/conv/epilogue.hpp"
#include "kernels/scratch_layout.hpp"

namespace cnnlib::CNNLIB_ISA {

// Operands of a forward pass, or of dx, which is a correlation as well:
//   forward  in = x (N, C, H, W)        out = (N, F, OH, OW)
//   dx       in = dout (N, F, OH, OW)   out = dx (N, C, H, W)
template <class T>
struct ConvOperands {
  const T* in;
  const T* w;       // (F, C / groups, KH, KW) as the caller has it
  const T* packed;  // what `pack` made of it; null: `run` packs for itself
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

// How a method computes the forward pass or dx. `describe` fills in a plan's tile, blocks and bytes.
template <class T>
struct CorrelationSteps {
  void (*describe)(ConvPlan&);
  void (*pack)(const ConvPlan&, const T* w, T* packed);  // null where weights are used as they are
  void (*run)(const ConvPlan&, const ConvOperands<T>&);
  bool adds = false;  // takes Epilogue::add
};
// How it computes dw and db.
template <class T>
struct WeightGradientSteps {
  void (*describe)(ConvPlan&);
  void (*run)(const ConvPlan&, const WeightGradientOperands<T>&);
  bool makes_db = false;  // on the way
};

// p + n, where there is a p: planning and packing have no images.
template <class P>
P* after(P* p, Index n) {
  return p != nullptr ? p + n : nullptr;
}

// Runs a method whose weights nobody has packed.
template <class T, class Method>
void pack_and_run(const Method& method) {
  const ScratchArray<T> memory(method.packed_size());
  T* packed = memory.data();
  method.pack(packed);
  method.run(packed);
}

// The steps of a class of one shape and its operands.
template <class T, template <class> class Method>
CorrelationSteps<T> correlation_steps() {
  return {[](ConvPlan& plan) { Method<T>(plan.shape, {}).describe(plan); },
          [](const ConvPlan& plan, const T* w, T* packed) {
            Method<T>(plan.shape, {nullptr, w, nullptr, {}, nullptr}).pack(packed);
          },
          [](const ConvPlan& plan, const ConvOperands<T>& o) {
            const Method<T> method(plan.shape, o);
            o.packed != nullptr ? method.run(o.packed) : pack_and_run<T>(method);
          }};
}

// Fills in a plan's tile (rows, columns), threads and blocks, by name.
template <std::size_t n>
void fill_in(ConvPlan& plan, const Index (&tile)[2], int threads, const Block (&blocks)[n]) {
  static_assert(n <= ConvPlan::most_blocks);
  plan.tile_rows = tile[0];
  plan.tile_columns = tile[1];
  plan.threads = threads;
  for (std::size_t i = 0; i < n; ++i) plan.blocks[i] = blocks[i];
}

}  // namespace cnnlib::CNNLIB_ISA
