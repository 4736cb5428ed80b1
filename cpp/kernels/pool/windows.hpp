// The windows of a pool along one axis, output by output: positions [begin(o), end(o)) inside the image, and
// how many an average divides by. Outputs [first_reaching(i), last_reaching(i)) have position i;
// `some` windows in a row span at most span(some) positions, and reaching(some) reach so many positions in a
// row.
#pragma once

#include "shapes.hpp"

namespace cnnlib::CNNLIB_ISA {

// Windows that span `window` positions, `stride` apart, on an axis with padding.
struct SlidingWindows {
  Index stride, window, size, outputs, pad_before, pad_after;
  bool count_pad, sums;

  Index begin(Index o) const { return std::max<Index>(o * stride - pad_before, 0); }
  Index end(Index o) const { return std::min(o * stride - pad_before + window, size); }
  bool inside(Index o) const { return o * stride >= pad_before && o * stride - pad_before + window <= size; }
  // Those inside the padded image where padding counts, inside the image otherwise; never the overhang of
  // ceil_mode.
  Index averaged(Index o) const {
    if (sums) return 1;
    if (!count_pad) return std::max<Index>(1, end(o) - begin(o));
    const Index first = o * stride - pad_before;
    return std::min(first + window, size + pad_after) - first;
  }
  Index first_reaching(Index i) const {
    return i + pad_before < window ? 0 : (i + pad_before - window) / stride + 1;
  }
  Index last_reaching(Index i) const { return std::min(outputs, (i + pad_before) / stride + 1); }
  Index span(Index some) const { return std::min(size, (some - 1) * stride + window); }
  Index reaching(Index some) const { return std::min(outputs, (some + window) / stride + 1); }
};

inline SlidingWindows row_windows(const PoolShape& s) {
  return {s.stride_h,   (s.PH - 1) * s.dilation_h + 1, s.H,   s.OH, s.pad_top,
          s.pad_bottom, s.count_include_pad,           s.sums};
}
inline SlidingWindows column_windows(const PoolShape& s) {
  return {s.stride_w,  (s.PW - 1) * s.dilation_w + 1, s.W,   s.OW, s.pad_left,
          s.pad_right, s.count_include_pad,           s.sums};
}

// `outputs` windows that cover the axis evenly: [floor(o * size / outputs), ceil((o + 1) * size / outputs)).
struct AdaptiveWindows {
  Index size, outputs;

  Index begin(Index o) const { return o * size / outputs; }
  Index end(Index o) const { return ceil_div((o + 1) * size, outputs); }
  Index averaged(Index o) const { return end(o) - begin(o); }
  Index first_reaching(Index i) const { return i * outputs / size; }
  Index last_reaching(Index i) const { return ceil_div((i + 1) * outputs, size); }
  Index span(Index some) const { return std::min(size, ceil_div(some * size, outputs) + 1); }
  Index reaching(Index some) const { return std::min(outputs, ceil_div((some + 1) * outputs, size) + 1); }
};

// use(rows, columns) with the windows of a pool along both axes.
template <class Use>
void with_windows(const PoolShape& s, const Use& use) {
  if (s.uneven())
    use(AdaptiveWindows{s.H, s.OH}, AdaptiveWindows{s.W, s.OW});
  else
    use(row_windows(s), column_windows(s));
}

}  // namespace cnnlib::CNNLIB_ISA
