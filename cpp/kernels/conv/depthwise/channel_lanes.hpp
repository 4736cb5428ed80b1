// Depthwise convolution whose vector lanes are channels: for small images, whose rows fill no vectors.
//
//   staged x, dout, dx   [row][column][channel]
#pragma once

#include "kernels/conv/depthwise/staging.hpp"
#include "kernels/simd/transpose.hpp"
#include "machine/processor.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
struct ChannelLanes {
  using S = Simd<T>;
  static constexpr Index channels = S::size, column = S::size;  // of a vector; from a column to the next
  // Whole images where possible, so that no halo of a band is staged twice.
  static Index band_bytes() { return caches().l2 / 4; }
  static constexpr Index gradient_band_bytes = 192 << 10;

  static Index pitch(Index columns) { return columns * S::size; }

  struct Staged : StagedShape {
    Index pitch, margin;
    const Index* offset;  // of the pixels of consecutive rows, [row][column]

    explicit Staged(const StagedShape& shape)
        : StagedShape(shape), pitch(checked_product(width, S::size)), margin(left * S::size) {}
    static Index pixel_offsets(Index rows, Index W) { return rows * W; }
    void set_pixel_offsets(Index* memory) {
      offset = memory;
      for (Index r = 0; r < rows; ++r)
        for (Index j = 0; j < W; ++j) *memory++ = r * pitch + j * S::size;
    }
    Index size() const { return margin + checked_product(rows, pitch) + S::size; }

    // Transposes rows [first, first + count) of `planes` planes of stride `plane_step` to
    // [row][column][channel]. The zeros between rows stay.
    void stage(const T* image, const T*, Index planes, Index plane_step, Index first, Index count,
               T* to) const {
      const Index above = std::clamp<Index>(-first, 0, count),
                  below = std::clamp<Index>(H - first, above, count);
      std::fill_n(to, above * pitch, T(0));
      std::fill_n(to + below * pitch, (count - below) * pitch, T(0));
      const Index pixels = (below - above) * W;
      image += (first + above) * W;
      to += above * pitch;
      const auto plane = [&](Index p) { return image + std::min(p, planes - 1) * plane_step; };
      if (pixels < S::size) {
        if (pixels > 0)
          for (Index p = 0; p < S::size; ++p)
            for (Index i = 0; i < pixels; ++i) to[offset[i] + p] = plane(p)[i];
        return;
      }
      for (Index next = 0; next < pixels; next += S::size) {
        const Index i = std::min(next, pixels - S::size);
        transpose_vectors<T>([&](Index p) { return S::load(plane(p) + i); },
                             [&](Index j) { return to + offset[i + j]; });
      }
    }
  };

  // to[lane] = from[lane * channel_step], or 0 from lane `planes` on.
  static void gather(const T* from, Index channel_step, Index planes, T* to) {
    for (Index p = 0; p < S::size; ++p) to[p] = p < planes ? from[p * channel_step] : T(0);
  }

  // The stencil for `rows` rows of `columns` outputs. Strides of rows are in values, of columns in pixels:
  // `row` and `step` in staged, `out_row` and `out_step` in out.
  static void correlate(const TapList& taps, const T* weight, const T* start, Rectifier<T> activation,
                        Index rows, Index columns, const T* staged, Index row, Index step, T* out,
                        Index out_row, Index out_step) {
    sum_rows<T>({&taps, weight, start, step * S::size, out_step * S::size, rows, row, out_row, activation},
                columns, staged, out);
  }
  // Adds the products of `rows` rows of grad with staged to sums [tap, then grad itself][channel].
  static void accumulate(const TapList& taps, Index rows, Index columns, const T* grad, Index grad_row,
                         const T* staged, Index row, Index step, T* sums) {
    add_rows<T>({&taps, step * S::size, S::size, rows, row, grad_row}, columns, grad, staged, sums);
  }
  // total[channel * channel_step + t] += sums[t][channel].
  static void reduce(const T* sums, Index values, Index planes, Index channel_step, double* total) {
    for (Index p = 0; p < planes; ++p)
      for (Index t = 0; t < values; ++t) total[p * channel_step + t] += double(sums[t * S::size + p]);
  }

  // Transposes rows [row][column][channel] to consecutive rows of planes of stride `plane_step`.
  static void unstage(const T* from, Index rows, Index columns, Index planes, Index plane_step, T* to) {
    const Index pixels = rows * columns;
    if (pixels < S::size) {
      for (Index p = 0; p < planes; ++p)
        for (Index i = 0; i < pixels; ++i) to[p * plane_step + i] = from[i * S::size + p];
      return;
    }
    T unused[S::size];  // receives the lanes without a channel
    for (Index next = 0; next < pixels; next += S::size) {
      const Index i = std::min(next, pixels - S::size);
      transpose_vectors<T>([&](Index j) { return S::load(from + (i + j) * S::size); },
                           [&](Index p) { return p < planes ? to + p * plane_step + i : unused; });
    }
  }
};

}  // namespace cnnlib::CNNLIB_ISA
