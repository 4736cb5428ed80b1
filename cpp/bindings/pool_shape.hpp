// The shape of pooling from an array and the parameters, checked; errors name `function`.
#pragma once

#include <array>

#include "arrays.hpp"

namespace cnnlib {

// PH, PW, stride_h, stride_w, pad_top, pad_bottom, pad_left, pad_right, dilation_h, dilation_w
using PoolGeometry = std::array<Index, 10>;

PoolShape pool_shape(const char* function, const py::array& x, const PoolGeometry& g, bool ceil_mode,
                     bool count_include_pad);

// The bytes of a winner of max pooling, a position in the window or the type's largest number.
inline Index winner_bytes(const PoolShape& s) { return s.PH * s.PW >= UINT8_MAX ? 4 : 1; }

template <class T>
void run_max_pool(const Kernels<T>& k, const T* x, T* out, void* winners, const PoolShape& s) {
  if (winner_bytes(s) == 4)
    k.max_pool_forward_wide(x, out, static_cast<std::uint32_t*>(winners), s);
  else
    k.max_pool_forward(x, out, static_cast<std::uint8_t*>(winners), s);
}

template <class T>
void run_max_pool_backward(const Kernels<T>& k, const T* dout, const void* winners, T* dx,
                           const PoolShape& s) {
  if (winner_bytes(s) == 4)
    k.max_pool_backward_wide(dout, static_cast<const std::uint32_t*>(winners), dx, s);
  else
    k.max_pool_backward(dout, static_cast<const std::uint8_t*>(winners), dx, s);
}

}  // namespace cnnlib
