// What the poolings share. A window of PH x PW slides over every plane of x (planes, H, W) to outputs
// (planes, OH, OW); output (oh, ow) covers rows oh * stride_h - pad_top + kh * dilation_h, kh < PH, and
// columns ow * stride_w - pad_left + kw * dilation_w, kw < PW.
//
// Small windows, 2 or 3 wide and 1 or 2 apart, are computed in whole vectors up to the edges of the image.
#pragma once

#include "kernels/plane_grid.hpp"
#include "kernels/scratch_layout.hpp"
#include "kernels/simd/loops.hpp"

namespace cnnlib::CNNLIB_ISA {

// v is greater than best, or v is NaN and best is not.
template <class T>
bool greater_or_nan(T v, T best) {
  return !(v <= best) & (best == best);
}

// The taps of one vector of windows, of which the first begins at `corner`.
template <class T, int PW, int Stride>
void load_taps(const T* corner, typename Simd<T>::Packet* tap) {
  using S = Simd<T>;
  if constexpr (Stride == 1) {
#pragma GCC unroll 3
    for (int kw = 0; kw < PW; ++kw) tap[kw] = S::load(corner + kw);
  } else {
    S::load_pairs(corner, tap[0], tap[1]);
    typename S::Packet unused;
    if constexpr (PW == 3) S::load_pairs(corner + 2, tap[2], unused);
  }
}

// The taps of a vector of windows, of which the first begins at column `at` of a row of W values; `padding`
// where there is no column.
template <class T, int PW, int Stride>
void load_taps_within(const T* row, Index W, Index at, T padding, typename Simd<T>::Packet* tap) {
  using S = Simd<T>;
  constexpr Index reach = Stride == 1 ? PW - 1 + S::size : (PW == 3 ? 2 : 0) + 2 * S::size;
  if (at >= 0 && at + reach <= W) return load_taps<T, PW, Stride>(row + at, tap);
  const auto load = [&](Index j) { return S::load_within(row, W, at + j, padding); };
  if constexpr (Stride == 1) {
#pragma GCC unroll 3
    for (int kw = 0; kw < PW; ++kw) tap[kw] = load(kw);
  } else {
    S::split_pairs(load(0), load(S::size), tap[0], tap[1]);
    typename S::Packet unused;
    if constexpr (PW == 3) S::split_pairs(load(2), load(2 + S::size), tap[2], unused);
  }
}

// Whole numbers of a row of bytes from `at` on, 0 where there is none.
template <class T>
typename Simd<T>::Packet load_bytes_within(const std::uint8_t* row, Index size, Index at) {
  using S = Simd<T>;
  if (at >= 0 && at + S::size <= size) return S::load_bytes(row + at);
  const Index first = std::clamp<Index>(-at, 0, S::size);
  return S::load_bytes(row + at, first, std::clamp<Index>(size - at, first, S::size) - first);
}

// Writes columns [at, at + lanes) of a row of W values, as far as they exist. Other lanes spill over into the
// next row of the plane, which has to be written after this one; the last row ends at plane_end.
template <class T>
void store_in_plane(T* row, Index W, Index at, const T* plane_end, typename Simd<T>::Packet v) {
  using S = Simd<T>;
  if (row + at + S::size <= plane_end)
    S::store(row + at, v);
  else if (at < W)
    S::store_lanes(row + at, v, 0, std::min<Index>(S::size, W - at));
}

// The outputs [first, last) for which position o * stride + offset lies in [0, size).
struct OutputRange {
  Index first, last;
  OutputRange(Index offset, Index stride, Index size, Index outputs)
      : first(offset >= 0 ? 0 : std::min(outputs, ceil_div(-offset, stride))),
        last(offset >= size ? first : std::max(first, std::min(outputs, (size - 1 - offset) / stride + 1))) {}
};

// What a pass takes, cautiously: in the unit of threads_for.
inline double pool_work(const PoolShape& s) {
  constexpr double lanes = 4;
  return double(s.planes) * (double(s.H * s.W) + double(s.OH * s.OW) * double(s.PH * s.PW)) / lanes;
}

// Outputs [first, last) of an axis and the positions [from, from + size) that their windows reach, or the
// positions and the windows that reach them, as an axis of its own with `pad` before it.
struct AxisBand {
  Index first, outputs, from, size, pad;
};
inline AxisBand band_of_outputs(Index first, Index last, Index stride, Index reach, Index size, Index pad) {
  const Index begin = first * stride - pad, from = std::max<Index>(begin, 0);
  return {first, last - first, from, std::min(size, (last - 1) * stride - pad + reach) - from, from - begin};
}
inline AxisBand band_of_inputs(Index from, Index last, Index stride, Index reach, Index outputs, Index pad) {
  Index first = from + pad < reach ? 0 : (from + pad - reach) / stride + 1;
  if (first > 0 && first * stride - pad > from) --first;  // one that ends before, where windows leave gaps
  const Index end = std::max(first, std::min(outputs, (last - 1 + pad) / stride + 1));
  return {first, end - first, from, last - from, from + pad - first * stride};
}

// A task of a pool as a pool of its own, and where its first input and output stand.
struct PoolBand {
  PoolShape shape;
  Index in, out;
};

// The tasks of a pool: planes, bands of their output rows, or of their input rows for a gradient; of columns
// where planes are a single row. A window's values and winner do not depend on its band, nor does the order
// in which gradients are added.
class PoolBands {
 public:
  enum class Of { outputs, inputs };

