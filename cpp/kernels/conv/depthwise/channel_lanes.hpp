// Depthwise convolution with vectors across channels: for small images, of which rows fill no vectors.
#pragma once

#include "kernels/conv/depthwise/staging.hpp"
#include "kernels/simd/transpose.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
struct ChannelLanes {
  using S = Simd<T>;
  static constexpr Index channels = S::size, column = S::size, sum_parts = 1;
  static constexpr bool split_columns = false;
  static constexpr Index staged_bytes = 192
                                        << 10;  // whole images where possible: their edges are staged once

  static Index pitch(Index columns) { return columns * S::size; }

  struct Staged : StagedShape {
    Index pitch, margin, phase_size;
    const Index* place;  // of each pixel of consecutive rows

    explicit Staged(const StagedShape& shape)
        : StagedShape(shape),
          pitch(checked_product(width, S::size)),
          margin(left * S::size),
          phase_size(checked_product(rows, pitch)) {}
    static Index places(Index rows, Index W) { return rows * W; }
    void set_places(Index* memory) {
      place = memory;
      for (Index r = 0; r < rows; ++r)
        for (Index j = 0; j < W; ++j) *memory++ = r * pitch + j * S::size;
    }
    Index size() const { return margin + phase_size + S::size; }

    // Copies rows [first, first + rows) of `planes` planes, `plane_step` apart. The zeros between rows stay.
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
            for (Index i = 0; i < pixels; ++i) to[place[i] + p] = plane(p)[i];
        return;
      }
      for (Index next = 0; next < pixels; next += S::size) {
        const Index i = std::min(next, pixels - S::size);
        transpose_vectors<T>([&](Index p) { return S::load(plane(p) + i); },
                             [&](Index j) { return to + place[i + j]; });
      }
    }
  };

  // The values of `planes` channels, `each` apart, side by side.
  static void spread(const T* from, Index each, Index planes, T* to) {
    for (Index p = 0; p < S::size; ++p) to[p] = p < planes ? from[p * each] : T(0);
  }

  // Output rows of `columns` pixels, `out_row` values apart and `out_step` pixels each, whose taps are `row`
  // values and `step` pixels apart.
  static void sum(const TapList& taps, const T* weight, const T* start, bool relu, Index rows, Index columns,
                  const T* staged, Index row, Index step, T* out, Index out_row, Index out_step) {
    sum_rows<T>({&taps, weight, start, 1, step * S::size, out_step * S::size, rows, row, out_row, relu},
                columns, staged, out);
  }
  static void add(const TapList& taps, Index rows, Index columns, const T* grad, Index grad_row,
                  const T* staged, Index row, Index step, T* sums) {
    add_rows<T>({&taps, 1, step * S::size, S::size, rows, row, grad_row}, columns, grad, staged, sums);
  }
  static void close(const T* sums, Index values, Index, Index planes, Index each, double* total) {
    for (Index p = 0; p < planes; ++p)
      for (Index t = 0; t < values; ++t) total[p * each + t] += double(sums[t * S::size + p]);
  }

  static void unstage(const T* from, Index, Index, Index rows, Index columns, Index planes, Index plane_step,
                      T* to) {
    const Index pixels = rows * columns;
    if (pixels < S::size) {
      for (Index p = 0; p < planes; ++p)
        for (Index i = 0; i < pixels; ++i) to[p * plane_step + i] = from[i * S::size + p];
      return;
    }
    T other[S::size];  // where channels that do not exist go
    for (Index next = 0; next < pixels; next += S::size) {
      const Index i = std::min(next, pixels - S::size);
      transpose_vectors<T>([&](Index j) { return S::load(from + (i + j) * S::size); },
                           [&](Index p) { return p < planes ? to + p * plane_step + i : other; });
    }
  }
};

}  // namespace cnnlib::CNNLIB_ISA
