// The table of methods: how each pass of a convolution can be computed, what each method fits and costs.
// `auto` takes the cheapest that fits; there is no other place where a method is chosen. A new one is a new
// row.
#pragma once

#include "kernels/conv/bias_gradient.hpp"
#include "kernels/conv/costs.hpp"
#include "kernels/conv/matrix.hpp"
#include "kernels/conv/units.hpp"

namespace cnnlib::CNNLIB_ISA {

// A method, the passes that it fits, its cost for one image in vector multiply-adds (rates.hpp), and its
// steps, null where it has none.
template <class T>
struct ConvMethod {
  Method method;
  bool (*fits)(const ConvShape&, Pass);
  double (*cost)(const ConvShape&, Pass);
  CorrelationSteps<T> (*correlation)();
  WeightGradientSteps<T> (*weight_gradient)();

  bool computes(const ConvShape& s, Pass pass) const {
    return (pass == Pass::weight_gradient ? weight_gradient != nullptr : correlation != nullptr) &&
           fits(s, pass);
  }
};

// The steps of a class of a plan, which makes another convolution.
template <class T, template <class> class Reshaped>
CorrelationSteps<T> reshaped_correlation() {
  return {[](ConvPlan& plan) { Reshaped<T>(plan).describe(plan); },
          [](const ConvPlan& plan, const T* w, T* packed) { Reshaped<T>(plan).pack(w, packed); },
          [](const ConvPlan& plan, const ConvOperands<T>& o) { Reshaped<T>(plan).run(o); }};
}
template <class T, template <class> class Reshaped, bool makes_db>
WeightGradientSteps<T> reshaped_weight_gradient() {
  return {[](ConvPlan& plan) { Reshaped<T>(plan).describe(plan); },
          [](const ConvPlan& plan, const WeightGradientOperands<T>& o) { Reshaped<T>(plan).run(o); },
          makes_db};
}

template <class T>
inline constexpr ConvMethod<T> conv_methods[] = {
    {Method::matrix_product, &fits_matrix_product, &cost_matrix_product<T>, &matrix_correlation<T>,
     &matrix_weight_gradient<T>},
    {Method::depthwise_rows, &fits_depthwise_planes, &cost_depthwise_planes<T>, &depthwise<T>,
     &depthwise_weight_gradient<T>},
    {Method::depthwise_channels, &fits_depthwise, &cost_depthwise_channels<T>, &depthwise<T>,
     &depthwise_weight_gradient<T>},
    {Method::winograd, &fits_winograd, &cost_winograd<T>, &winograd<T>, &winograd_weight_gradient<T>},
    {Method::winograd_rows, &fits_winograd_rows<T>, &cost_winograd_rows<T>, &winograd_rows<T>,
     &winograd_rows_gradient<T>},
    {Method::pixel_lanes, &fits_any, &cost_pixel_lanes<T>, &pixel_lanes<T>, nullptr},
    {Method::filter_lanes, &fits_any, &cost_filter_lanes<T>, &filter_lanes<T>, nullptr},
    {Method::position_panels, &fits_position_panels, &cost_position_panels<T>, &position_panels<T>, nullptr},
    {Method::gathered, &fits_gathered<T>, &cost_gathered<T>, &reshaped_correlation<T, Gathered>,
     &reshaped_weight_gradient<T, Gathered, false>},
    {Method::single_row, &fits_single_row, &cost_single_row<T>, &reshaped_correlation<T, SingleRow>,
     &reshaped_weight_gradient<T, SingleRow, true>},
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
bool fits(const ConvShape& s, Pass pass, Method method) {
  const ConvMethod<T>* row = row_of<T>(method);
  return row != nullptr && row->computes(s, pass);
}

// The methods that fit, from the cheapest on, and what they cost in cycles. Returns their number.
template <class T>
int plan_costs(const ConvShape& s, Pass pass, ConvCosts& costs) {
  int count = 0;
  for (const auto& m : conv_methods<T>) {
    if (!m.computes(s, pass)) continue;
    const ConvCost cost{m.method, m.cost(s, pass) / Rates::fmas_per_cycle};
    int at = count++;
    for (; at > 0 && costs[at - 1].cycles > cost.cycles; --at) costs[at] = costs[at - 1];
    costs[at] = cost;
  }
  return count;
}

// The method that a pass takes.
template <class T>
ConvCost choose_method(const ConvShape& s, Pass pass) {
  const Method wish = s.algorithm;
  ConvCosts costs;
  const int count = plan_costs<T>(s, pass, costs);
  const bool named = fits<T>(s, pass, wish);
  const auto is_winograd = [](Method m) { return m == Method::winograd || m == Method::winograd_rows; };
  for (int i = 0; i < count; ++i)
    if (named ? costs[i].method == wish : wish != Method::direct || !is_winograd(costs[i].method))
      return costs[i];
  return costs[0];
}

// The plan of a pass, without what `describe` adds for people and for those who keep packed weights. Choices
// are remembered: small convolutions take no longer than choosing.
template <class T>
ConvPlan plan_conv(const ConvShape& s, Pass pass) {
  struct Choice {
    ConvShape shape;
    Pass pass;
    ConvCost chosen;
  };
  constexpr std::size_t size = 64;
  static thread_local Choice choices[size];
  const std::size_t key = static_cast<std::size_t>(s.C * 31 + s.F * 17 + s.H * 7 + s.KH * 5 + s.stride_h * 3 +
                                                   static_cast<Index>(pass) * 11 + s.N);
  Choice& known = choices[key % size];
  if (known.pass != pass || !same_shape(known.shape, s) || known.chosen.method == Method::automatic)
    known = {s, pass, choose_method<T>(s, pass)};
  ConvPlan plan{};
  plan.shape = s;
  plan.pass = pass;
  plan.method = known.chosen.method;
  plan.cost = known.chosen.cycles;
  return plan;
}

// That of another convolution, which a method makes of its own.
template <class T>
ConvPlan plan_inner(const ConvPlan& outer, const ConvShape& s) {
  ConvPlan plan = plan_conv<T>(s, outer.pass);
  plan.prepacked = outer.prepacked;
  return plan;
}
// What such a method runs (conv.cpp).
template <class T>
void pack_conv(const ConvPlan&, const T* w, T* packed);
template <class T>
void run_conv(const ConvPlan&, const ConvOperands<T>&);
template <class T>
void run_weight_gradient(const ConvPlan&, const WeightGradientOperands<T>&);

// A plan with tile, blocks, threads and bytes.
template <class T>
ConvPlan describe_conv(ConvPlan plan) {
  const ConvMethod<T>& row = *row_of<T>(plan.method);
  if (plan.pass == Pass::weight_gradient) {
    const auto steps = row.weight_gradient();
    steps.describe(plan);
    const ConvShape& s = plan.shape;
    if (!steps.makes_db)
      plan.scratch_bytes = std::max(plan.scratch_bytes, bias_gradient_bytes(s.N, s.F, s.OH * s.OW));
  } else {
    const auto steps = row.correlation();
    steps.describe(plan);
    plan.adds = steps.adds;
  }
  return plan;
}

// Of the forward pass, or of dx, with weights that are packed once and kept.
template <class T>
ConvPlan plan_prepared_conv(const ConvShape& s, Pass pass) {
  ConvPlan plan = plan_conv<T>(s, pass);
  plan.prepacked = true;
  return describe_conv<T>(plan);
}

// The same in a network prepared for inference. Winograd's weights, of which a network has more than a cache
// holds, come from memory for every batch: the smaller tile has fewer, and at stride 2, where they are four
// times the direct methods', a single image waits for them and many are no faster (bench/NOTES.md).
template <class T>
ConvPlan plan_network_conv(const ConvShape& shape, Pass pass) {
  constexpr std::size_t most_cached_bytes = 8 << 20, most_strided_bytes = 16 << 20;
  ConvShape s = shape;
  s.N = 1;
  const ConvPlan plan = plan_prepared_conv<T>(s, pass);
  const bool strided = s.stride_h > 1;
  if (plan.method != Method::winograd ||
      plan.packed_bytes <= (strided ? most_strided_bytes : most_cached_bytes))
    return plan;
  if (!strided)
    s.few_weights = true;
  else if (s.algorithm == Method::automatic)
    s.algorithm = Method::direct;
  return plan_prepared_conv<T>(s, pass);
}

}  // namespace cnnlib::CNNLIB_ISA
