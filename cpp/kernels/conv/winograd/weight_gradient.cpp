#include "kernels/conv/winograd/weight_gradient.hpp"

#include "kernels/conv/units.hpp"
#include "kernels/conv/winograd/tile_choice.hpp"

namespace cnnlib::CNNLIB_ISA {

// dw of a group; planning has no operands.
template <class T>
WinogradWeightGradient<T> gradient_of(const ConvShape& s, Index group, const WeightGradientOperands<T>& o) {
  const TileShape shape(s);
  const Index plane = s.H * s.W, out_plane = s.OH * s.OW;
  const auto& tile = *with_tile<false>(s, [](auto chosen) { return &gradient_tile<T, decltype(chosen)>; });
  return {tile,
          {{shape, after(o.x, group * shape.C * plane), s.C * plane},
           after(o.dout, group * shape.F * out_plane),
           s.F * out_plane,
           after(o.dw, group * shape.F * shape.C * s.KH * s.KW)}};
}

template <class T>
WeightGradientSteps<T> winograd_weight_gradient() {
  return {[](ConvPlan& plan) { gradient_of<T>(plan.shape, 0, {}).describe(plan); },
          [](const ConvPlan& plan, const WeightGradientOperands<T>& o) {
            for (Index group = 0; o.dw != nullptr && group < plan.shape.groups; ++group)
              gradient_of<T>(plan.shape, group, o).run();
          }};
}

template WeightGradientSteps<float> winograd_weight_gradient();
template WeightGradientSteps<double> winograd_weight_gradient();

}  // namespace cnnlib::CNNLIB_ISA
