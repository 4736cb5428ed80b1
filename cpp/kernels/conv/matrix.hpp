// A convolution whose kernel covers the image, once: an affine layer, whose D = C * KH * KW values of an
// image meet weights (F, D).
#pragma once

#include "kernels/conv/method.hpp"
#include "kernels/gemm/operands.hpp"

namespace cnnlib::CNNLIB_ISA {

inline Index image_values(const ConvShape& s) { return s.C * s.KH * s.KW; }

template <class T>
void describe_matrix(ConvPlan& plan) {
  const ConvShape& s = plan.shape;
  const bool dw = plan.pass == Pass::weight_gradient;
  plan.tile_rows = max_rows;
  plan.tile_columns = tile_lanes<T>;
  plan.threads = threads_for(2.0 / 16 * double(s.N) * double(s.F) * double(image_values(s)));
  name_blocks(plan, {{"terms", std::min(dw ? s.N : image_values(s), MatrixProduct<T>::depth)}});
}

template <class T>
void run_matrix_forward(const ConvPlan& plan, const ConvOperands<T>& o) {
  const ConvShape& s = plan.shape;
  const Index D = image_values(s);
  matrix_product<T>({{o.in, D, 1}, {o.w, 1, D}, o.epilogue.bias, o.epilogue.activation, o.out, s.N, s.F, D});
}

// dx starts from the bias of a channel in each of its pixels.
template <class T>
void run_matrix_input_gradient(const ConvPlan& plan, const ConvOperands<T>& o) {
  const ConvShape& s = plan.shape;
  const Index D = image_values(s);
  const ScratchArray<T> memory(o.epilogue.bias != nullptr ? D : 0);
  T* bias = o.epilogue.bias != nullptr ? memory.data() : nullptr;
  for (Index d = 0; bias != nullptr && d < D; ++d) bias[d] = o.epilogue.bias[d / (s.KH * s.KW)];
  matrix_product<T>({{o.in, s.F, 1}, {o.w, D, 1}, bias, o.epilogue.activation, o.out, s.N, D, s.F});
}

template <class T>
void run_matrix_weight_gradient(const ConvPlan& plan, const WeightGradientOperands<T>& o) {
  const ConvShape& s = plan.shape;
  const Index D = image_values(s);
  if (o.dw == nullptr) return;
  matrix_product<T>({{o.dout, 1, s.F}, {o.x, D, 1}, nullptr, {}, o.dw, s.F, D, s.N});
}

}  // namespace cnnlib::CNNLIB_ISA
