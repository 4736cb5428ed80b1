#include "kernels/conv/winograd/correlation.hpp"
#include "kernels/conv/winograd/tile_choice.hpp"

namespace cnnlib::CNNLIB_ISA {
namespace {

// The groups of a forward pass, or of dx, which is a correlation of dout with the flipped filters.
template <class T>
class WinogradGroups {
 public:
  explicit WinogradGroups(const ConvChoice& choice)
      : s(choice.request.shape),
        dx(choice.pass == Pass::input_gradient),
        kept(choice.request.keeps_weights()),
        tile(*with_tile<T>(choice.request, dx,
                           [](auto chosen) { return &correlation_tile<T, decltype(chosen)>; })),
        cut(point_cut<T>(tile_shape(s, dx), tile)) {}

  template <class Body>
  void each(const ConvOperands<T>& o, const Body& body) const {
    for (Index group = 0; group < s.groups; ++group)
      body(WinogradCorrelation<T>(tile, problem_of(group, o), cut));
  }

 private:
  TileProblem<T> problem_of(Index group, const ConvOperands<T>& o) const {
    const TileShape shape = tile_shape(with_images(s, o.N), dx);
    const Index F = s.F / s.groups, taps = s.KH * s.KW, filter = s.C / s.groups * taps;
    const Index x_size = shape.C * shape.H * shape.W, out_size = shape.F * shape.OH * shape.OW;
    return {shape,
            after(o.in, group * x_size),
            s.groups * x_size,
            after(o.w, group * F * filter),
            after(o.w, (group + 1) * F * filter),
            dx ? taps : filter,
            dx ? filter : taps,
            dx,
            kept,
            o.epilogue.from(group * shape.F),
            after(o.out, group * out_size),
            s.groups * out_size};
  }

  ConvShape s;
  bool dx, kept;
  const CorrelationTile<T>& tile;
  PointCut cut;
};

}  // namespace

template <class T>
OwnedPlan<T> winograd(const ConvChoice& choice) {
  return OwnedPlan<T>(new CorrelationPlan<T, WinogradGroups<T>>(choice));
}
template OwnedPlan<float> winograd(const ConvChoice&);
template OwnedPlan<double> winograd(const ConvChoice&);

}  // namespace cnnlib::CNNLIB_ISA
