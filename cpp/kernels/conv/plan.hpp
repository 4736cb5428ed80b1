// The table of methods: how each pass of a convolution can be computed, what each method fits and costs.
// `auto` takes the cheapest that fits; there is no other place where a method is chosen. A new one is a
// function that makes its plans, and a row.
#pragma once

#include "kernels/conv/costs.hpp"
#include "kernels/conv/matrix.hpp"
#include "kernels/conv/method.hpp"

namespace cnnlib::CNNLIB_ISA {

// The functions that make plans. Each stands in the unit of its folder (direct/direct.cpp), which is compiled
// by itself.
//
// direct/: for every stride, padding, dilation and grouping. Lanes are output positions, or filters.
template <class T>
OwnedPlan<T> pixel_lanes(const ConvChoice&);
template <class T>
OwnedPlan<T> filter_lanes(const ConvChoice&);
// Both, for 1x1 kernels of many channels.
template <class T>
OwnedPlan<T> position_panels(const ConvChoice&);
// dx of few channels.
template <class T>
OwnedPlan<T> col2im(const ConvChoice&);

// weight_gradient/: dw with positions as the long inner dimension of the micro-kernel.
//
//   dw[f, c, a, b] = sum over images and output positions of dout[n, f, i, j] * x[n, c](tap a, b of i, j)
//
// Lanes are channels, rows filters.
template <class T>
OwnedGradientPlan<T> shared_panels(const ConvChoice&);
// Lanes are positions.
template <class T>
OwnedGradientPlan<T> dot_products(const ConvChoice&);
// Lanes are filters, rows neighbouring taps.
template <class T>
OwnedGradientPlan<T> tap_rows(const ConvChoice&);

// winograd/: tiles in two dimensions. The plan of dw has a unit of its own, winograd/weight_gradient.cpp.
template <class T>
OwnedPlan<T> winograd(const ConvChoice&);
template <class T>
OwnedGradientPlan<T> winograd_weight_gradient(const ConvChoice&);

// winograd_rows/: tiles along rows, for the forward pass and dw.
template <class T>
OwnedPlan<T> winograd_rows(const ConvChoice&);
template <class T>
OwnedGradientPlan<T> winograd_rows_gradient(const ConvChoice&);

// depthwise/: every channel has F / C filters of its own.
//
//   x (N, C, H, W)   w (F, 1, KH, KW)   b (F,)   out, dout (N, F, OH, OW)
//
// Lanes are neighbouring columns of a plane (planes.hpp), for 3x3 filters, or channels (channel_stencil.hpp).
template <class T>
OwnedPlan<T> depthwise(const ConvChoice&);
template <class T>
OwnedGradientPlan<T> depthwise_weight_gradient(const ConvChoice&);
template <class T>
OwnedGradientPlan<T> depthwise_gradients(const ConvChoice&);

// reshaped/: the convolution as another one, which is planned in its turn.
//
// A 1x1 convolution of the points that windows read.
template <class T>
OwnedPlan<T> gathered(const ConvChoice&);
template <class T>
OwnedGradientPlan<T> gathered_weight_gradient(const ConvChoice&);
template <class T>
double cost_gathered(const ConvRequest&, Pass);

// A kernel as high or as wide as the image: a convolution of one row.
template <class T>
OwnedPlan<T> single_row(const ConvChoice&);
template <class T>
OwnedGradientPlan<T> single_row_gradient(const ConvChoice&);
template <class T>
double cost_single_row(const ConvRequest&, Pass);

// A method, the requests that it fits, its cost for one image in vector multiply-adds (rates.hpp), and the
// plans that it makes, null where it computes no such pass.
template <class T>
struct ConvMethod {
  Method method;
  bool (*fits)(const ConvRequest&, Pass);
  double (*cost)(const ConvRequest&, Pass);
  OwnedPlan<T> (*correlation)(const ConvChoice&);  // the forward pass and dx
  OwnedGradientPlan<T> (*weight_gradient)(const ConvChoice&);
  bool adds = false;                                                   // the correlation takes Epilogue::add
  OwnedGradientPlan<T> (*all_gradients)(const ConvChoice&) = nullptr;  // dx, dw and db in one pass

