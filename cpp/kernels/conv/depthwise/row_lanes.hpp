// Depthwise convolution whose vector lanes are neighbouring columns of one channel: for wide images. Columns
// are split by their remainder modulo the stride, so that a tap reads neighbouring values:
//
//   staged x   [phase of the columns][row][column of the phase]
//   staged dx  [row][phase of the columns][column of the phase]
#pragma once

#include "kernels/conv/depthwise/staging.hpp"
#include "machine/processor.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
struct RowLanes {
  using S = Simd<T>;
  static constexpr Index channels = 1;         // of a vector
  static constexpr Index column = 1;           // values from one column to the next
  static constexpr Index sum_parts = 2;        // sums of whole vectors, and of each row's last, partial one
  static constexpr bool split_columns = true;  // into phases
  static Index band_bytes() { return caches().l1; }
  static constexpr Index gradient_band_bytes = 48 << 10;

  static Index pitch(Index columns) { return round_up(columns, S::size); }

  // One plane (H, W) in staged rows.
  struct Staged : StagedShape {
    Index pitch, margin, phase_size;
    typename S::Mask tail;  // the lanes of a last vector that lie in the image

    explicit Staged(const StagedShape& shape)
        : StagedShape(shape),
          pitch(RowLanes::pitch(width)),
          margin(RowLanes::pitch(left)),
          phase_size(checked_product(rows, pitch) + margin),
          tail(lanes_below(W % S::size)) {}
    static Index pixel_offsets(Index, Index) { return 0; }
    void set_pixel_offsets(Index*) {}
    Index size() const { return margin + checked_product(phases, phase_size) + 2 * S::size; }

    // Copies rows [first, first + count) of an image to `to`. Nothing from `end` on is read.
    void stage(const T* image, const T* end, Index, Index, Index first, Index count, T* to) const {
      const Index above = std::clamp<Index>(-first, 0, count),
                  below = std::clamp<Index>(H - first, above, count);
      for (Index q = 0; q < phases; ++q) {
        std::fill_n(to + q * phase_size, above * pitch, T(0));
        std::fill_n(to + q * phase_size + below * pitch, (count - below) * pitch, T(0));
      }
      for (Index r = above; r < below; ++r) {
        const T* row = image + (first + r) * W;
        if (stride == 1)
          copy(row, end, to + r * pitch);
        else if (stride == 2 && phases == 2)
          split(row, end, to + r * pitch + (remainder[0] == 0 ? 0 : phase_size),
                to + r * pitch + (remainder[0] == 0 ? phase_size : 0));
        else
          for (Index q = 0; q < phases; ++q) pick(row, remainder[q], to + q * phase_size + r * pitch);
      }
    }

   private:
    // The last, partial vector of a row, padded with zeros.
    typename S::Packet load_tail(const T* p, const T* end) const {
      return p + S::size <= end ? S::select(tail, S::load(p), S::zero()) : S::load_lanes(p, 0, W % S::size);
    }
    void copy(const T* row, const T* end, T* to) const {
      const Index whole = W / S::size * S::size, length = pitch;
      Index j = 0;
      for (; j < whole; j += S::size) {
        __builtin_prefetch(row + j + prefetch_distance<T>);
        S::store(to + j, S::load(row + j));
      }
      if (j < W) S::store(to + j, load_tail(row + j, end)), j += S::size;
      for (; j < length; j += S::size) S::store(to + j, S::zero());
    }
    void split(const T* row, const T* end, T* even, T* odd) const {
      const Index width_in = W, length = pitch;
      const auto part = [&](Index i) {
        __builtin_prefetch(row + i + prefetch_distance<T>);
        return i + S::size <= width_in ? S::load(row + i)
               : i < width_in          ? load_tail(row + i, end)
                                       : S::zero();
      };
      for (Index j = 0; j < length; j += S::size) {
        typename S::Packet a, b;
        S::split_pairs(part(2 * j), part(2 * j + S::size), a, b);
        S::store(even + j, a);
        S::store(odd + j, b);
      }
    }
    void pick(const T* row, Index first, T* to) const {
      Index j = 0;
      for (Index i = first; i < W; i += stride) to[j++] = row[i];
      std::fill(to + j, to + pitch, T(0));
    }
  };

  // to[lane] = *from: all lanes belong to one channel.
  static void gather(const T* from, Index, Index, T* to) { S::store(to, S::fill(*from)); }

  // The stencil for `rows` rows of `columns` outputs, of stride `row` in staged and `out_row` in out.
  static void correlate(const TapList& taps, const T* weight, const T* start, Rectifier<T> activation,
                        Index rows, Index columns, const T* staged, Index row, Index, T* out, Index out_row,
                        Index) {
    sum_rows<T>({&taps, weight, start, ceil_div(columns, S::size), row, out_row, 1, 0, 0, activation}, rows,
                staged, out);
  }
  // Adds the products of `rows` rows of grad with staged to sums [part][tap, then grad itself][lane].
  static void accumulate(const TapList& taps, Index rows, Index columns, const T* grad, Index grad_row,
                         const T* staged, Index row, Index, T* sums) {
    const Index whole = columns / S::size;
    if (whole > 0) add_rows<T>({&taps, whole, row, grad_row, 1, 0, 0}, rows, grad, staged, sums);
    if (whole * S::size < columns)
      add_rows<T>({&taps, 1, row, grad_row, 1, 0, 0}, rows, grad + whole * S::size, staged + whole * S::size,
                  sums + (taps.count + 1) * S::size);
  }
  // total[t] += the sum of sums[.][t][lane] over the lanes that hold columns.
  static void reduce(const T* sums, Index values, Index columns, Index, Index, double* total) {
    const auto valid = lanes_below(columns % S::size);
    for (Index t = 0; t < values; ++t) {
      const auto ends = S::select(valid, S::load(sums + (values + t) * S::size), S::zero());
      total[t] += double(S::sum(S::add(S::load(sums + t * S::size), ends)));
    }
  }

  // Copies rows [row][phase][column of the phase], `pitch` values to the phase, to consecutive rows of a
  // plane: in whole vectors, which may overwrite the start of the next row before it is written.
  static void unstage(const T* from, Index pitch, Index phases, Index rows, Index columns, Index, Index,
                      T* to) {
    const T* end = to + rows * columns;
    for (Index r = 0; r < rows; ++r, from += phases * pitch, to += columns) {
      Index j = 0;
      if (phases == 1) {
        for (; j < columns && to + j + S::size <= end; j += S::size) {
          __builtin_prefetch(to + j + prefetch_distance<T>, 1);
          S::store(to + j, S::load(from + j));
        }
        if (j < columns) S::store_lanes(to + j, S::load(from + j), 0, columns - j);
        continue;
      }
      if (phases == 2)
        for (; 2 * j < columns && to + 2 * j + 2 * S::size <= end; j += S::size) {
          __builtin_prefetch(to + 2 * j + prefetch_distance<T>, 1);
          __builtin_prefetch(to + 2 * j + S::size + prefetch_distance<T>, 1);
          S::store_pairs(to + 2 * j, S::load(from + j), S::load(from + pitch + j));
        }
      for (Index i = phases * j; i < columns; ++i) to[i] = from[i % phases * pitch + i / phases];
    }
  }

 private:
  static typename S::Mask lanes_below(Index count) {
    T outside[S::size];
    for (Index l = 0; l < S::size; ++l) outside[l] = T(l >= count);
    return S::equal(S::load(outside), S::zero());
  }
};

}  // namespace cnnlib::CNNLIB_ISA
