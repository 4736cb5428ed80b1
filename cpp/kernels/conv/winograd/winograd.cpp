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

// body(correlation) for the groups of a pass.
template <class T, class Body>
void each_group(const ConvPlan& plan, const ConvOperands<T>& operands, const Body& body) {
  const auto& tile = *with_tile(plan.shape, plan.pass == Pass::input_gradient,
                                [](auto chosen) { return &correlation_tile<T, decltype(chosen)>; });
  for (Index group = 0; group < plan.shape.groups; ++group)
    body(WinogradCorrelation<T>(tile, problem_of(plan, group, operands)));
}

template <class T>
void describe(ConvPlan& plan) {
  Index packed = 0;
  each_group<T>(plan, {}, [&](const WinogradCorrelation<T>& correlation) {
    correlation.describe(plan);
    packed += correlation.packed_size();
  });
  plan.packed_bytes = packed * sizeof(T);
}

template <class T>
void pack(const ConvPlan& plan, const T* w, T* packed) {
  each_group<T>(plan, {nullptr, w, nullptr, {}, nullptr}, [&](const WinogradCorrelation<T>& correlation) {
    correlation.pack(packed);
    packed = after(packed, correlation.packed_size());
  });
}

template <class T>
void run(const ConvPlan& plan, const ConvOperands<T>& operands) {
  const T* packed = operands.packed;
  each_group(plan, operands, [&](const WinogradCorrelation<T>& correlation) {
    if (packed == nullptr) return pack_and_run<T>(correlation);
    correlation.run(packed);
    packed += correlation.packed_size();
  });
}

}  // namespace

template <class T>
CorrelationSteps<T> winograd() {
  return {&describe<T>, &pack<T>, &run<T>, true};
}
template CorrelationSteps<float> winograd();
template CorrelationSteps<double> winograd();

}  // namespace cnnlib::CNNLIB_ISA
