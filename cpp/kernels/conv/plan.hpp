// The table of methods: how each pass of a convolution can be computed, what each method fits and costs.
// `auto` takes the cheapest that fits; there is no other place where a method is chosen. A new one is a new
// row.
#pragma once

#include "kernels/conv/costs.hpp"
#include "kernels/conv/depthwise/depthwise.hpp"
#include "kernels/conv/direct/direct.hpp"
#include "kernels/conv/gathered.hpp"
#include "kernels/conv/matrix.hpp"
#include "kernels/conv/weight_gradient/weight_gradient.hpp"
#include "kernels/conv/winograd/winograd.hpp"
#include "kernels/conv/winograd_rows/winograd_rows.hpp"
#include "same_shape.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
inline constexpr CorrelationMethod<T> forward_methods[] = {
    {Method::matrix_product, &fits_matrix_product, &cost_matrix_product<T>, &describe_matrix<T>, false,
     nullptr, &run_matrix_forward<T>},
    {Method::depthwise_rows, &fits_depthwise_planes, &cost_depthwise_planes<T, Pass::forward>,
     &describe_depthwise<T>, false, nullptr, &run_depthwise_forward<T>},
    {Method::depthwise_channels, &fits_depthwise, &cost_depthwise_channels<T, Pass::forward>,
     &describe_depthwise<T>, false, nullptr, &run_depthwise_forward<T>},
    {Method::winograd, &fits_winograd, &cost_winograd<T, Pass::forward>, &describe_winograd<T>, true,
     &pack_winograd<T>, &run_winograd<T>},
    {Method::winograd_rows, &fits_winograd_rows<T>, &cost_winograd_rows<T>, &describe_winograd_rows<T>, false,
     &pack_winograd_rows<T>, &run_winograd_rows<T>},
    {Method::pixel_lanes, &fits_any, &cost_pixel_lanes<T, Pass::forward>, &describe_pixel_lanes<T>, true,
     &pack_pixel_lanes<T>, &run_pixel_lanes<T>},
    {Method::filter_lanes, &fits_any, &cost_filter_lanes<T, Pass::forward>, &describe_filter_lanes<T>, true,
     &pack_filter_lanes<T>, &run_filter_lanes<T>},
    {Method::position_panels, &fits_position_panels, &cost_position_panels<T, Pass::forward>,
     &describe_position_panels<T>, true, &pack_position_panels<T>, &run_position_panels<T>},
    {Method::gathered, &fits_gathered, &cost_gathered<T, Pass::forward>, &describe_gathered<T>, false,
     &pack_gathered<T>, &run_gathered<T>},
};

template <class T>
inline constexpr CorrelationMethod<T> input_gradient_methods[] = {
    {Method::matrix_product, &fits_matrix_product, &cost_matrix_product<T>, &describe_matrix<T>, false,
     nullptr, &run_matrix_input_gradient<T>},
    {Method::depthwise_rows, &fits_depthwise_planes, &cost_depthwise_planes<T, Pass::input_gradient>,
     &describe_depthwise<T>, false, nullptr, &run_depthwise_input_gradient<T>},
    {Method::depthwise_channels, &fits_depthwise, &cost_depthwise_channels<T, Pass::input_gradient>,
     &describe_depthwise<T>, false, nullptr, &run_depthwise_input_gradient<T>},
    {Method::winograd, &fits_winograd, &cost_winograd<T, Pass::input_gradient>, &describe_winograd<T>, true,
     &pack_winograd<T>, &run_winograd<T>},
    {Method::pixel_lanes, &fits_any, &cost_pixel_lanes<T, Pass::input_gradient>, &describe_pixel_lanes<T>,
     true, &pack_pixel_lanes<T>, &run_pixel_lanes<T>},
    {Method::filter_lanes, &fits_any, &cost_filter_lanes<T, Pass::input_gradient>, &describe_filter_lanes<T>,
     true, &pack_filter_lanes<T>, &run_filter_lanes<T>},
    {Method::position_panels, &fits_position_panels, &cost_position_panels<T, Pass::input_gradient>,
     &describe_position_panels<T>, true, &pack_position_panels<T>, &run_position_panels<T>},
    {Method::gathered, &fits_gathered, &cost_gathered<T, Pass::input_gradient>, &describe_gathered<T>, false,
     &pack_gathered<T>, &run_gathered_input_gradient<T>},
    {Method::col2im, &few_channels<T>, &cost_col2im<T>, &describe_col2im<T>, false, &pack_col2im<T>,
     &run_col2im<T>},
};

