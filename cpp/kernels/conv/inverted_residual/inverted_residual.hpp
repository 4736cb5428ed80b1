// An inverted residual in one pass, for inference: the hidden channels, many times as many as those of x and
// out, stay in the caches (Sandler et al. 2018, arXiv:1801.04381, section 5.1).
//
//   hidden = act(x * expand + b)            (N, hidden, H, W)     1x1
//   middle = act(hidden * depthwise + b)    (N, hidden, OH, OW)
//   out    = act(middle * project + b + other)                    1x1
#pragma once

#include "kernels.hpp"

namespace cnnlib::CNNLIB_ISA {

// Values of the packed weights.
template <class T>
Index inverted_residual_packed_size(const InvertedResidualShape&);
template <class T>
void pack_inverted_residual(const InvertedResidualShape&, const InvertedResidualLayers<T>&, T* packed);
template <class T>
void run_inverted_residual(const InvertedResidualShape&, const InvertedResidualLayers<T>&, const T* packed,
                           const T* x, const T* other, T* out);

}  // namespace cnnlib::CNNLIB_ISA
