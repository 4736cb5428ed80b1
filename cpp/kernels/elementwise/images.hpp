// Images as they come from files.
#pragma once

#include <cstdint>

#include "shapes.hpp"

namespace cnnlib::CNNLIB_ISA {

// out[k][i] = (x[k][i] - mean[c]) / std[c] for the planes k of S pixels, of C channels c in turn.
template <class T>
void normalize_bytes(const std::uint8_t* x, const T* mean, const T* std, T* out, Index planes, Index C,
                     Index S) {
  for (Index k = 0; k < planes; ++k, x += S, out += S) {
    const T m = mean[k % C], s = std[k % C];
#pragma omp simd
    for (Index i = 0; i < S; ++i) out[i] = (T(x[i]) - m) / s;
  }
}

}  // namespace cnnlib::CNNLIB_ISA
