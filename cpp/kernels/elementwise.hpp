// ReLU and its relatives. NaN stays NaN.
#pragma once

#include "../parallel.hpp"

namespace cnnlib::CNNLIB_ISA {

constexpr Index elementwise_slice = 1 << 15;

// out = x where x > 0 or NaN, else 0.
template <class T>
void relu_forward(const T* x, T* out, Index n) {
  parallel_ranges(n, elementwise_slice, 1, [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) out[i] = x[i] < T(0) ? T(0) : x[i];
  });
}

// dx = 0 where x <= 0, else dout.
template <class T>
void relu_backward(const T* dout, const T* x, T* dx, Index n) {
  parallel_ranges(n, elementwise_slice, 1, [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) {
      const T g = dout[i];  // read in any case, or the loop branches
      dx[i] = x[i] <= T(0) ? T(0) : g;
    }
  });
}

// out = x where x > 0, else alpha * x.
template <class T>
void leaky_relu_forward(const T* x, T* out, T alpha, Index n) {
  parallel_ranges(n, elementwise_slice, 1, [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) out[i] = x[i] > T(0) ? x[i] : alpha * x[i];
  });
}

template <class T>
void leaky_relu_backward(const T* dout, const T* x, T* dx, T alpha, Index n) {
  parallel_ranges(n, elementwise_slice, 1, [&](Index begin, Index end) {
    for (Index i = begin; i < end; ++i) dx[i] = x[i] > T(0) ? dout[i] : alpha * dout[i];
  });
}

}  // namespace cnnlib::CNNLIB_ISA
