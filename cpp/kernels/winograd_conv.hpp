// Convolution and its gradients by Winograd's method, group by group.
#pragma once

#include <type_traits>

#include "winograd_weights.hpp"

namespace cnnlib::CNNLIB_ISA {

// body(std::integral_constant<int, K>) for the kernel's size.
template <class Body>
void with_kernel_size(const ConvShape& s, const Body& body) {
  if (s.KH == 3)
    body(std::integral_constant<int, 3>());
  else
    body(std::integral_constant<int, 5>());
}

template <class T>
void forward_winograd(const T* x, const T* w, const T* b, T* out, const ConvShape& s, bool relu) {
  const Index C = s.C / s.groups, F = s.F / s.groups, taps = s.KH * s.KW;
  for (Index g = 0; g < s.groups; ++g)
    with_kernel_size(s, [&](auto K) {
      correlate_tiles<T, K>({s.N,
                             C,
                             F,
                             s.H,
                             s.W,
                             s.OH,
                             s.OW,
                             s.pad_top,
                             s.pad_left,
                             s.dilation_h,
                             s.dilation_w,
                             x + g * C * s.H * s.W,
                             s.C * s.H * s.W,
                             w + g * F * C * taps,
                             C * taps,
                             taps,
                             false,
                             b != nullptr ? b + g * F : nullptr,
                             relu,
                             out + g * F * s.OH * s.OW,
                             s.F * s.OH * s.OW});
    });
}

template <class T>
void input_gradient_winograd(const T* dout, const T* w, const T* b, T* dx, const ConvShape& s) {
  const Index C = s.C / s.groups, F = s.F / s.groups, taps = s.KH * s.KW;
  for (Index g = 0; g < s.groups; ++g)
    with_kernel_size(s, [&](auto K) {
      correlate_tiles<T, K>({s.N,
                             F,
                             C,
                             s.OH,
                             s.OW,
                             s.H,
                             s.W,
                             s.dilation_h * (K - 1) - s.pad_top,
                             s.dilation_w * (K - 1) - s.pad_left,
                             s.dilation_h,
                             s.dilation_w,
                             dout + g * F * s.OH * s.OW,
                             s.F * s.OH * s.OW,
                             w + g * F * C * taps,
                             taps,
                             C * taps,
                             true,
                             b != nullptr ? b + g * C : nullptr,
                             false,
                             dx + g * C * s.H * s.W,
                             s.C * s.H * s.W});
    });
}

template <class T>
void weight_gradient_winograd(const T* x, const T* dout, T* dw, const ConvShape& s) {
  const Index C = s.C / s.groups, F = s.F / s.groups, taps = s.KH * s.KW;
  for (Index g = 0; g < s.groups; ++g)
    with_kernel_size(s, [&](auto K) {
      weights_by_tiles<T, K>({s.N, C, F, s.H, s.W, s.OH, s.OW, s.pad_top, s.pad_left, s.dilation_h,
                              s.dilation_w, x + g * C * s.H * s.W, s.C * s.H * s.W,
                              dout + g * F * s.OH * s.OW, s.F * s.OH * s.OW, dw + g * F * C * taps});
    });
}

}  // namespace cnnlib::CNNLIB_ISA
