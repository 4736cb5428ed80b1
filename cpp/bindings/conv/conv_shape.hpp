// The request that arrays and a conv_param make, checked; errors name `function`.
#pragma once

#include "conv_param.hpp"

namespace cnnlib {

ConvRequest conv_request(Text function, const Floats& x, const Floats& w, const py::object& conv_param);

// The convolution whose input gradient a transposed convolution of x computes: their sizes swap roles.
ConvRequest conv_transpose_request(Text function, const Floats& x, const Floats& w,
                                   const py::object& conv_param);

// A plan to be kept.
template <class T>
std::shared_ptr<const ConvPlan<T>> planned(const Kernels<T>& kernels, const ConvRequest& request, Pass pass) {
  return std::shared_ptr<const ConvPlan<T>>(kernels.plan_conv(request, pass));
}

// Multiply-adds of the direct method.
inline double products(const ConvShape& s) {
  return double(s.N) * s.F * s.OH * s.OW * (s.C / s.groups) * s.KH * s.KW;
}

// A convolution as a layer, or a transposed one, which is the input gradient of the one that is asked for.
template <Direction direction>
struct ConvLayer {
  static constexpr bool transposed = direction == Direction::transposed;
  static constexpr Pass pass = transposed ? Pass::input_gradient : Pass::forward;
  ConvRequest request;
  Clamp<double> activation;
  std::array<Index, 3> in, out;  // channels, height and width of an image

  ConvLayer(Text function, const Floats& x, const Floats& w, const py::object& conv_param,
            const Clamp<double>& follows = {})
      : request(transposed ? conv_transpose_request(function, x, w, conv_param)
                           : conv_request(function, x, w, conv_param)),
        activation(follows),
        in{shape().C, shape().H, shape().W},
        out{shape().F, shape().OH, shape().OW} {
    if (transposed) std::swap(in, out);
    require(!transposed || !activation.changes(), function, ": a transposed convolution has no activation");
  }
  // The same of N images.
  ConvLayer of(Index N) const {
    ConvLayer layer = *this;
    layer.request.shape.N = N;
    return layer;
  }
  const ConvShape& shape() const { return request.shape; }
  std::array<Index, 4> out_shape() const { return {shape().N, out[0], out[1], out[2]}; }

  template <class Kernels>
  void forward(const Kernels& k, In x, In w, In b, Out y) const {
    if constexpr (transposed)
      k.conv_backward({nullptr, w, x, b, y, nullptr, nullptr}, request);
    else
      k.conv_forward(x, w, b, y, request, activation);
  }
  // The gradients may be null: not wanted.
  template <class Kernels>
  void backward(const Kernels& k, In dout, In x, In w, Out dx, Out dw, Out db) const {
    if constexpr (!transposed) return k.conv_backward({x, w, dout, nullptr, dx, dw, db}, request);
    if (dx) k.conv_forward(dout, w, nullptr, dx, request, Clamp<double>{});
    if (dw) k.conv_backward({dout, nullptr, x, nullptr, nullptr, dw, nullptr}, request);
    if (db) k.bias_gradient(dout, db, shape().N, shape().C, shape().H * shape().W);
  }
};

[[gnu::cold]] void bind_conv_algorithm(py::module_& m);
[[gnu::cold]] void bind_prepared_conv(py::module_& m);

}  // namespace cnnlib
