#include "kernels/conv/weight_gradient/weight_gradient.hpp"

#include "kernels/conv/weight_gradient/channel_lanes.hpp"
#include "kernels/conv/weight_gradient/shared_panels.hpp"
#include "kernels/conv/weight_gradient/tap_rows.hpp"

namespace cnnlib::CNNLIB_ISA {
namespace {

// Positions of a block whose packed dout stays in the first-level cache, and where all channels share it.
constexpr Index block_positions = 256, shared_block_positions = 1024;

// body(gradient) with the sizes of a call.
template <class T, class Body>
void with_gradient(const ConvShape& s, const Body& body) {
  Layout layout;
  const auto piece = layout.array<Index>(WeightGradient<T>::axis_indices(s));
  const Scratch scratch(layout.bytes());
  WeightGradient<T> gradient(s, piece.in(scratch.data()));
  body(gradient);
}

template <class T>
void describe_blocks(ConvPlan& plan, const WeightGradient<T>& g, Index rows, Index columns) {
  plan.tile_rows = rows;
  plan.tile_columns = columns;
  plan.threads = threads_for(g.work());
  name_blocks(plan, {{"images", g.positions.images},
                     {"output rows", g.positions.rows},
                     {"output columns", g.positions.cols}});
}

}  // namespace

template <class T>
void run_channel_lanes(const ConvPlan& plan, const WeightGradientOperands<T>& o) {
  if (o.dw == nullptr) return;
  const ConvShape& s = plan.shape;
  with_gradient<T>(s, [&](WeightGradient<T>& g) {
    g.set_blocks(PositionBlocks::choose(s.N, g.OH, g.OW, block_positions));
    if (g.C <= Simd<T>::size)
      weights_with_channel_lanes<T, 1>(g, o.x, o.dout, o.dw);
    else
      weights_with_channel_lanes<T, tile_vectors>(g, o.x, o.dout, o.dw);
  });
}
template <class T>
void describe_channel_lanes(ConvPlan& plan) {
  with_gradient<T>(plan.shape, [&](WeightGradient<T>& g) {
    g.set_blocks(PositionBlocks::choose(g.s.N, g.OH, g.OW, block_positions));
    describe_blocks(plan, g, Panels(g.F).rows(0),
                    std::min(round_up(g.C, Simd<T>::size), Index{tile_lanes<T>}));
  });
}

template <class T>
void run_shared_panels(const ConvPlan& plan, const WeightGradientOperands<T>& o) {
  if (o.dw == nullptr) return;
  const ConvShape& s = plan.shape;
  with_gradient<T>(s, [&](WeightGradient<T>& g) {
    g.set_blocks(PositionBlocks::choose(s.N, g.OH, g.OW, shared_block_positions));
    weights_with_shared_panels(g, o.x, o.dout, o.dw);
  });
}
template <class T>
void describe_shared_panels(ConvPlan& plan) {
  with_gradient<T>(plan.shape, [&](WeightGradient<T>& g) {
    g.set_blocks(PositionBlocks::choose(g.s.N, g.OH, g.OW, shared_block_positions));
    describe_blocks(plan, g, Panels(g.F).rows(0), tile_lanes<T>);
  });
}

template <class T>
void run_tap_rows(const ConvPlan& plan, const WeightGradientOperands<T>& o) {
  with_gradient<T>(plan.shape,
                   [&](WeightGradient<T>& g) { weights_with_tap_rows(g, o.x, o.dout, o.dw, o.db); });
}
template <class T>
void describe_tap_rows(ConvPlan& plan) {
  with_gradient<T>(plan.shape, [&](WeightGradient<T>& g) {
    const TapRows<T> t(g);
    g.set_blocks(PositionBlocks::choose(g.s.N, g.OH, g.OW, t.most_positions));
    describe_blocks(plan, g, t.columns.rows(0), t.width);
  });
}

#define INSTANTIATE(T)                                                                \
  template void run_channel_lanes(const ConvPlan&, const WeightGradientOperands<T>&); \
  template void run_shared_panels(const ConvPlan&, const WeightGradientOperands<T>&); \
  template void run_tap_rows(const ConvPlan&, const WeightGradientOperands<T>&);      \
  template void describe_channel_lanes<T>(ConvPlan&);                                 \
  template void describe_shared_panels<T>(ConvPlan&);                                 \
  template void describe_tap_rows<T>(ConvPlan&);
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace cnnlib::CNNLIB_ISA