  PoolBands(const PoolShape& shape, Of of_rows)
      : s(shape),
        of(of_rows),
        line(s.H == 1 && s.OH == 1 && s.PH == 1),
        rows(of == Of::outputs ? line ? s.OW : s.OH
             : line            ? s.W
                               : s.H),
        grid(s.planes, rows, 1, s.H * s.W + s.OH * s.OW, pool_work(s),
             of == Of::outputs ? 1
             : line            ? s.stride_w
                               : s.stride_h) {}

  int threads() const { return grid.threads; }

  // What no band is larger than along a row.
  PoolShape largest() const {
    PoolShape most = s;
    if (!line || grid.band == rows) return most;
    const Index reach = (s.PW - 1) * s.dilation_w + 1;
    most.OW = of == Of::outputs ? grid.band : std::min(s.OW, (grid.band + reach) / s.stride_w + 2);
    most.W = of == Of::outputs ? std::min(s.W, (grid.band - 1) * s.stride_w + reach) : grid.band;
    return most;
  }

  template <class Body>  // body(band, slot)
  void each(const Body& body) const {
    grid.each([&](const PlaneTask& task, int slot) { body(band_of(task), slot); });
  }

 private:
  PoolBand band_of(const PlaneTask& task) const {
    PoolBand band{s, task.first_plane * s.H * s.W, task.first_plane * s.OH * s.OW};
    band.shape.planes = task.last_plane - task.first_plane;
    if (task.last_row - task.first_row == rows) return band;
    const Index stride = line ? s.stride_w : s.stride_h, pad = line ? s.pad_left : s.pad_top;
    const Index reach = line ? (s.PW - 1) * s.dilation_w + 1 : (s.PH - 1) * s.dilation_h + 1;
    const AxisBand axis =
        of == Of::outputs
            ? band_of_outputs(task.first_row, task.last_row, stride, reach, line ? s.W : s.H, pad)
            : band_of_inputs(task.first_row, task.last_row, stride, reach, line ? s.OW : s.OH, pad);
    PoolShape& b = band.shape;
    (line ? b.W : b.H) = axis.size;
    (line ? b.OW : b.OH) = axis.outputs;
    (line ? b.pad_left : b.pad_top) = axis.pad;
    band.in += axis.from * (line ? 1 : s.W);
    band.out += axis.first * (line ? 1 : s.OW);
    return band;
  }

  PoolShape s;
  Of of;
  bool line;   // columns take the place of rows
  Index rows;  // that the tasks are cut from
  PlaneGrid grid;
};

// The output rows whose windows reach an input row, and with which of their rows.
struct ReachingRows {
  int count = 0;
  Index oh[3] = {}, kh[3] = {};

  bool same_windows(const ReachingRows& other) const {
    return count == other.count && (count == 0 || oh[0] == other.oh[0]);
  }

  ReachingRows() = default;
  ReachingRows(const PoolShape& s, Index h) {
    const Index reach = h + s.pad_top, last = reach / s.stride_h;
    for (Index o = last, k = reach - last * s.stride_h; o >= 0 && k < s.PH; --o, k += s.stride_h)
      if (o < s.OH) {
        oh[count] = o;
        kh[count++] = k;
      }
  }
};

// Whether this file's functions serve these windows.
inline bool small_windows(const PoolShape& s) {
  return s.dilation_h == 1 && s.dilation_w == 1 && s.PH <= 3 && (s.PW == 2 || s.PW == 3) && s.stride_w <= 2;
}

// Vectors for which splitting rows into pairs of columns is worth its shuffles.
constexpr int least_paired_bytes = 32;

// Those of them that are 2 apart both ways, 2 or 3 high, and begin at the image's edge or a column before it.
inline bool paired_windows(const PoolShape& s) {
  return small_windows(s) && s.stride_h == 2 && s.stride_w == 2 && s.PH >= 2 && s.pad_left <= 1;
}

// Scratch of a thread for those: two values for each window that a vector of a row covers.
template <class T>
Index paired_row_values(const PoolShape& s) {
  return paired_windows(s) ? 2 * round_up(std::max(ceil_div(s.W, 2), s.OW), Simd<T>::size) : 0;
}

// Calls body with PW and the horizontal stride as compile-time constants.
template <class Body>
void with_window(const PoolShape& s, const Body& body) {
  using std::integral_constant;
  using Two = integral_constant<int, 2>;
  using Three = integral_constant<int, 3>;
  using One = integral_constant<int, 1>;
  if (s.PW == 2)
    s.stride_w == 1 ? body(Two{}, One{}) : body(Two{}, Two{});
  else
    s.stride_w == 1 ? body(Three{}, One{}) : body(Three{}, Two{});
}

// Calls body with PW and the horizontal padding of paired_windows as compile-time constants.
template <class Body>
void with_paired_window(const PoolShape& s, const Body& body) {
  using Zero = std::integral_constant<int, 0>;
  using One = std::integral_constant<int, 1>;
  with_window(s, [&](auto width, auto) { s.pad_left == 0 ? body(width, Zero{}) : body(width, One{}); });
}

}  // namespace cnnlib::CNNLIB_ISA
