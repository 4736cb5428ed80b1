// The tasks of a pool. A window of PH x PW slides over every plane of x (planes, H, W) to outputs (planes,
// OH, OW); output (oh, ow) covers rows oh * stride_h - pad_top + kh * dilation_h, kh < PH, and columns ow *
// stride_w - pad_left + kw * dilation_w, kw < PW.
#pragma once

#include "kernels/column_walks.hpp"
#include "kernels/plane_grid.hpp"

namespace cnnlib::CNNLIB_ISA {

// What a pass takes, cautiously: in the unit of threads_for.
inline double pool_work(const PoolShape& s) {
  constexpr double lanes = 2;
  return double(s.planes) * (double(s.H * s.W) + double(s.OH * s.OW) * double(s.PH * s.PW)) / lanes;
}

// Outputs [first, last) of an axis and the positions [from, from + size) that their windows reach, or the
// positions and the windows that reach them, as an axis of its own with `pad` before it.
struct AxisBand {
  Index first, outputs, from, size, pad;
};
inline AxisBand band_of_outputs(Index first, Index last, Index stride, Index reach, Index size, Index pad) {
  const Index begin = first * stride - pad, from = std::max<Index>(begin, 0);
  const Index end = std::min(size, (last - 1) * stride - pad + reach);
  return {first, last - first, from, std::max<Index>(0, end - from), from - begin};
}
inline AxisBand band_of_inputs(Index from, Index last, Index stride, Index reach, Index outputs, Index pad) {
  Index first = from + pad < reach ? 0 : (from + pad - reach) / stride + 1;
  if (first > 0 && first * stride - pad > from) --first;  // one that ends before, where windows leave gaps
  const Index end = std::max(first, std::min(outputs, (last - 1 + pad) / stride + 1));
  return {first, end - first, from, last - from, from + pad - first * stride};
}

// A task of a pool as a pool of its own, and where its first input and output stand. Its first row of outputs
// is row first_row of the planes.
struct PoolBand {
  PoolShape shape;
  Index in, out;
  Index first_row;
  Index first_plane;
};

// The tasks of a pool: planes, or bands of their output rows, or of their input rows for a gradient. A
// window's values and winner do not depend on its band, nor does the order in which gradients are added.
class PoolBands {
 public:
  enum class Of { outputs, inputs };

  PoolBands(const PoolShape& shape, Of of_rows)
      : s(shape),
        of(of_rows),
        rows(of == Of::outputs ? s.OH : s.H),
        grid(s.planes, rows, 1, s.H * s.W + s.OH * s.OW, pool_work(s), of == Of::outputs ? 1 : s.stride_h) {}

  int threads() const { return grid.threads; }

  template <class Body>  // body(band, slot)
  void each(const Body& body) const {
    grid.each([&](const PlaneTask& task, int slot) { body(band_of(task), slot); });
  }

 private:
  [[gnu::noinline]] PoolBand band_of(const PlaneTask& task) const {
    PoolBand band{s, task.first_plane * s.H * s.W, task.first_plane * s.OH * s.OW, 0, task.first_plane};
    band.shape.planes = task.last_plane - task.first_plane;
    if (task.last_row - task.first_row == rows) return band;
    const Index reach = (s.PH - 1) * s.dilation_h + 1;
    const AxisBand axis =
        of == Of::outputs ? band_of_outputs(task.first_row, task.last_row, s.stride_h, reach, s.H, s.pad_top)
                          : band_of_inputs(task.first_row, task.last_row, s.stride_h, reach, s.OH, s.pad_top);
    band.shape.H = axis.size;
    band.shape.OH = axis.outputs;
    band.shape.pad_top = axis.pad;
    band.in += axis.from * s.W;
    band.out += axis.first * s.OW;
    band.first_row = axis.first;
    return band;
  }

  PoolShape s;
  Of of;
  Index rows;  // that the tasks are cut from
  PlaneGrid grid;
};

// Whether a pool walks down columns.
inline bool small_windows(const PoolShape& s) {
  const bool sizes = (s.PW == 2 && s.stride_w == 2) || (s.PW == 3 && s.stride_w <= 2);
  return sizes && s.dilation_h == 1 && s.dilation_w == 1 && s.PH <= 3;
}

// body(band, PW, stride_w) for the tasks of such a pool: the last two are compile-time constants.
template <class Body>
void each_small_window(const PoolShape& s, PoolBands::Of of, const Body& body) {
  using std::integral_constant;
  using Two = integral_constant<int, 2>;
  using Three = integral_constant<int, 3>;
  PoolBands(s, of).each([&](const PoolBand& band, int) {
    if (s.PW == 2) return body(band, Two{}, Two{});
    s.stride_w == 1 ? body(band, Three{}, integral_constant<int, 1>{}) : body(band, Three{}, Two{});
  });
}

}  // namespace cnnlib::CNNLIB_ISA
