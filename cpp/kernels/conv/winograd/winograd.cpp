#include "kernels/conv/units.hpp"
#include "kernels/conv/winograd/correlation.hpp"
#include "kernels/conv/winograd/tile_choice.hpp"

namespace cnnlib::CNNLIB_ISA {
namespace {

// Group `group` of a forward pass, or of dx, which is a correlation of dout with the flipped filters.
template <class T>
TileProblem<T> problem_of(const ConvPlan& plan, Index group, const ConvOperands<T>& o) {
  const ConvShape& s = plan.shape;
  const bool dx = plan.pass == Pass::input_gradient;
  const TileShape shape = tile_shape(s, dx);
  const Index F = s.F / s.groups, taps = s.KH * s.KW, filter = s.C / s.groups * taps;
  const Index x_size = shape.C * shape.H * shape.W, out_size = shape.F * shape.OH * shape.OW;
  return {{shape, after(o.in, group * x_size), s.groups * x_size},
          after(o.w, group * F * filter),
          after(o.w, (group + 1) * F * filter),
          dx ? taps : filter,
          dx ? filter : taps,
          dx,
          plan.prepacked,
          o.epilogue.from(group * shape.F),
          after(o.out, group * out_size),
          s.groups * out_size};
}

// The groups of a pass.
template <class T>
struct WinogradGroups : StepsOfEach<T, WinogradGroups<T>> {
  template <class Body>
  static void each(const ConvPlan& plan, const ConvOperands<T>& operands, const Body& body) {
    const auto& tile = *with_tile(plan.shape, plan.pass == Pass::input_gradient,
                                  [](auto chosen) { return &correlation_tile<T, decltype(chosen)>; });
    for (Index group = 0; group < plan.shape.groups; ++group)
      body(WinogradCorrelation<T>(tile, problem_of(plan, group, operands)));
  }
};

}  // namespace

template <class T>
CorrelationSteps<T> winograd() {
  return WinogradGroups<T>::steps(true);
}
template CorrelationSteps<float> winograd();
template CorrelationSteps<double> winograd();

}  // namespace cnnlib::CNNLIB_ISA
