#include "kernels/conv/depthwise/forward.hpp"
#include "kernels/conv/depthwise/gradients.hpp"
#include "kernels/conv/depthwise/plane_passes.hpp"
#include "kernels/conv/units.hpp"

namespace cnnlib::CNNLIB_ISA {

// body(the pass of the gradients) by a plan's method.
template <class T, class Body>
void with_gradients(const ConvPlan& plan, bool dx, bool sums, const Body& body) {
  if (plan.method == Method::depthwise_rows) return body(DepthwisePlaneGradients<T>(plan.shape, dx, sums));
  body(DepthwiseGradientPass<T>(plan.shape, dx, sums));
}

template <class T>
void describe_depthwise_gradients(ConvPlan& plan, bool dx, bool sums) {
  with_gradients<T>(plan, dx, sums, [&](const auto& pass) { pass.describe(plan); });
}

template <class T>
void run_depthwise_backward(const ConvPlan& plan, const DepthwiseGradients<T>& o) {
  with_gradients<T>(plan, o.dx != nullptr, o.dw != nullptr || o.db != nullptr,
                    [&](auto&& pass) { pass.run(o); });
}

template <class T>
CorrelationSteps<T> depthwise() {
  return {[](ConvPlan& plan) {
            if (plan.pass == Pass::input_gradient)
              describe_depthwise_gradients<T>(plan, true, false);
            else if (plan.method == Method::depthwise_rows)
              describe_depthwise_planes<T>(plan);
            else
              DepthwiseForwardPass<T>(plan.shape).describe(plan);
          },
          nullptr,
          [](const ConvPlan& plan, const ConvOperands<T>& o) {
            if (plan.pass == Pass::input_gradient)
              run_depthwise_backward<T>(plan, {nullptr, o.w, o.in, o.epilogue.bias, o.out, nullptr, nullptr});
            else if (plan.method == Method::depthwise_rows)
              run_depthwise_planes<T>(plan.shape, o);
            else
              DepthwiseForwardPass<T>(plan.shape).run(o);
          }};
}
template <class T>
WeightGradientSteps<T> depthwise_weight_gradient() {
  return {[](ConvPlan& plan) { describe_depthwise_gradients<T>(plan, false, true); },
          [](const ConvPlan& plan, const WeightGradientOperands<T>& o) {
            run_depthwise_backward<T>(plan, {o.x, nullptr, o.dout, nullptr, nullptr, o.dw, o.db});
          },
          true};
}

#define INSTANTIATE(T)                                                                 \
  template void describe_depthwise_gradients<T>(ConvPlan&, bool, bool);                \
  template void run_depthwise_backward(const ConvPlan&, const DepthwiseGradients<T>&); \
  template CorrelationSteps<T> depthwise();                                            \
  template WeightGradientSteps<T> depthwise_weight_gradient();
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace cnnlib::CNNLIB_ISA
