#include "kernels/conv/direct/col2im.hpp"
#include "kernels/conv/direct/correlation_steps.hpp"
#include "kernels/conv/direct/filter_lanes.hpp"
#include "kernels/conv/direct/pixel_lanes.hpp"
#include "kernels/conv/direct/position_panels.hpp"
#include "kernels/conv/units.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
CorrelationSteps<T> pixel_lanes() {
  return EachCorrelation<T, PixelLanes>::steps(true);
}
template <class T>
CorrelationSteps<T> filter_lanes() {
  return EachCorrelation<T, FilterLanes>::steps(true);
}
template <class T>
CorrelationSteps<T> position_panels() {
  if constexpr (InstructionSet::position_panels)
    return EachCorrelation<T, PositionPanels>::steps(true);
  else
    return {};
}
template <class T>
CorrelationSteps<T> col2im() {
  return SingleCorrelation<T, Col2im>::steps();
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
