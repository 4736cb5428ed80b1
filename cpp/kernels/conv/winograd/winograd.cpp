#include "kernels/conv/winograd/winograd.hpp"

#include "kernels/conv/winograd/correlation.hpp"
#include "kernels/conv/winograd/tile_choice.hpp"

namespace cnnlib::CNNLIB_ISA {
namespace {

// p + n, where there is a p: planning and packing have no images.
template <class P>
P* after(P* p, Index n) {
  return p != nullptr ? p + n : nullptr;
}

// Group `group` of the forward pass, without its operands' beginnings but for what the caller gives.
template <class T>
TileProblem<T> forward_problem(const ConvShape& s, Index group, bool prepacked, const ConvOperands<T>& o) {
  const TileShape shape(s);
  const Index taps = s.KH * s.KW, f0 = group * shape.F, c0 = group * shape.C;
  return {{shape, after(o.in, c0 * s.H * s.W), s.C * s.H * s.W},
          after(o.w, f0 * shape.C * taps),
          after(o.w, (f0 + shape.F) * shape.C * taps),
          shape.C * taps,
          taps,
          false,
          prepacked,
          o.epilogue.from(f0),
          after(o.out, f0 * s.OH * s.OW),
          s.F * s.OH * s.OW};
}

// dx is a correlation of dout with the flipped filters.
template <class T>
TileProblem<T> input_gradient_problem(const ConvShape& s, Index group, bool prepacked,
                                      const ConvOperands<T>& o) {
  const TileShape shape(s);
  const Index taps = s.KH * s.KW, f0 = group * shape.F, c0 = group * shape.C;
  return {{tile_shape<Pass::input_gradient>(s), after(o.in, f0 * s.OH * s.OW), s.F * s.OH * s.OW},
          after(o.w, f0 * shape.C * taps),
          after(o.w, (f0 + shape.F) * shape.C * taps),
          taps,
          shape.C * taps,
          true,
          prepacked,
          o.epilogue.from(c0),
          after(o.out, c0 * s.H * s.W),
          s.C * s.H * s.W};
}

// body(correlation) for the groups of a pass.
template <class T, class Body>
void each_group(const ConvPlan& plan, const ConvOperands<T>& operands, const Body& body) {
  const ConvShape& s = plan.shape;
  const bool forward = plan.pass == Pass::forward;
  const auto transforms = [](auto tile) { return &correlation_tile<T, decltype(tile)>; };
  const CorrelationTile<T>& tile =
      *(forward ? with_tile<Pass::forward>(s, transforms) : with_tile<Pass::input_gradient>(s, transforms));
  const auto problem = forward ? forward_problem<T> : input_gradient_problem<T>;
  for (Index group = 0; group < s.groups; ++group)
    body(WinogradCorrelation<T>(tile, problem(s, group, plan.prepacked, operands)));
}

}  // namespace

template <class T>
void describe_winograd(ConvPlan& plan) {
  Index packed = 0;
  each_group<T>(plan, {}, [&](const WinogradCorrelation<T>& correlation) {
    correlation.describe(plan);
    packed += correlation.packed_size();
  });
  plan.packed_bytes = packed * sizeof(T);
}

template <class T>
void pack_winograd(const ConvPlan& plan, const T* w, T* packed) {
  ConvOperands<T> operands{};
  operands.w = w;
  each_group(plan, operands, [&](const WinogradCorrelation<T>& correlation) {
    correlation.pack(packed);
    packed = after(packed, correlation.packed_size());
  });
}

template <class T>
void run_winograd(const ConvPlan& plan, const ConvOperands<T>& operands) {
  const T* packed = operands.packed;
  each_group(plan, operands, [&](const WinogradCorrelation<T>& correlation) {
    if (packed == nullptr) return pack_and_run<T>(correlation);
    correlation.run(packed);
    packed += correlation.packed_size();
  });
}

#define INSTANTIATE(T)                                        \
  template void describe_winograd<T>(ConvPlan&);              \
  template void pack_winograd(const ConvPlan&, const T*, T*); \
  template void run_winograd(const ConvPlan&, const ConvOperands<T>&);
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace cnnlib::CNNLIB_ISA
