// Convolution forward, dx, dw and db: plan, pack, run.
//
//   out[n, f] = b[f] + sum over c, kh, kw of w[f, c, kh, kw] * x[n, c](stride * o + dilation * k - pad)
#pragma once

#include "conv_plan.hpp"
#include "kernels/conv/bias_gradient.hpp"

namespace cnnlib::CNNLIB_ISA {

// What all threads take beside the arrays, packed weights included.
template <class T>
std::size_t conv_scratch_bytes(const ConvRequest&, Pass);
// The same of all gradients.
template <class T>
std::size_t gradient_scratch_bytes(const ConvRequest&);

// x (N, C, H, W), w (F, C / groups, KH, KW), b (F,) or null, out (N, F, OH, OW).
template <class T>
void conv_forward(const T* x, const T* w, const T* b, T* out, const ConvRequest&, const Clamp<T>&);

// With a bias, dx is the transposed convolution of dout.
template <class T>
void conv_backward(const GradientOperands<T>&, const ConvRequest&);

}  // namespace cnnlib::CNNLIB_ISA
