#include "kernels/conv/weight_gradient/weight_gradient.hpp"

#include "kernels/conv/weight_gradient/channel_lanes.hpp"
#include "kernels/conv/weight_gradient/shared_panels.hpp"
#include "kernels/conv/weight_gradient/tap_rows.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
void describe_channel_lanes(ConvPlan& plan) {
  ChannelLanes<T>(plan.shape).describe(plan);
}
template <class T>
void run_channel_lanes(const ConvPlan& plan, const WeightGradientOperands<T>& operands) {
  ChannelLanes<T>(plan.shape).run(operands);
}

template <class T>
void describe_shared_panels(ConvPlan& plan) {
  SharedPanels<T>(plan.shape).describe(plan);
}
template <class T>
void run_shared_panels(const ConvPlan& plan, const WeightGradientOperands<T>& operands) {
  SharedPanels<T>(plan.shape).run(operands);
}

template <class T>
void describe_tap_rows(ConvPlan& plan) {
  TapRows<T>(plan.shape).describe(plan);
}
template <class T>
void run_tap_rows(const ConvPlan& plan, const WeightGradientOperands<T>& operands) {
  TapRows<T>(plan.shape).run(operands);
}

#define INSTANTIATE(T)                                                                \
  template void describe_channel_lanes<T>(ConvPlan&);                                 \
  template void run_channel_lanes(const ConvPlan&, const WeightGradientOperands<T>&); \
  template void describe_shared_panels<T>(ConvPlan&);                                 \
  template void run_shared_panels(const ConvPlan&, const WeightGradientOperands<T>&); \
  template void describe_tap_rows<T>(ConvPlan&);                                      \
  template void run_tap_rows(const ConvPlan&, const WeightGradientOperands<T>&);
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace cnnlib::CNNLIB_ISA
