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

// Multiply-adds of the direct method.
inline double products(const ConvShape& s) {
  return double(s.N) * s.F * s.OH * s.OW * (s.C / s.groups) * s.KH * s.KW;
}

}  // namespace cnnlib
