// How the gradients of depthwise layers cut their sums over images and rows. Neighbouring outputs are summed
// in T, a few hundred vectors of them at a time, and these sums in double; parts are added in order. A cut
// follows from the shape and the instruction set alone. kernels/cuts.cpp compiles this header where those of
// threads and of the machine are errors.
#pragma once

#include "kernels/conv/depthwise/gradient_bands.hpp"

namespace cnnlib::CNNLIB_ISA {

constexpr Index most_depthwise_parts = 24;    // of the sums, for threads to share
constexpr Index depthwise_sum_vectors = 256;  // of dout, summed in T

// Channels in the lanes: images in bands of rows, and these in parts.
struct ChannelGradientCut {
  Index bands;       // of an image
  Index most_parts;  // of the sums

  // Bands of a part. Without sums each band is one.
  Index part_bands(Index N, bool sums) const { return sums ? ceil_div(N * bands, most_parts) : 1; }
};
template <class T>
ChannelGradientCut channel_gradient_cut(const ConvShape& s) {
  constexpr Index band_bytes = 192 << 10, vector_bytes = Simd<T>::bytes;
  const ChannelStencil<T> stencil(s);
  const GradientTaps dx_taps(s);
  // The same bands whatever is wanted: where sums are rounded follows from them.
  const Index bands = choose_bands(s, band_bytes, [&](const BandRows& rows) {
    return double(vector_bytes) * (double(stencil.x_rows(rows.out)) * double(stencil.x_width()) +
                                   double(rows.dout) * double(stencil.multiplier * dx_taps.width(s)) +
                                   double(rows.dx) * double(s.W));
  });
  return {bands, std::max<Index>(1, most_depthwise_parts / stencil.tasks)};
}

// Planes as they lie, lanes are neighbouring columns: some channels of a part of the images, and of each
// plane bands of rows, which stay in the second-level cache with what they fetch of the next one.
struct PlaneGradientCut {
  static constexpr Index most_channels = 16;
  Index channels, groups;   // of a task; in all
  Index most_parts;         // of the images
  Index dx_band, out_band;  // rows
};
inline PlaneGradientCut plane_gradient_cut(const ConvShape& s) {
  constexpr Index group_values = 8192;  // of an image that a task takes at a time
  constexpr Index band_values = 16384, least_band = 8;
  const Index channels =
      std::clamp<Index>(group_values / (s.H * s.W), 1, std::min(PlaneGradientCut::most_channels, s.C));
  const Index groups = ceil_div(s.C, channels);
  const auto band = [&](Index rows) {
    return even_part(std::max<Index>(rows, 1),
                     std::max(least_band, band_values * rows / (s.H * s.W + s.OH * s.OW)));
  };
  return {channels, groups, std::max<Index>(1, most_depthwise_parts / groups), band(s.H), band(s.OH)};
}

}  // namespace cnnlib::CNNLIB_ISA
