#include "kernels/conv/winograd/weight_gradient.hpp"

#include "kernels/conv/winograd/tile_choice.hpp"
#include "kernels/conv/winograd/winograd.hpp"

namespace cnnlib::CNNLIB_ISA {

namespace {

template <class T>
const GradientTile<T>& tile_of(const ConvShape& s) {
  return *with_tile<Pass::weight_gradient>(s, [](auto tile) { return &gradient_tile<T, decltype(tile)>; });
}

}  // namespace

template <class T>
void describe_winograd_weight_gradient(ConvPlan& plan) {
  const TileGradient<T> gradient{{TileShape(plan.shape), nullptr, 0}, nullptr, 0, nullptr};
  WinogradWeightGradient<T>(tile_of<T>(plan.shape), gradient).describe(plan);
}

template <class T>
void run_winograd_weight_gradient(const ConvPlan& plan, const WeightGradientOperands<T>& o) {
  if (o.dw == nullptr) return;
  const ConvShape& s = plan.shape;
  const TileShape shape(s);
  const Index plane = s.H * s.W, out_plane = s.OH * s.OW;
  for (Index group = 0; group < s.groups; ++group) {
    const TileGradient<T> gradient{{shape, o.x + group * shape.C * plane, s.C * plane},
                                   o.dout + group * shape.F * out_plane,
                                   s.F * out_plane,
                                   o.dw + group * shape.F * shape.C * s.KH * s.KW};
    WinogradWeightGradient<T>(tile_of<T>(s), gradient).run();
  }
}

#define INSTANTIATE(T)                                           \
  template void describe_winograd_weight_gradient<T>(ConvPlan&); \
  template void run_winograd_weight_gradient(const ConvPlan&, const WeightGradientOperands<T>&);
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace cnnlib::CNNLIB_ISA
