#include "kernels/conv/depthwise/depthwise.hpp"

#include "kernels/conv/depthwise/forward.hpp"
#include "kernels/conv/depthwise/gradients.hpp"
#include "kernels/conv/depthwise/rows_in_place.hpp"
#include "kernels/conv/depthwise/short_rows.hpp"

namespace cnnlib::CNNLIB_ISA {
namespace {

template <class T>
bool takes_flat_gradients(const ConvPlan& plan) {
  return plan.method == Method::depthwise_rows && has_flat_gradients<T>(plan.shape);
}

// body(lanes) with what the plan's method has in its lanes.
template <class T, class Body>
void with_lanes(const ConvPlan& plan, const Body& body) {
  if (plan.method == Method::depthwise_channels)
    body(ChannelLanes<T>());
  else
    body(RowLanes<T>());
}

}  // namespace

template <class T>
void describe_depthwise_gradients(ConvPlan& plan, bool dx, bool sums) {
  if (takes_flat_gradients<T>(plan)) return describe_flat_gradients<T>(plan, dx, sums);
  with_lanes<T>(plan, [&](auto lanes) {
    DepthwiseGradientPass<T, decltype(lanes)>(plan.shape, dx, sums).describe(plan);
  });
}

template <class T>
void describe_depthwise(ConvPlan& plan) {
  const bool dx = plan.pass == Pass::input_gradient;
  if (plan.pass != Pass::forward) return describe_depthwise_gradients<T>(plan, dx, !dx);
  with_lanes<T>(plan,
                [&](auto lanes) { DepthwiseForwardPass<T, decltype(lanes)>(plan.shape).describe(plan); });
}

template <class T>
void run_depthwise_forward(const ConvPlan& plan, const ConvOperands<T>& o) {
  const ConvShape& s = plan.shape;
  if (plan.method == Method::depthwise_rows) {
    if (reads_rows_in_place<T>(s)) return DepthwiseRowsInPlace<T>(s).run(o);
    if (reads_short_rows<T>(s)) return DepthwiseShortRows<T>(s).run(o);
    if (reads_flat_planes<T>(s)) return run_flat_planes<T>(s, o);
  }
  with_lanes<T>(plan, [&](auto lanes) { DepthwiseForwardPass<T, decltype(lanes)>(s).run(o); });
}

template <class T>
void run_depthwise_backward(const ConvPlan& plan, const DepthwiseGradients<T>& o) {
  if (takes_flat_gradients<T>(plan)) return run_flat_gradients<T>(plan.shape, o);
  const bool dx = o.dx != nullptr, sums = o.dw != nullptr || o.db != nullptr;
  with_lanes<T>(plan,
                [&](auto lanes) { DepthwiseGradientPass<T, decltype(lanes)>(plan.shape, dx, sums).run(o); });
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
