// A convolution whose kernel covers the image, once: an affine layer, whose D = C * KH * KW values of an
// image meet weights (F, D).
#pragma once

#include "kernels/conv/bias_gradient.hpp"
#include "kernels/conv/method.hpp"
#include "kernels/gemm/operands.hpp"

namespace cnnlib::CNNLIB_ISA {

inline Index image_values(const ConvShape& s) { return s.C * s.KH * s.KW; }

template <class T>
ConvExplanation explain_product(const MatrixProduct<T>& product) {
  ConvExplanation to{};
  fill_in(to, {MR, NR<T>}, product.threads(), {{"terms", product.sum.most()}});
  to.scratch_bytes = matrix_product(product);
  return to;
}

// The forward pass, or dx.
template <class T>
class MatrixPlan final : public ConvPlan<T> {
 public:
  explicit MatrixPlan(const ConvChoice& choice) : ConvPlan<T>(choice), s(choice.request.shape) {}

  void pack(const T*, T*) const override {}

  // dx starts from the bias of a channel in each of its pixels.
  void run(const ConvOperands<T>& o) const override {
    const T* bias = o.epilogue.bias;
    if (forward || bias == nullptr) return void(matrix_product(product_of(o, bias)));
    const Index D = image_values(s), pixels = D / s.C;
    const ScratchArray<T> pixel_bias(D);
    for (Index d = 0; d < D; ++d) pixel_bias.data()[d] = bias[d / pixels];
    matrix_product<T>(product_of(o, pixel_bias.data()));
  }

  [[gnu::cold]] ConvExplanation explain(Index N) const override {
    return explain_product(product_of({N}, nullptr));
  }

 private:
  MatrixProduct<T> product_of(const ConvOperands<T>& o, const T* bias) const {
    const Index D = image_values(s);
    const auto& activation = o.epilogue.activation;
    if (forward) return {{o.in, D, 1}, {o.w, 1, D}, bias, activation, o.out, o.N, s.F, D};
    return {{o.in, s.F, 1}, {o.w, D, 1}, bias, activation, o.out, o.N, D, s.F};
  }

  ConvShape s;
  bool forward = this->choice.pass == Pass::forward;
};

template <class T>
class MatrixGradientPlan final : public GradientPlan<T> {
 public:
  explicit MatrixGradientPlan(const ConvChoice& choice) : GradientPlan<T>(choice), s(choice.request.shape) {}

  void run(const GradientOperands<T>& o) const override {
    if (o.dw != nullptr) matrix_product(product_of(o));
    bias_gradient(s, o);
  }
  [[gnu::cold]] ConvExplanation explain() const override {
    ConvExplanation to = explain_product(product_of({}));
    to.scratch_bytes = std::max(to.scratch_bytes, bias_gradient_bytes(s));
    return to;
  }

 private:
  MatrixProduct<T> product_of(const GradientOperands<T>& o) const {
    const Index D = image_values(s);
    return {{o.dout, 1, s.F}, {o.x, D, 1}, nullptr, {}, o.dw, s.F, D, s.N};
  }

  ConvShape s;
};

template <class T>
OwnedPlan<T> matrix_correlation(const ConvChoice& choice) {
  return OwnedPlan<T>(new MatrixPlan<T>(choice));
}
template <class T>
OwnedGradientPlan<T> matrix_weight_gradient(const ConvChoice& choice) {
  return OwnedGradientPlan<T>(new MatrixGradientPlan<T>(choice));
}

}  // namespace cnnlib::CNNLIB_ISA
