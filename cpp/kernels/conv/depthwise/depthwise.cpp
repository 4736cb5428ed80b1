#include "kernels/conv/depthwise/forward.hpp"
#include "kernels/conv/depthwise/gradients.hpp"
#include "kernels/conv/depthwise/plane_passes.hpp"

namespace cnnlib::CNNLIB_ISA {
namespace {

bool by_rows(const ConvChoice& choice) { return choice.method == Method::depthwise_rows; }

// The gradients of a convolution by a class of passes, with their cut.
template <class T, template <class> class Gradients>
struct DepthwiseGradients {
  ConvShape s;
  typename Gradients<T>::Cut cut = Gradients<T>::cut_of(s);

  // One copy of each for the plans.
  [[gnu::noinline]] void run(Index N, const GradientOperands<T>& o) const {
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
  void run(const ConvOperands<T>& o) const override {
    gradients.run(o.N, {nullptr, o.w, o.in, o.epilogue.bias, o.out, nullptr, nullptr});
  }
  [[gnu::cold]] ConvExplanation explain(Index N) const override { return gradients.explain(N, true, false); }

 private:
  DepthwiseGradients<T, Gradients> gradients;
};

// dw and db, or all gradients in one pass over dout, which is staged once for all.
template <class T, template <class> class Gradients>
class DepthwiseGradientPlan final : public GradientPlan<T> {
 public:
  DepthwiseGradientPlan(const ConvChoice& choice, bool all)
      : GradientPlan<T>(choice), gradients{choice.request.shape}, with_dx(all) {}
  void run(const GradientOperands<T>& o) const override {
    GradientOperands<T> wanted = o;
    if (!with_dx) wanted.dx = nullptr;
    gradients.run(gradients.s.N, wanted);
  }
  [[gnu::cold]] ConvExplanation explain() const override {
    return gradients.explain(gradients.s.N, with_dx, true);
  }

 private:
  DepthwiseGradients<T, Gradients> gradients;
  bool with_dx;
};

// Nothing is summed over channels, and nothing packed: the forward pass has no cut.
template <class T>
class DepthwiseForward final : public ConvPlan<T> {
 public:
  explicit DepthwiseForward(const ConvChoice& choice) : ConvPlan<T>(choice) {}
  void pack(const T*, T*) const override {}
  void run(const ConvOperands<T>& o) const override {
    by_rows(this->choice) ? run_depthwise_planes(batch(o.N), o) : DepthwiseForwardPass<T>(batch(o.N)).run(o);
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
OwnedGradientPlan<T> depthwise_gradient_plan(const ConvChoice& choice, bool all) {
  if (by_rows(choice))
    return OwnedGradientPlan<T>(new DepthwiseGradientPlan<T, DepthwisePlaneGradients>(choice, all));
  return OwnedGradientPlan<T>(new DepthwiseGradientPlan<T, DepthwiseGradientPass>(choice, all));
}
template <class T>
OwnedGradientPlan<T> depthwise_weight_gradient(const ConvChoice& choice) {
  return depthwise_gradient_plan<T>(choice, false);
}
template <class T>
OwnedGradientPlan<T> depthwise_gradients(const ConvChoice& choice) {
  return depthwise_gradient_plan<T>(choice, true);
}

#define INSTANTIATE(T)                                                        \
  template OwnedPlan<T> depthwise(const ConvChoice&);                         \
  template OwnedGradientPlan<T> depthwise_weight_gradient(const ConvChoice&); \
  template OwnedGradientPlan<T> depthwise_gradients(const ConvChoice&);
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace cnnlib::CNNLIB_ISA
