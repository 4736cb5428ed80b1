#include "kernels/conv/depthwise/depthwise.hpp"

#include "kernels/conv/depthwise/forward.hpp"
#include "kernels/conv/depthwise/gradients.hpp"

namespace cnnlib::CNNLIB_ISA {
namespace {

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
void describe_depthwise(ConvPlan& plan) {
  plan.tile_rows = rows_together;
  plan.tile_columns = Simd<T>::size;
  plan.threads = threads_for(depthwise_work(plan.shape));
  with_lanes<T>(plan, [&](auto lanes) {
    name_blocks(plan,
                {{"channels", decltype(lanes)::channels}, {"staged bytes", decltype(lanes)::staged_bytes}});
  });
}

template <class T>
void run_depthwise_forward(const ConvPlan& plan, const ConvOperands<T>& o) {
  with_lanes<T>(plan, [&](auto lanes) {
    forward_depthwise<T, decltype(lanes)>(o.in, o.w, o.epilogue.bias, o.out, plan.shape, o.epilogue.relu);
  });
}

template <class T>
void run_depthwise_backward(const ConvPlan& plan, const DepthwiseGradients<T>& g) {
  with_lanes<T>(plan, [&](auto lanes) {
    gradients_depthwise<T, decltype(lanes)>(g.x, g.w, g.dout, g.bias, g.dx, g.dw, g.db, plan.shape);
  });
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
  template void run_depthwise_forward(const ConvPlan&, const ConvOperands<T>&);        \
  template void run_depthwise_backward(const ConvPlan&, const DepthwiseGradients<T>&); \
  template void run_depthwise_input_gradient(const ConvPlan&, const ConvOperands<T>&); \
  template void run_depthwise_weight_gradient(const ConvPlan&, const WeightGradientOperands<T>&);
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace cnnlib::CNNLIB_ISA
