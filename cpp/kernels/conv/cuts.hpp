// How a batch is cut into blocks of images, whose weight gradients are added in order. A cut follows from the
// shape and the type alone. kernels/cuts.cpp compiles this header where those of threads and of the machine
// are errors.
#pragma once

#include "shapes.hpp"

namespace cnnlib::CNNLIB_ISA {

// Images whose windows' points, `values` of each, are gathered at a time: they stay in the third-level cache.
constexpr Index most_gathered_bytes = 16 << 20;
template <class T>
Index gathered_images(Index N, Index values) {
  return std::clamp<Index>(most_gathered_bytes / Index(sizeof(T)) / values, 1, N);
}

// Images through whose batch norm and convolution gradients pass at a time. A block packs the weights anew
// and adds gradients of their size, so that its values are many times as many.
template <class T>
Index conv_norm_images(const ConvShape& s) {
  constexpr Index most_bytes = 8 << 20, most_weights = 16;
  const Index image = s.F * s.OH * s.OW, weights = s.F * (s.C / s.groups) * s.KH * s.KW;
  const Index most = std::max(most_bytes / Index(sizeof(T)), most_weights * weights);
  // Gradients of images of one value, a column each, are made for the whole batch at once.
  return s.N > 0 && image > s.F ? even_part(s.N, std::max<Index>(1, most / image)) : s.N;
}

}  // namespace cnnlib::CNNLIB_ISA
