#include "kernels/conv/depthwise/forward.hpp"
#include "kernels/conv/depthwise/gradients.hpp"
#include "kernels/conv/depthwise/plane_passes.hpp"
#include "kernels/conv/units.hpp"

namespace cnnlib::CNNLIB_ISA {
namespace {

bool by_rows(const ConvChoice& choice) { return choice.method == Method::depthwise_rows; }

// The gradients of a convolution by a class of passes, with their cut.
template <class T, template <class> class Gradients>
struct DepthwiseGradients {
  ConvShape s;
  typename Gradients<T>::Cut cut = Gradients<T>::cut_of(s);

  // One copy of each for the three plans.
  [[gnu::noinline]] void run(Index N, const AllGradients<T>& o) const {
    Gradients<T>(with_images(s, N), cut, o.dx != nullptr, o.dw != nullptr || o.db != nullptr).run(o);
  }
  [[gnu::noinline]] ConvExplanation explain(Index N, bool dx, bool sums) const {
    ConvExplanation to{};
    Gradients<T>(with_images(s, N), cut, dx, sums).describe(to);
    return to;
  }
};

template <class T, template <class> class Gradients>
class DepthwiseInputGradient final : public ConvPlan<T> {
 public:
  explicit DepthwiseInputGradient(const ConvChoice& choice)
      : ConvPlan<T>(choice), gradients{choice.request.shape} {}
  void pack(const T*, T*) const override {}
  void run(const ConvCall<T>& c) const override {
    gradients.run(c.N, {nullptr, c.w, c.in, c.epilogue.bias, c.out, nullptr, nullptr});
  }
  [[gnu::cold]] ConvExplanation explain(Index N) const override { return gradients.explain(N, true, false); }

 private:
  DepthwiseGradients<T, Gradients> gradients;
};

template <class T, template <class> class Gradients>
class DepthwiseWeightGradient final : public WeightGradientPlan<T> {
 public:
  explicit DepthwiseWeightGradient(const ConvChoice& choice)
      : WeightGradientPlan<T>(choice), gradients{choice.request.shape} {}
  void run(const WeightGradientOperands<T>& o) const override {
    gradients.run(gradients.s.N, {o.x, nullptr, o.dout, nullptr, nullptr, o.dw, o.db});
  }
  [[gnu::cold]] ConvExplanation explain() const override {
    return gradients.explain(gradients.s.N, false, true);
  }

 private:
  DepthwiseGradients<T, Gradients> gradients;
};

template <class T, template <class> class Gradients>
class DepthwiseAllGradients final : public AllGradientsPlan<T> {
 public:
  explicit DepthwiseAllGradients(const ConvChoice& choice)
      : AllGradientsPlan<T>(choice), gradients{choice.request.shape} {}
  void run(const AllGradients<T>& o) const override { gradients.run(gradients.s.N, o); }
  [[gnu::cold]] ConvExplanation explain() const override {
    return gradients.explain(gradients.s.N, true, true);
  }

 private:
  DepthwiseGradients<T, Gradients> gradients;
};

// Nothing is summed over channels, and nothing packed: the forward pass has no cut.
template <class T>
class DepthwiseForward final : public ConvPlan<T> {
 public:
  explicit DepthwiseForward(const ConvChoice& choice) : ConvPlan<T>(choice) {}
  void pack(const T*, T*) const override {}
  void run(const ConvCall<T>& call) const override {
    const ConvOperands<T> o(call);
    by_rows(this->choice) ? run_depthwise_planes(batch(call.N), o)
                          : DepthwiseForwardPass<T>(batch(call.N)).run(o);
  }
  [[gnu::cold]] ConvExplanation explain(Index N) const override {
    ConvExplanation to{};
    by_rows(this->choice) ? describe_depthwise_planes<T>(batch(N), to)
                          : DepthwiseForwardPass<T>(batch(N)).describe(to);
    return to;
  }

 private:
  ConvShape batch(Index N) const { return with_images(this->choice.request.shape, N); }
};

}  // namespace

template <class T>
OwnedPlan<T> depthwise(const ConvChoice& choice) {
  if (choice.pass == Pass::forward) return OwnedPlan<T>(new DepthwiseForward<T>(choice));
  if (by_rows(choice)) return OwnedPlan<T>(new DepthwiseInputGradient<T, DepthwisePlaneGradients>(choice));
  return OwnedPlan<T>(new DepthwiseInputGradient<T, DepthwiseGradientPass>(choice));
}
template <class T>
OwnedGradientPlan<T> depthwise_weight_gradient(const ConvChoice& choice) {
  if (by_rows(choice))
    return OwnedGradientPlan<T>(new DepthwiseWeightGradient<T, DepthwisePlaneGradients>(choice));
  return OwnedGradientPlan<T>(new DepthwiseWeightGradient<T, DepthwiseGradientPass>(choice));
}
template <class T>
OwnedAllGradientsPlan<T> depthwise_gradients(const ConvChoice& choice) {
  if (by_rows(choice))
    return OwnedAllGradientsPlan<T>(new DepthwiseAllGradients<T, DepthwisePlaneGradients>(choice));
  return OwnedAllGradientsPlan<T>(new DepthwiseAllGradients<T, DepthwiseGradientPass>(choice));
}

#define INSTANTIATE(T)                                                        \
  template OwnedPlan<T> depthwise(const ConvChoice&);                         \
  template OwnedGradientPlan<T> depthwise_weight_gradient(const ConvChoice&); \
  template OwnedAllGradientsPlan<T> depthwise_gradients(const ConvChoice&);
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace cnnlib::CNNLIB_ISA
