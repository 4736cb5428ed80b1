#include "kernels/conv/direct/direct.hpp"

#include "kernels/conv/direct/col2im.hpp"
#include "kernels/conv/direct/filter_lanes.hpp"
#include "kernels/conv/direct/pixel_lanes.hpp"
#include "kernels/conv/direct/position_panels.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
void describe_pixel_lanes(ConvPlan& plan) {
  describe_correlations<T, PixelLanes>(plan);
}
template <class T>
void pack_pixel_lanes(const ConvPlan& plan, const T* w, T* packed) {
  pack_correlations<T, PixelLanes>(plan, w, packed);
}
template <class T>
void run_pixel_lanes(const ConvPlan& plan, const ConvOperands<T>& operands) {
  run_correlations<T, PixelLanes>(plan, operands);
}

template <class T>
void describe_filter_lanes(ConvPlan& plan) {
  describe_correlations<T, FilterLanes>(plan);
}
template <class T>
void pack_filter_lanes(const ConvPlan& plan, const T* w, T* packed) {
  pack_correlations<T, FilterLanes>(plan, w, packed);
}
template <class T>
void run_filter_lanes(const ConvPlan& plan, const ConvOperands<T>& operands) {
  run_correlations<T, FilterLanes>(plan, operands);
}

template <class T>
void describe_position_panels([[maybe_unused]] ConvPlan& plan) {
  if constexpr (InstructionSet::position_panels) describe_correlations<T, PositionPanels>(plan);
}
template <class T>
void pack_position_panels([[maybe_unused]] const ConvPlan& plan, [[maybe_unused]] const T* w,
                          [[maybe_unused]] T* packed) {
  if constexpr (InstructionSet::position_panels) pack_correlations<T, PositionPanels>(plan, w, packed);
}
template <class T>
void run_position_panels([[maybe_unused]] const ConvPlan& plan,
                         [[maybe_unused]] const ConvOperands<T>& operands) {
  if constexpr (InstructionSet::position_panels) run_correlations<T, PositionPanels>(plan, operands);
}

template <class T>
void describe_col2im(ConvPlan& plan) {
  Col2im<T>(plan.shape).describe(plan);
}
template <class T>
void pack_col2im(const ConvPlan& plan, const T* w, T* packed) {
  Col2im<T>(plan.shape).pack(w, packed);
}
template <class T>
void run_col2im(const ConvPlan& plan, const ConvOperands<T>& operands) {
  Col2im<T>(plan.shape).run(operands);
}

#define INSTANTIATE(T)                                                        \
  template void describe_pixel_lanes<T>(ConvPlan&);                           \
  template void pack_pixel_lanes(const ConvPlan&, const T*, T*);              \
  template void run_pixel_lanes(const ConvPlan&, const ConvOperands<T>&);     \
  template void describe_filter_lanes<T>(ConvPlan&);                          \
  template void pack_filter_lanes(const ConvPlan&, const T*, T*);             \
  template void run_filter_lanes(const ConvPlan&, const ConvOperands<T>&);    \
  template void describe_position_panels<T>(ConvPlan&);                       \
  template void pack_position_panels(const ConvPlan&, const T*, T*);          \
  template void run_position_panels(const ConvPlan&, const ConvOperands<T>&); \
  template void describe_col2im<T>(ConvPlan&);                                \
  template void pack_col2im(const ConvPlan&, const T*, T*);                   \
  template void run_col2im(const ConvPlan&, const ConvOperands<T>&);
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace cnnlib::CNNLIB_ISA
