// Correlation: chooses what the vector lanes are.
#pragma once

#include "kernels/conv/direct/filter_lanes.hpp"
#include "kernels/conv/direct/pixel_lanes.hpp"

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

// Whether the weights of one channel outweigh its input, `positions` in all images, and every thread has
// whole panels of filters.
template <class T>
bool filters_outweigh_input(Index filters, Index taps, Index positions, int threads) {
  return filters >= threads * 8 * Simd<T>::size && filters * taps > positions;
}

// body(correlation) for p, or for some of its filters on each thread, which then packs none that another
// uses: where it is expensive to read what others packed, and there are many filters.
template <class T, class Body>
void by_filters(const Correlation<T>& p, const Body& body) {
  constexpr Index unit = 4 * Simd<T>::size;  // the widest panel, so that all panels stay the same
  const Index taps = p.rows.count * p.cols.count;
  const int threads = threads_for(p.work());
  if (threads == 1 || p.groups > 1 || !filters_outweigh_input<T>(p.F, taps, p.N * p.H * p.W, threads) ||
      !sharing_is_expensive(threads))
    return body(p);
  const Panels parts(p.F / unit, (p.F / unit + threads - 1) / threads);
  each_on_its_own(parts.count, threads, [&](Index part) {
    Correlation<T> q = p;
    const Index first = parts.first(part) * unit;
    q.F = part + 1 < parts.count ? parts.rows(part) * unit : p.F - first;
    q.w += first * p.w_filter;
    q.out += first * p.out_plane;
    if (q.bias != nullptr) q.bias += first;
    body(q);
  });
}

// `pointwise`: a 1x1 kernel at stride 1 without padding.
template <class T>
void correlate(Correlation<T> p, bool pointwise) {
  if (p.N == 0 || p.F == 0 || p.OH == 0 || p.OW == 0) return;
  const bool lanes_are_filters = filters_in_lanes(p);  // has to see one image: no result depends on the batch
  if (pointwise) flatten(p);
  by_filters(p, [&](const Correlation<T>& part) {
    if (lanes_are_filters)
      correlate_filters(part);
    else
      correlate_pixels(part);
  });
}

}  // namespace cnnlib::CNNLIB_ISA
