// Correlation: chooses what the vector lanes are.
#pragma once

#include "correlate_filters.hpp"
#include "correlate_pixels.hpp"

namespace cnnlib::CNNLIB_ISA {

// Lanes are filters where output positions would leave more of them empty. Tiles of filters are turned when
// they are written, which costs about as much as ten products.
template <class T>
bool filters_in_lanes(const Correlation<T>& p) {
  constexpr Index lanes = Simd<T>::size;
  const auto vectors = [](Index n) { return (n + lanes - 1) / lanes; };
  const double products = double(p.C) * p.rows.count * p.cols.count;
  const auto [low, high] = std::minmax_element(p.cols.at, p.cols.at + p.cols.count);
  const Index pitch = p.OW + (*high - *low) / p.cols.stride;
  const double by_position = double(std::min(p.OH * vectors(p.OW), vectors((p.OH - 1) * pitch + p.OW))) * p.F;
  const double by_filter = double(p.OH * p.OW) * vectors(p.F) * (1 + 10 / products);
  return by_filter < by_position;
}

// Positions without neighbours: a plane is one long row, and the batch the rows of one image.
template <class T>
void flatten(Correlation<T>& p) {
  p.W = p.OW = p.x_plane;
  p.H = p.OH = p.N;
  p.x_row = p.x_image;
  p.out_row = p.out_image;
  p.N = 1;
}

// `pointwise`: a 1x1 kernel at stride 1 without padding.
template <class T>
void correlate(Correlation<T> p, bool pointwise) {
  if (p.N == 0 || p.F == 0 || p.OH == 0 || p.OW == 0) return;
  const bool by_filters = filters_in_lanes(p);  // has to see one image: no result depends on the batch
  if (pointwise) flatten(p);
  if (by_filters)
    correlate_filters(p);
  else
    correlate_pixels(p);
}

}  // namespace cnnlib::CNNLIB_ISA
