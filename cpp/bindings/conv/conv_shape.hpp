// The shape of a convolution from its arrays and conv_param, checked; errors name `function`.
#pragma once

#include "conv_param.hpp"

namespace cnnlib {

ConvShape conv_shape(Text function, const Floats& x, const Floats& w, const py::object& conv_param);

// The convolution whose input gradient a transposed convolution of x computes: their sizes swap roles.
ConvShape conv_transpose_shape(Text function, const Floats& x, const Floats& w, const py::object& conv_param);

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

// A convolution as a layer, or a transposed one, which is the input gradient of a convolution of shape s.
template <Direction direction>
struct ConvLayer {
  static constexpr bool transposed = direction == Direction::transposed;
  static constexpr Pass pass = transposed ? Pass::input_gradient : Pass::forward;
  ConvShape s;
  std::array<Index, 3> in, out;  // channels, height and width of an image

  ConvLayer(Text function, const Floats& x, const Floats& w, const py::object& conv_param, bool relu = false)
      : s(transposed ? conv_transpose_shape(function, x, w, conv_param)
                     : conv_shape(function, x, w, conv_param)),
        in{s.C, s.H, s.W},
        out{s.F, s.OH, s.OW} {
    if (transposed) std::swap(in, out);
    require(!transposed || !relu, function, ": a transposed convolution has no ReLU");
  }
  // The same of N images.
  ConvLayer of(Index N) const {
    ConvLayer layer = *this;
    layer.s.N = N;
    return layer;
  }
  std::array<Index, 4> out_shape() const { return {s.N, out[0], out[1], out[2]}; }

  template <class Kernels>
  void forward(const Kernels& k, In x, In w, In b, Out y, bool relu) const {
    if constexpr (transposed)
      k.conv_backward(nullptr, w, x, b, y, nullptr, nullptr, s);
    else
      k.conv_forward(x, w, b, y, s, relu);
  }
  // The gradients may be null: not wanted.
  template <class Kernels>
  void backward(const Kernels& k, In dout, In x, In w, Out dx, Out dw, Out db) const {
    if constexpr (!transposed) return k.conv_backward(x, w, dout, nullptr, dx, dw, db, s);
    if (dx) k.conv_forward(dout, w, nullptr, dx, s, false);
    if (dw) k.conv_backward(dout, nullptr, x, nullptr, nullptr, dw, nullptr, s);
    if (db) k.bias_gradient(dout, db, s.N, s.C, s.H * s.W);
  }
};

[[gnu::cold]] void bind_conv_algorithm(py::module_& m);
[[gnu::cold]] void bind_prepared_conv(py::module_& m);

}  // namespace cnnlib
