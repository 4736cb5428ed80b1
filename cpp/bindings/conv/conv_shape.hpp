// The shape of a convolution from its arrays and conv_param, checked; errors name `function`.
#pragma once

#include "conv_param.hpp"

namespace cnnlib {

ConvShape conv_shape(Text function, const Floats& x, const Floats& w, const py::object& conv_param);

// The convolution whose input gradient a transposed convolution of x computes: their sizes swap roles.
ConvShape conv_transpose_shape(Text function, const Floats& x, const Floats& w, const py::object& conv_param);

// The same of N images.
inline ConvShape of_images(ConvShape s, Index N) {
  s.N = N;
  return s;
}

// A ConvEpilogue of either type.
struct Epilogue {
  In b;
  bool add, relu;
  double most = HUGE_VAL;

  template <class T>
  operator ConvEpilogue<T>() const {
    return {b, add, relu, static_cast<T>(most)};
  }
};

// Multiply-adds of the direct method.
inline double products(const ConvShape& s) {
  return double(s.N) * s.F * s.OH * s.OW * (s.C / s.groups) * s.KH * s.KW;
}

// A transposed convolution's gradients, each null unless it is wanted.
template <class Kernels>
void run_conv_transpose_backward(const Kernels& k, In dout, In x, In w, Out dx, Out dw, Out db,
                                 const ConvShape& s) {
  if (dx) k.conv_forward(dout, w, nullptr, dx, s, false);
  if (dw) k.conv_backward(dout, nullptr, x, nullptr, nullptr, dw, nullptr, s);
  if (db) k.bias_gradient(dout, db, s.N, s.C, s.H * s.W);
}

[[gnu::cold]] void bind_conv_algorithm(py::module_& m);
[[gnu::cold]] void bind_prepared_conv(py::module_& m);

}  // namespace cnnlib