template <class T>
inline constexpr WeightGradientMethod<T> weight_gradient_methods[] = {
    {Method::matrix_product, &fits_matrix_product, &cost_matrix_product<T>, &describe_matrix<T>, false,
     &run_matrix_weight_gradient<T>},
    {Method::depthwise_rows, &fits_depthwise_planes, &cost_depthwise_planes<T, Pass::weight_gradient>,
     &describe_depthwise<T>, true, &run_depthwise_weight_gradient<T>},
    {Method::depthwise_channels, &fits_depthwise, &cost_depthwise_channels<T, Pass::weight_gradient>,
     &describe_depthwise<T>, true, &run_depthwise_weight_gradient<T>},
    {Method::winograd, &fits_winograd, &cost_winograd<T, Pass::weight_gradient>,
     &describe_winograd_weight_gradient<T>, false, &run_winograd_weight_gradient<T>},
    {Method::winograd_rows, &fits_winograd_rows_gradient<T>, &cost_winograd_rows_gradient<T>,
     &describe_winograd_rows_gradient<T>, true, &run_winograd_rows_gradient<T>},
    {Method::dot_products, &few_channels<T>, &cost_dot_products<T>, &describe_dot_products<T>, true,
     &run_dot_products<T>},
    {Method::shared_panels, &fits_any, &cost_shared_panels<T>, &describe_shared_panels<T>, false,
     &run_shared_panels<T>},
};

// body(methods) with the table of a pass.
template <class T, class Body>
auto with_methods(Pass pass, const Body& body) {
  switch (pass) {
    case Pass::forward:
      return body(forward_methods<T>);
    case Pass::input_gradient:
      return body(input_gradient_methods<T>);
    default:
      return body(weight_gradient_methods<T>);
  }
}

// Whether a method can compute a pass.
template <class T>
bool fits(const ConvShape& s, Pass pass, Method method) {
  return with_methods<T>(pass, [&](const auto& methods) {
    for (const auto& m : methods)
      if (m.method == method) return m.fits(s);
    return false;
  });
}

// The methods that fit, from the cheapest on, and what they cost, at most `most` of them. Returns their
// number.
template <class T>
int plan_costs(const ConvShape& s, Pass pass, ConvCost* costs, int most) {
  return with_methods<T>(pass, [&](const auto& methods) {
    int count = 0;
    for (const auto& m : methods) {
      if (!m.fits(s)) continue;
      const ConvCost cost{m.method, m.cost(s) / Rates::fmas_per_cycle};
      int at = std::min(count, most - 1);
      if (count == most && costs[at].cycles <= cost.cycles) continue;
      for (; at > 0 && costs[at - 1].cycles > cost.cycles; --at) costs[at] = costs[at - 1];
      costs[at] = cost;
      count = std::min(count + 1, most);
    }
    return count;
  });
}

constexpr int most_methods = static_cast<int>(Method::count);

inline bool is_winograd(Method method) {
  return method == Method::winograd || method == Method::winograd_rows;
}

// The method that a pass takes.
template <class T>
ConvCost choose_method(const ConvShape& s, Pass pass) {
  const Method wish = s.algorithm;
  ConvCost costs[most_methods];
  const int count = plan_costs<T>(s, pass, costs, most_methods);
  const bool named = wish != Method::automatic && wish != Method::direct && fits<T>(s, pass, wish);
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

// A plan with tile, blocks, threads and bytes.
template <class T>
ConvPlan describe_conv(ConvPlan plan) {
  with_methods<T>(plan.pass, [&](const auto& methods) {
    for (const auto& m : methods)
      if (m.method == plan.method) m.describe(plan);
    return 0;
  });
  return plan;
}

// Of the forward pass with weights that are packed once and kept.
template <class T>
ConvPlan plan_prepared_conv(const ConvShape& s) {
  ConvPlan plan = plan_conv<T>(s, Pass::forward);
  plan.prepacked = true;
  return describe_conv<T>(plan);
}

// The same in a network prepared for inference. Winograd's weights, of which a network has more than a cache
// holds, come from memory for every batch: the smaller tile has fewer, and at stride 2, where they are four
// times the direct methods', a single image waits for them and many are no faster (bench/NOTES.md).
template <class T>
ConvPlan plan_network_conv(const ConvShape& shape) {
  constexpr std::size_t most_cached_bytes = 8 << 20, most_strided_bytes = 16 << 20;
  ConvShape s = shape;
  s.N = 1;
  const ConvPlan plan = plan_prepared_conv<T>(s);
  const bool strided = s.stride_h > 1;
  if (plan.method != Method::winograd ||
      plan.packed_bytes <= (strided ? most_strided_bytes : most_cached_bytes))
    return plan;
  if (!strided)
    s.few_weights = true;
  else if (s.algorithm == Method::automatic)
    s.algorithm = Method::direct;
  return plan_prepared_conv<T>(s);
}

}  // namespace cnnlib::CNNLIB_ISA
