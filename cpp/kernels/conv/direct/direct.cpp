#include "kernels/conv/direct/col2im.hpp"
#include "kernels/conv/direct/direct_correlations.hpp"
#include "kernels/conv/direct/filter_lanes.hpp"
#include "kernels/conv/direct/pixel_lanes.hpp"
#include "kernels/conv/direct/position_panels.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
OwnedPlan<T> pixel_lanes(const ConvChoice& choice) {
  return OwnedPlan<T>(new CorrelationPlan<T, DirectCorrelations<T, PixelLanes>>(choice));
}
template <class T>
OwnedPlan<T> filter_lanes(const ConvChoice& choice) {
  return OwnedPlan<T>(new CorrelationPlan<T, DirectCorrelations<T, FilterLanes>>(choice));
}
template <class T>
OwnedPlan<T> position_panels([[maybe_unused]] const ConvChoice& choice) {
  if constexpr (InstructionSet::position_panels)
    return OwnedPlan<T>(new CorrelationPlan<T, DirectCorrelations<T, PositionPanels>>(choice));
  else
    return nullptr;
}
template <class T>
OwnedPlan<T> col2im(const ConvChoice& choice) {
  return OwnedPlan<T>(new CorrelationPlan<T, SingleCorrelation<T, Col2im>>(choice));
}

#define INSTANTIATE(T)                                      \
  template OwnedPlan<T> pixel_lanes(const ConvChoice&);     \
  template OwnedPlan<T> filter_lanes(const ConvChoice&);    \
  template OwnedPlan<T> position_panels(const ConvChoice&); \
  template OwnedPlan<T> col2im(const ConvChoice&);
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace cnnlib::CNNLIB_ISA
