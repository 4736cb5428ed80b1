// The tasks of a pool. A window of PH x PW slides over every plane of x (planes, H, W) to outputs (planes,
// OH, OW); output (oh, ow) covers rows oh * stride_h - pad_top + kh * dilation_h, kh < PH, and columns ow *
// stride_w - pad_left + kw * dilation_w, kw < PW.
#pragma once

#include "kernels/column_walks.hpp"
#include "kernels/plane_grid.hpp"
#include "kernels/pool/windows.hpp"

namespace cnnlib::CNNLIB_ISA {

// What a pass takes, cautiously: in the unit of threads_for.
inline double pool_work(const PoolShape& s) {
  constexpr double lanes = 2;
  return double(s.planes) * (double(s.H * s.W) + double(s.OH * s.OW) * double(s.PH * s.PW)) / lanes;
}

enum class RowsOf { outputs, inputs };

// A part of a pool as a pool of its own, and where its first input and output stand. Its first row of outputs
// is row first_row of the planes.
struct PoolBand {
  PoolShape shape;
  Index in, out;
  Index first_row;
  Index first_plane;
};

// Rows of outputs of a pool's first plane with the rows of inputs that their windows reach, or rows of inputs
// with the windows that reach them.
[[gnu::noinline]] inline PoolBand band_of_rows(const PoolShape& s, RowsOf of, Range rows) {
  const SlidingWindows windows = row_windows(s);
  Range in = rows, out = rows;
  if (of == RowsOf::outputs) {
    in.first = windows.begin(rows.first);
    in.last = std::max(in.first, windows.end(rows.last - 1));
  } else {
    out.first = windows.first_reaching(rows.first);
    if (out.first > 0 && out.first * s.stride_h - s.pad_top > rows.first)
      --out.first;  // one that ends before, where windows leave gaps
    out.last = std::max(out.first, windows.last_reaching(rows.last - 1));
  }
  PoolBand band{s, in.first * s.W, out.first * s.OW, out.first, 0};
  band.shape.H = in.last - in.first;
  band.shape.OH = out.last - out.first;
  band.shape.pad_top = in.first + s.pad_top - out.first * s.stride_h;
  return band;
}

// The tasks of a pool: planes, or bands of their output rows, or of their input rows for a gradient. A
// window's values and winner do not depend on its band, nor does the order in which gradients are added.
struct PoolBands {
  PoolShape s;
  RowsOf of;
  Index rows = of == RowsOf::outputs ? s.OH : s.H;  // that the tasks are cut from
  PlaneGrid grid{
      s.planes, rows, 1, s.H * s.W + s.OH * s.OW, pool_work(s), of == RowsOf::outputs ? 1 : s.stride_h};

  template <class Body>
  void each(const Body& body) const {
    grid.each([&](const PlaneTask& task, int) {
      const bool whole = task.last_row - task.first_row == rows;
      PoolBand band = whole ? PoolBand{s, 0, 0, 0, 0} : band_of_rows(s, of, {task.first_row, task.last_row});
      band.shape.planes = task.last_plane - task.first_plane;
      band.in += task.first_plane * s.H * s.W;
      band.out += task.first_plane * s.OH * s.OW;
      band.first_plane = task.first_plane;
      body(band);
    });
  }
};

// Whether a pool walks down columns.
inline bool small_windows(const PoolShape& s) {
  const bool sizes = (s.PW == 2 && s.stride_w == 2) || (s.PW == 3 && s.stride_w <= 2);
  return sizes && s.dilation_h == 1 && s.dilation_w == 1 && s.PH <= 3 && !s.uneven();
}

// body(band, PW, stride_w) for the tasks of such a pool: the last two are compile-time constants.
template <class Body>
void each_small_window(const PoolShape& s, RowsOf of, const Body& body) {
  using std::integral_constant;
  using Two = integral_constant<int, 2>;
  using Three = integral_constant<int, 3>;
  PoolBands{s, of}.each([&](const PoolBand& band) {
    if (s.PW == 2) return body(band, Two{}, Two{});
    s.stride_w == 1 ? body(band, Three{}, integral_constant<int, 1>{}) : body(band, Three{}, Two{});
  });
}

}  // namespace cnnlib::CNNLIB_ISA
