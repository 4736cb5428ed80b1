// Winograd's minimal filtering along rows alone: F(4, K) of the columns of a kernel, whose rows are terms of
// a sum, as channels are. Where channels are few, as in a first layer, a tile in two dimensions has more work
// with its transforms than it saves.
//
//   x     row h of channel c  | d d d d | d d d d | ..      a tile makes 4 outputs of a row
//   x'    [point][channel][row phase][column phase][row h][tile] = B' d
//   out   tiles of a row = A' [ sum over terms (channel, kernel row, column phase) of (G g) . x' ]
//
// A kernel's row is a constant offset in x', rows follow each other without a gap, and so the tiles of some
// rows of outputs are one run of vectors for every term. At a stride, columns that agree modulo it are phases
// with kernels of their own, and so are rows (staging.hpp).
#pragma once

#include "kernels/conv/staging.hpp"
#include "kernels/conv/winograd_rows/cuts.hpp"
#include "kernels/simd/loops.hpp"
#include "kernels/simd/phases.hpp"

namespace cnnlib::CNNLIB_ISA {

// phases[q * width + t] = line[count * t + q], t < width, which is a number of whole vectors.
template <class T, int count>
void split_line(const T* line, Index width, T* phases) {
  using S = Simd<T>;
  for (Index t = 0; t < width; t += S::size, line += count * S::size) {
    split_run<T, count>(line, [&](int q, auto packet) { S::store(phases + q * width + t, packet); });
  }
}
template <class T>
void split_line(const T* line, Index count, Index width, T* phases) {
  if (count == 4) return split_line<T, 4>(line, width, phases);
  if (count == 8) return split_line<T, 8>(line, width, phases);
  for (Index q = 0; q < count; ++q)
    for (Index t = 0; t < width; ++t) phases[q * width + t] = line[count * t + q];
}

// A call's sizes, and x'.
template <class T>
class RowTiles {
 public:
  ConvShape s;
  const RowTile<T>& tile = row_tile_of<T>(s);
  Index C = s.C / s.groups, F = s.F / s.groups;  // of a group
  Index terms = row_terms(s);                    // of a sum
  Index cols = ceil_div(s.OW, row_outs);         // tiles of a row of outputs
  Index rows;                                    // of outputs in a band, whose x' stays in a cache
  Index bands;                                   // of an image
  // Whether results of all images fill so much of the caches that prefetching them is worth its instructions.
  bool far_results = use_non_temporal<T>(8 * s.N * s.F * s.OH * s.OW);

  [[gnu::noinline]] explicit RowTiles(const ConvShape& shape) : s(shape) {
    Index* at = axis_memory_.data();
    for (Index a = 0; a < s.KH; ++a) at[a] = a * s.dilation_h - s.pad_top;
    y_.split({s.KH, s.stride_h, at, at}, AxisPhases::any_distance, at + s.KH);
    set_rows(rows_of_band<T>(s, C * y_.count, y_.reach));
  }

  void set_rows(Index most) {
    rows = even_part(s.OH, most);
    bands = ceil_div(s.OH, rows);
  }

  Index band_positions(Index band) const { return std::min(rows, s.OH - band * rows) * cols; }
  // Between points, a cache line more than needed: a power of two apart they would share a set.
  Index point_step() const { return C * y_.count * s.stride_w * plane() + 2 * Simd<T>::size; }
  Index values() const { return checked_product(tile.points, point_step()); }
  Index line() const { return 2 * parts_ * width_ + Simd<T>::size; }  // scratch of `transform`

  // offset[term]: where its tiles begin in x'.
  void term_offsets(Index* offset) const {
    for (Index c = 0; c < C; ++c)
      for (Index a = 0; a < s.KH; ++a)
        for (Index phase = 0; phase < s.stride_w; ++phase)
          *offset++ = at(c, y_.phase_of[a], phase) + y_.shift[a] * cols;
  }

  // x' of a band of an image (of one group).
  void transform(const T* image, Index band, T* line, T* values) const {
    clear_behind(line, values);
    for (Index c = 0; c < C; ++c, image += s.H * s.W)
      for (Index y = 0; y < y_.count; ++y)
        for (Index h = 0; h < rows + y_.reach; ++h) {
          const Index row = (band * rows + h) * s.stride_h + y_.lowest + y_.first[y];
          transform_row(row >= 0 && row < s.H ? image + row * s.W : nullptr, line,
                        values + at(c, y, 0) + h * cols);
        }
  }

 private:
  // Vectors read on behind a line and behind the rows of a plane, for lanes without a tile: whatever old bits
  // lie there may be denormal, and slow.
  void clear_behind(T* line, T* values) const {
    std::fill_n(line + 2 * parts_ * width_, Simd<T>::size, T(0));
    const Index planes = C * y_.count * s.stride_w;
    for (Index p = 0; p < tile.points; ++p, values += point_step()) {
      for (Index i = 1; i <= planes; ++i)
        std::fill_n(values + i * plane() - Simd<T>::size, Simd<T>::size, T(0));
      std::fill_n(values + planes * plane(), 2 * Simd<T>::size, T(0));
    }
  }
  // The rows of a phase, and room for what a last vector has too much.
  Index plane() const { return (rows + y_.reach) * cols + Simd<T>::size; }
  Index at(Index c, Index y, Index phase) const {
    return ((c * y_.count + y) * s.stride_w + phase) * plane();
  }

  // B' d of a row of the image, or of zeros, for every phase of its columns.
  void transform_row(const T* row, T* line, T* values) const {
    const Index size = parts_ * width_;
    T* phases = line + size;
    if (row != nullptr) {
      const Index first = std::clamp<Index>(s.pad_left, 0, size),
                  last = std::clamp(s.W + s.pad_left, first, size);
      std::fill_n(line, first, T(0));
      std::copy_n(row + first - s.pad_left, last - first, line + first);
      std::fill_n(line + last, size - last, T(0));
      split_line(line, parts_, width_, phases);
    } else {
      std::fill_n(phases, size, T(0));
    }
    for (Index phase = 0; phase < s.stride_w; ++phase, values += plane()) {
      const T* d[most_row_points];
      for (Index j = 0, column = phase; j < tile.points; ++j, column += s.stride_w)
        d[j] = phases + column % parts_ * width_ + column / parts_;
      tile.inputs(d, cols, values, point_step());
    }
  }

  Index parts_ = row_outs * s.stride_w;  // columns of a tile's step, each of which is a phase of a row
  Index width_ = round_up(cols + (tile.points * s.stride_w - 1) / parts_, Simd<T>::size);  // of a phase
  AxisPhases y_;
  ScratchArray<Index> axis_memory_{s.KH + AxisPhases::memory_size(s.KH)};
};

}  // namespace cnnlib::CNNLIB_ISA
