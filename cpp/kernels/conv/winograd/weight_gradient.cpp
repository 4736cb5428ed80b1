#include "kernels/conv/winograd/weight_gradient.hpp"

#include "kernels/conv/units.hpp"
#include "kernels/conv/winograd/tile_choice.hpp"

namespace cnnlib::CNNLIB_ISA {
namespace {

template <class T>
class WinogradGradientPlan final : public WeightGradientPlan<T> {
 public:
  explicit WinogradGradientPlan(const ConvChoice& choice) : WeightGradientPlan<T>(choice) {}

  void run(const WeightGradientOperands<T>& o) const override {
    for (Index group = 0; o.dw != nullptr && group < shape.groups; ++group) of_group(group, o).run();
  }
  [[gnu::cold]] ConvExplanation explain() const override {
    ConvExplanation to{};
    of_group(0, {}).describe(to);
    return to;
  }

 private:
  // dw of a group; planning has no operands.
  WinogradWeightGradient<T> of_group(Index group, const WeightGradientOperands<T>& o) const {
    const Index plane = shape.H * shape.W, out_plane = shape.OH * shape.OW;
    return {tile,
            {{shape, after(o.x, group * shape.C * plane), shape.groups * shape.C * plane},
             after(o.dout, group * shape.F * out_plane),
             shape.groups * shape.F * out_plane,
             after(o.dw, group * shape.F * shape.C * shape.taps())},
            sums,
            cut};
  }

  TileShape shape{this->choice.request.shape};  // of a group
  const GradientTile<T>& tile = *with_tile<T, false>(
      this->choice.request, [](auto chosen) { return &gradient_tile<T, decltype(chosen)>; });
  TileSums<T> sums{shape, tile};
  TileCut cut = tile_cut(shape, tile, sums);
};

}  // namespace

template <class T>
OwnedGradientPlan<T> winograd_weight_gradient(const ConvChoice& choice) {
  return OwnedGradientPlan<T>(new WinogradGradientPlan<T>(choice));
}

template OwnedGradientPlan<float> winograd_weight_gradient(const ConvChoice&);
template OwnedGradientPlan<double> winograd_weight_gradient(const ConvChoice&);

}  // namespace cnnlib::CNNLIB_ISA
