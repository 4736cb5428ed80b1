// A convolution whose kernel covers the image, once: an affine layer, whose D = C * KH * KW values of an
// image meet weights (F, D).
#pragma once

#include "kernels/conv/method.hpp"
#include "kernels/gemm/operands.hpp"

namespace cnnlib::CNNLIB_ISA {

inline Index image_values(const ConvShape& s) { return s.C * s.KH * s.KW; }

// The product that a plan's pass is, of operands that may be null.
template <class T>
MatrixProduct<T> product_of(const ConvPlan& plan, const ConvOperands<T>& o, const T* bias) {
  const ConvShape& s = plan.shape;
  const Index D = image_values(s);
  const auto& activation = o.epilogue.activation;
  if (plan.pass == Pass::forward) return {{o.in, D, 1}, {o.w, 1, D}, bias, activation, o.out, s.N, s.F, D};
  return {{o.in, s.F, 1}, {o.w, D, 1}, bias, activation, o.out, s.N, D, s.F};
}
template <class T>
MatrixProduct<T> product_of(const ConvPlan& plan, const WeightGradientOperands<T>& o) {
  const ConvShape& s = plan.shape;
  const Index D = image_values(s);
  return {{o.dout, 1, s.F}, {o.x, D, 1}, nullptr, {}, o.dw, s.F, D, s.N};
}

template <class T>
void describe_matrix(ConvPlan& plan, const MatrixProduct<T>& product) {
  fill_in(plan, {max_rows, tile_lanes<T>}, product.threads(), {{"terms", product.sum.most()}});
  plan.scratch_bytes = matrix_product(product);
}

// dx starts from the bias of a channel in each of its pixels.
template <class T>
void run_matrix(const ConvPlan& plan, const ConvOperands<T>& o) {
  const T* bias = o.epilogue.bias;
  if (plan.pass == Pass::forward || bias == nullptr) return void(matrix_product(product_of(plan, o, bias)));
  const Index D = image_values(plan.shape), pixels = D / plan.shape.C;
  const ScratchArray<T> pixel_bias(D);
  for (Index d = 0; d < D; ++d) pixel_bias.data()[d] = bias[d / pixels];
  matrix_product<T>(product_of(plan, o, pixel_bias.data()));
}

template <class T>
CorrelationSteps<T> matrix_correlation() {
  return {[](ConvPlan& plan) { describe_matrix<T>(plan, product_of<T>(plan, {}, nullptr)); }, nullptr,
          &run_matrix<T>};
}
template <class T>
WeightGradientSteps<T> matrix_weight_gradient() {
  return {[](ConvPlan& plan) { describe_matrix<T>(plan, product_of<T>(plan, {})); },
          [](const ConvPlan& plan, const WeightGradientOperands<T>& o) {
            if (o.dw != nullptr) matrix_product(product_of(plan, o));
          }};
}

}  // namespace cnnlib::CNNLIB_ISA