  bool computes(const ConvRequest& r, Pass pass) const {
    return (pass == Pass::weight_gradient ? weight_gradient != nullptr : correlation != nullptr) &&
           (adds || !r.adds) && fits(r, pass);
  }
};

constexpr bool adds = true, not_adding = false;

template <class T>
inline constexpr ConvMethod<T> conv_methods[] = {
    {Method::matrix_product, &fits_matrix_product, &cost_matrix_product<T>, &matrix_correlation<T>,
     &matrix_weight_gradient<T>},
    {Method::depthwise_rows, &fits_depthwise_planes, &cost_depthwise_planes<T>, &depthwise<T>,
     &depthwise_weight_gradient<T>, not_adding, &depthwise_gradients<T>},
    {Method::depthwise_channels, &fits_depthwise, &cost_depthwise_channels<T>, &depthwise<T>,
     &depthwise_weight_gradient<T>, not_adding, &depthwise_gradients<T>},
    {Method::winograd, &fits_winograd<T>, &cost_winograd<T>, &winograd<T>, &winograd_weight_gradient<T>,
     adds},
    {Method::winograd_rows, &fits_winograd_rows<T>, &cost_winograd_rows<T>, &winograd_rows<T>,
     &winograd_rows_gradient<T>},
    {Method::pixel_lanes, &fits_any, &cost_pixel_lanes<T>, &pixel_lanes<T>, nullptr, adds},
    {Method::filter_lanes, &fits_any, &cost_filter_lanes<T>, &filter_lanes<T>, nullptr, adds},
    {Method::position_panels, &fits_position_panels, &cost_position_panels<T>, &position_panels<T>, nullptr,
     adds},
    {Method::gathered, &fits_gathered<T>, &cost_gathered<T>, &gathered<T>, &gathered_weight_gradient<T>},
    {Method::single_row, &fits_single_row, &cost_single_row<T>, &single_row<T>, &single_row_gradient<T>},
    {Method::col2im, &fits_col2im<T>, &cost_col2im<T>, &col2im<T>, nullptr},
    {Method::dot_products, &fits_dot_products<T>, &cost_dot_products<T>, nullptr, &dot_products<T>},
    {Method::tap_rows, &fits_tap_rows<T>, &cost_tap_rows<T>, nullptr, &tap_rows<T>},
    {Method::shared_panels, &fits_any, &cost_shared_panels<T>, nullptr, &shared_panels<T>},
};

// Null for the two wishes, 'auto' and 'direct'.
template <class T>
const ConvMethod<T>* row_of(Method method) {
  for (const auto& m : conv_methods<T>)
    if (m.method == method) return &m;
  return nullptr;
}

// Whether a method can compute a pass.
template <class T>
bool fits(const ConvRequest& r, Pass pass, Method method) {
  const ConvMethod<T>* row = row_of<T>(method);
  return row != nullptr && row->computes(r, pass);
}

// The methods that fit, from the cheapest on, and what they cost in cycles. Returns their number.
template <class T>
[[gnu::noinline]] int plan_costs(const ConvRequest& r, Pass pass, ConvCosts& costs) {
  int count = 0;
  for (const auto& m : conv_methods<T>) {
    if (!m.computes(r, pass)) continue;
    const ConvCost cost{m.method, m.cost(r, pass) / Rates::set.fmas_per_cycle};
    int at = count++;
    for (; at > 0 && costs[at - 1].cycles > cost.cycles; --at) costs[at] = costs[at - 1];
    costs[at] = cost;
  }
  return count;
}

// The method that a pass takes.
template <class T>
[[gnu::noinline]] ConvChoice choose_method(const ConvRequest& r, Pass pass) {
  ConvCosts costs;
  const int count = plan_costs<T>(r, pass, costs);
  const bool named = fits<T>(r, pass, r.wish);
  const auto is_winograd = [](Method m) { return m == Method::winograd || m == Method::winograd_rows; };
  int i = 0;
  while (i < count &&
         (named ? costs[i].method != r.wish : r.wish == Method::direct && is_winograd(costs[i].method)))
    ++i;
  const ConvCost& chosen = costs[i < count ? i : 0];
  const ConvMethod<T>& row = *row_of<T>(chosen.method);
  return {r, pass, chosen.method, chosen.cycles, row.all_gradients != nullptr};
}

// A plan of the forward pass, or of dx, whatever the request's number of images.
template <class T>
[[gnu::noinline]] OwnedPlan<T> make_plan(ConvRequest r, Pass pass) {
  r.shape.N = 1;
  const ConvChoice choice = choose_method<T>(r, pass);
  return row_of<T>(choice.method)->correlation(choice);
}
template <class T>
[[gnu::noinline]] OwnedGradientPlan<T> make_gradient_plan(const ConvRequest& r) {
  const ConvChoice choice = choose_method<T>(r, Pass::weight_gradient);
  return row_of<T>(choice.method)->weight_gradient(choice);
}

}  // namespace cnnlib::CNNLIB_ISA
