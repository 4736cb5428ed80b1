#include "kernels/conv/depthwise/depthwise.hpp"

#include "kernels/conv/depthwise/forward.hpp"
#include "kernels/conv/depthwise/gradients.hpp"
#include "kernels/conv/depthwise/plane_passes.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
void describe_depthwise_gradients(ConvPlan& plan, bool dx, bool sums) {
  if (plan.method == Method::depthwise_rows)
    DepthwisePlaneGradients<T>(plan.shape, dx, sums).describe(plan);
  else
    DepthwiseGradientPass<T>(plan.shape, dx, sums).describe(plan);
}

template <class T>
void describe_depthwise(ConvPlan& plan) {
  const bool dx = plan.pass == Pass::input_gradient;
  if (plan.pass != Pass::forward) return describe_depthwise_gradients<T>(plan, dx, !dx);
  if (plan.method == Method::depthwise_rows)
    describe_depthwise_planes<T>(plan);
  else
    DepthwiseForwardPass<T>(plan.shape).describe(plan);
}

template <class T>
void run_depthwise_forward(const ConvPlan& plan, const ConvOperands<T>& o) {
  if (plan.method == Method::depthwise_rows)
    run_depthwise_planes<T>(plan.shape, o);
  else
    DepthwiseForwardPass<T>(plan.shape).run(o);
}

template <class T>
void run_depthwise_backward(const ConvPlan& plan, const DepthwiseGradients<T>& o) {
  const bool dx = o.dx != nullptr, sums = o.dw != nullptr || o.db != nullptr;
  if (plan.method == Method::depthwise_rows)
    DepthwisePlaneGradients<T>(plan.shape, dx, sums).run(o);
  else
    DepthwiseGradientPass<T>(plan.shape, dx, sums).run(o);
}

template <class T>
void run_depthwise_input_gradient(const ConvPlan& plan, const ConvOperands<T>& o) {
  run_depthwise_backward<T>(plan, {nullptr, o.w, o.in, o.epilogue.bias, o.out, nullptr, nullptr});
}
template <class T>
void run_depthwise_weight_gradient(const ConvPlan& plan, const WeightGradientOperands<T>& o) {
  run_depthwise_backward<T>(plan, {o.x, nullptr, o.dout, nullptr, nullptr, o.dw, o.db});
}

#define INSTANTIATE(T)                                                                 \
  template void describe_depthwise<T>(ConvPlan&);                                      \
  template void describe_depthwise_gradients<T>(ConvPlan&, bool, bool);                \
  template void run_depthwise_forward(const ConvPlan&, const ConvOperands<T>&);        \
  template void run_depthwise_backward(const ConvPlan&, const DepthwiseGradients<T>&); \
  template void run_depthwise_input_gradient(const ConvPlan&, const ConvOperands<T>&); \
  template void run_depthwise_weight_gradient(const ConvPlan&, const WeightGradientOperands<T>&);
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace cnnlib::CNNLIB_ISA
