#include "kernels/conv/direct/col2im.hpp"
#include "kernels/conv/direct/filter_lanes.hpp"
#include "kernels/conv/direct/pixel_lanes.hpp"
#include "kernels/conv/direct/position_panels.hpp"
#include "kernels/conv/units.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
CorrelationSteps<T> pixel_lanes() {
  return lanes_steps<T, PixelLanes>();
}
template <class T>
CorrelationSteps<T> filter_lanes() {
  return lanes_steps<T, FilterLanes>();
}
template <class T>
CorrelationSteps<T> position_panels() {
  if constexpr (InstructionSet::position_panels)
    return lanes_steps<T, PositionPanels>();
  else
    return {};
}
template <class T>
CorrelationSteps<T> col2im() {
  return correlation_steps<T, Col2im>();
}

#define INSTANTIATE(T)                            \
  template CorrelationSteps<T> pixel_lanes();     \
  template CorrelationSteps<T> filter_lanes();    \
  template CorrelationSteps<T> position_panels(); \
  template CorrelationSteps<T> col2im();
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace cnnlib::CNNLIB_ISA
