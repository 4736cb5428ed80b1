// Convolution and its gradients by Winograd's method, group by group.
#pragma once

#include <type_traits>

#include "winograd_weights.hpp"

namespace cnnlib::CNNLIB_ISA {

// body(std::integral_constant<int, K>, group) for the kernel's size K and every group.
template <class Body>
void each_winograd_group(const ConvShape& s, const Body& body) {
  for (Index group = 0; group < s.groups; ++group)
    if (s.KH == 3)
      body(std::integral_constant<int, 3>(), group);
    else
      body(std::integral_constant<int, 5>(), group);
}

template <class T>
void forward_winograd(const T* x, const T* w, const T* b, T* out, const ConvShape& s, bool relu) {
  const Index C = s.C / s.groups, F = s.F / s.groups, taps = s.KH * s.KW;
  each_winograd_group(s, [&](auto K, Index group) {
    TileProblem<T> p;
    p.N = s.N;
    p.C = C;
    p.F = F;
    p.H = s.H;
    p.W = s.W;
    p.OH = s.OH;
    p.OW = s.OW;
    p.pad_top = s.pad_top;
    p.pad_left = s.pad_left;
    p.dilation_h = s.dilation_h;
    p.dilation_w = s.dilation_w;
    p.x = x + group * C * s.H * s.W;
    p.x_image = s.C * s.H * s.W;
    p.w = w + group * F * C * taps;
    p.w_filter = C * taps;
    p.w_channel = taps;
    p.flipped = false;
    p.bias = b != nullptr ? b + group * F : nullptr;
    p.relu = relu;
    p.out = out + group * F * s.OH * s.OW;
    p.out_image = s.F * s.OH * s.OW;
    correlate_tiles<T, K>(p);
  });
}

// The correlation of dout with the flipped filters, channels and filters in each other's place.
template <class T>
void input_gradient_winograd(const T* dout, const T* w, const T* b, T* dx, const ConvShape& s) {
  const Index C = s.C / s.groups, F = s.F / s.groups, taps = s.KH * s.KW;
  each_winograd_group(s, [&](auto K, Index group) {
    TileProblem<T> p;
    p.N = s.N;
    p.C = F;
    p.F = C;
    p.H = s.OH;
    p.W = s.OW;
    p.OH = s.H;
    p.OW = s.W;
    p.pad_top = s.dilation_h * (s.KH - 1) - s.pad_top;
    p.pad_left = s.dilation_w * (s.KW - 1) - s.pad_left;
    p.dilation_h = s.dilation_h;
    p.dilation_w = s.dilation_w;
    p.x = dout + group * F * s.OH * s.OW;
    p.x_image = s.F * s.OH * s.OW;
    p.w = w + group * F * C * taps;
    p.w_filter = taps;
    p.w_channel = C * taps;
    p.flipped = true;
    p.bias = b != nullptr ? b + group * C : nullptr;
    p.relu = false;
    p.out = dx + group * C * s.H * s.W;
    p.out_image = s.C * s.H * s.W;
    correlate_tiles<T, K>(p);
  });
}

template <class T>
void weight_gradient_winograd(const T* x, const T* dout, T* dw, const ConvShape& s) {
  const Index C = s.C / s.groups, F = s.F / s.groups;
  each_winograd_group(s, [&](auto K, Index group) {
    TileGradient<T> p;
    p.N = s.N;
    p.C = C;
    p.F = F;
    p.H = s.H;
    p.W = s.W;
    p.OH = s.OH;
    p.OW = s.OW;
    p.pad_top = s.pad_top;
    p.pad_left = s.pad_left;
    p.dilation_h = s.dilation_h;
    p.dilation_w = s.dilation_w;
    p.x = x + group * C * s.H * s.W;
    p.x_image = s.C * s.H * s.W;
    p.dout = dout + group * F * s.OH * s.OW;
    p.dout_image = s.F * s.OH * s.OW;
    p.dw = dw + group * F * C * s.KH * s.KW;
    weights_by_tiles<T, K>(p);
  });
}

}  // namespace cnnlib::CNNLIB_ISA
