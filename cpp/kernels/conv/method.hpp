// The plans that run the methods of convolution. A plan holds the method's cut, which decides bits and how
// packed weights lie; for each batch it makes a schedule and runs it.
#pragma once

#include <utility>

#include "conv_plan.hpp"
#include "kernels/scratch_layout.hpp"

namespace cnnlib::CNNLIB_ISA {

// p + n, where there is a p: planning and packing have no images.
template <class P>
P* after(P* p, Index n) {
  return p != nullptr ? p + n : nullptr;
}

inline ConvShape with_images(ConvShape s, Index N) {
  s.N = N;
  return s;
}

// Fills in the tile (rows, columns), threads and blocks, by name.
template <std::size_t n>
void fill_in(ConvExplanation& to, const Index (&tile)[2], int threads, const Block (&blocks)[n]) {
  static_assert(n <= ConvExplanation::most_blocks);
  to.tile_rows = tile[0];
  to.tile_columns = tile[1];
  to.threads = threads;
  for (std::size_t i = 0; i < n; ++i) to.blocks[i] = blocks[i];
}

// The plan of a pass that is one correlation or several, one after the other, whose packed weights lie in
// this order. Correlations holds their cuts: correlations.each(operands, body) makes the schedule of each,
// and calls body(correlation).
template <class T, class Correlations>
class CorrelationPlan final : public ConvPlan<T> {
 public:
  explicit CorrelationPlan(const ConvChoice& choice) : ConvPlan<T>(choice), correlations(choice) {}

  void pack(const T* w, T* packed) const override {
    correlations.each({1, nullptr, w}, [&](const auto& correlation) {
      correlation.pack(packed);
      packed = after(packed, correlation.packed_size());
    });
  }

  void run(const ConvOperands<T>& o) const override {
    const T* packed = o.packed;
    correlations.each(o, [&](const auto& correlation) {
      if (packed == nullptr) return pack_and_run(correlation);
      correlation.run(packed);
      packed += correlation.packed_size();
    });
  }

  [[gnu::cold]] ConvExplanation explain(Index N) const override {
    ConvExplanation all{};
    Index packed = 0;
    bool first = true;
    correlations.each({N}, [&](const auto& correlation) {
      ConvExplanation own{};
      correlation.describe(own);
      own.scratch_bytes = std::max(own.scratch_bytes, all.scratch_bytes);
      packed += correlation.packed_size();
      if (std::exchange(first, false))
        all = own;  // they are cut alike
      else
        all.scratch_bytes = own.scratch_bytes;
    });
    all.packed_bytes = static_cast<std::size_t>(packed) * sizeof(T);
    return all;
  }

 private:
  template <class PackedCorrelation>
  static void pack_and_run(const PackedCorrelation& correlation) {
    const ScratchArray<T> memory(correlation.packed_size());
    T* packed = memory.data();
    correlation.pack(packed);
    correlation.run(packed);
  }

  Correlations correlations;
};

// The correlation of a method that computes a pass as one, and takes each sum in one go.
template <class T, template <class> class Correlation>
struct SingleCorrelation {
  ConvShape s;

  explicit SingleCorrelation(const ConvChoice& choice) : s(choice.request.shape) {}
  template <class Body>
  void each(const ConvOperands<T>& o, const Body& body) const {
    body(Correlation<T>(with_images(s, o.N), o));
  }
};

// The plan of dw and db by a class that makes its cut from a request, and its schedule from the shape, the
// cut and which of the two are wanted.
template <class T, template <class> class Gradient>
class WeightGradientPlan final : public GradientPlan<T> {
 public:
  explicit WeightGradientPlan(const ConvChoice& choice)
      : GradientPlan<T>(choice), s(choice.request.shape), cut(Gradient<T>::cut_of(choice.request)) {}

  void run(const GradientOperands<T>& o) const override {
    Gradient<T>(s, cut, o.dw != nullptr, o.db != nullptr).run(o);
  }
  [[gnu::cold]] ConvExplanation explain() const override {
    ConvExplanation to{};
    Gradient<T>(s, cut, true, true).describe(to);
    return to;
  }

 private:
  ConvShape s;
  typename Gradient<T>::Cut cut;
};

// Owners of plans. Each set deletes by a type of its own: a template of the standard library over types that
// the sets share would be one function for all of them, with the instructions of one.
struct DeletePlan {
  template <class Plan>
  void operator()(const Plan* plan) const {
    delete plan;
  }
};
template <class T>
using OwnedPlan = std::unique_ptr<const ConvPlan<T>, DeletePlan>;
template <class T>
using OwnedGradientPlan = std::unique_ptr<const GradientPlan<T>, DeletePlan>;

}  // namespace cnnlib::CNNLIB_ISA
