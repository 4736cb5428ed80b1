// What a method of convolution offers to the table in plan.hpp, and what it is handed.
#pragma once

#include <utility>

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
template <class T, class PackedCorrelation>
void pack_and_run(const PackedCorrelation& correlation) {
  const ScratchArray<T> memory(correlation.packed_size());
  T* packed = memory.data();
  correlation.pack(packed);
  correlation.run(packed);
}

// The steps of a pass that is one correlation or several, one after the other, whose packed weights lie in
// this order: Each::each(plan, operands, body) calls body(correlation) for them.
template <class T, class Each>
struct StepsOfEach {
  static void describe(ConvPlan& plan) {
    Index packed = 0;
    std::size_t scratch = 0;
    bool first = true;
    Each::each(plan, ConvOperands<T>{}, [&](const auto& correlation) {
      packed += correlation.packed_size();
      ConvPlan own = plan;
      correlation.describe(own);
      scratch = std::max(scratch, own.scratch_bytes);
      if (std::exchange(first, false)) plan = own;  // they are cut alike
    });
    plan.scratch_bytes = scratch;
    plan.packed_bytes = static_cast<std::size_t>(packed) * sizeof(T);
  }
  static void pack(const ConvPlan& plan, const T* w, T* packed) {
    Each::each(plan, ConvOperands<T>{nullptr, w, nullptr, {}, nullptr}, [&](const auto& correlation) {
      correlation.pack(packed);
      packed = after(packed, correlation.packed_size());
    });
  }
  static void run(const ConvPlan& plan, const ConvOperands<T>& operands) {
    const T* packed = operands.packed;
    Each::each(plan, operands, [&](const auto& correlation) {
      if (packed == nullptr) return pack_and_run<T>(correlation);
      correlation.run(packed);
      packed += correlation.packed_size();
    });
  }
  static CorrelationSteps<T> steps(bool adds = false) { return {&describe, &pack, &run, adds}; }
};

// Those of a class of one shape and its operands.
template <class T, template <class> class Class>
struct SingleCorrelation : StepsOfEach<T, SingleCorrelation<T, Class>> {
  template <class Body>
  static void each(const ConvPlan& plan, const ConvOperands<T>& operands, const Body& body) {
    body(Class<T>(plan.shape, operands));
  }
};

// The steps of a class of one shape, and whether dw and db are wanted.
template <class T, template <class> class Class>
WeightGradientSteps<T> weight_gradient_steps(bool makes_db) {
  return {[](ConvPlan& plan) { Class<T>(plan.shape, true, true).describe(plan); },
          [](const ConvPlan& plan, const WeightGradientOperands<T>& o) {
            Class<T>(plan.shape, o.dw != nullptr, o.db != nullptr).run(o);
          },
          makes_db};
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
