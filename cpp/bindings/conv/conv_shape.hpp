// The shape of a convolution from its arrays and conv_param, checked; errors name `function`.
#pragma once

#include "../arrays.hpp"
#include "conv_param.hpp"

namespace cnnlib {

template <class T>
ConvShape conv_shape(const char* function, const Array<T>& x, const Array<T>& w,
                     const py::object& conv_param);

// The convolution whose input gradient a transposed convolution of x computes: their sizes swap roles.
template <class T>
ConvShape conv_transpose_shape(const char* function, const Array<T>& x, const Array<T>& w,
                               const py::object& conv_param);

// The same of N images.
inline ConvShape of_images(ConvShape s, Index N) {
  s.N = N;
  return s;
}

// Multiply-adds of the direct method.
inline double products(const ConvShape& s) {
  return double(s.N) * s.F * s.OH * s.OW * (s.C / s.groups) * s.KH * s.KW;
}

// A transposed convolution's gradients, each null unless it is wanted.
template <class T>
void run_conv_transpose_backward(const T* dout, const T* x, const T* w, T* dx, T* dw, T* db,
                                 const ConvShape& s) {
  const Kernels<T>& k = kernels<T>();
  if (dx != nullptr) k.conv_forward(dout, w, nullptr, dx, s, false);
  if (dw != nullptr) k.conv_backward(dout, nullptr, x, nullptr, nullptr, dw, nullptr, s);
  if (db != nullptr) k.bias_gradient(dout, db, s.N, s.C, s.H * s.W);
}

}  // namespace cnnlib
