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

// A way to compute the forward pass or dx. A cost is in cycles for one image on a reference processor
// (rates.hpp); `describe` fills in a plan's tile, blocks and bytes.
template <class T>
struct CorrelationMethod {
  Method method;
  bool (*fits)(const ConvShape&);
  double (*cost)(const ConvShape&);
  void (*describe)(ConvPlan&);
  bool adds;                                             // takes Epilogue::add
  void (*pack)(const ConvPlan&, const T* w, T* packed);  // null where weights are used as they are
  void (*run)(const ConvPlan&, const ConvOperands<T>&);
};

template <class T>
struct WeightGradientMethod {
  Method method;
  bool (*fits)(const ConvShape&);
  double (*cost)(const ConvShape&);
  void (*describe)(ConvPlan&);
  bool makes_db;  // on the way
  void (*run)(const ConvPlan&, const WeightGradientOperands<T>&);
};

// A run whose weights nobody has packed.
template <class T, class Method>
void pack_and_run(const Method& method) {
  const ScratchArray<T> memory(method.packed_size());
  T* packed = memory.data();
  method.pack(packed);
  method.run(packed);
}

// A plan's blocks, by name.
template <std::size_t n>
void name_blocks(ConvPlan& plan, const Block (&blocks)[n]) {
  static_assert(n <= ConvPlan::most_blocks);
  for (std::size_t i = 0; i < n; ++i) plan.blocks[i] = blocks[i];
}

}  // namespace cnnlib::CNNLIB_ISA
