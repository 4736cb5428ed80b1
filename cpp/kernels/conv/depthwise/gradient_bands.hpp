// The bands of rows in which the gradients of depthwise convolution are computed, and the taps of dx. In one
// channel, with the sum over its filters f and the taps (a, k) for which both quotients are whole:
//
//   dx[h, v] = sum of w[f, 0, a, k] * dout[f, (h + pad_top - a * dilation_h) / stride_h,
//                                             (v + pad_left - k * dilation_w) / stride_w]
//
// That is a stencil of its own for each phase (h % stride_h, v % stride_w).
#pragma once

#include "kernels/conv/depthwise/channel_stencil.hpp"

namespace cnnlib::CNNLIB_ISA {

inline Index floor_divide(Index a, Index b) { return a >= 0 ? a / b : -((b - 1 - a) / b); }
// ceil_div of a number that may be negative.
inline Index divide_up(Index a, Index b) { return floor_divide(a + b - 1, b); }

// Band number `band` of `bands`: rows [out_first, out_last) of dout, whose products with x are summed, rows
// [dx_first, dx_last) of dx, and the rows of dout that are staged for both, those above and below the image
// included.
struct GradientBand {
  Index out_first, out_last, dx_first, dx_last, dout_first, dout_last;

  GradientBand(const ConvShape& s, Index band, Index bands)
      : out_first(band * s.OH / bands),
        out_last((band + 1) * s.OH / bands),
        dx_first(band * s.H / bands),
        dx_last((band + 1) * s.H / bands) {
    const Index reach = (s.KH - 1) * s.dilation_h;
    dout_first = std::min(out_first, floor_divide(dx_first + s.pad_top - reach, s.stride_h));
    dout_last = std::max(out_last, floor_divide(dx_last - 1 + s.pad_top, s.stride_h) + 1);
  }
  Index out_rows() const { return out_last - out_first; }
  Index dx_rows() const { return dx_last - dx_first; }
  Index dout_rows() const { return dout_last - dout_first; }
};

// The most rows of each kind in any of several bands.
struct BandRows {
  Index out = 0, dx = 0, dout = 0;

  void add(const GradientBand& band) {
    out = std::max(out, band.out_rows());
    dx = std::max(dx, band.dx_rows());
    dout = std::max(dout, band.dout_rows());
  }
  static BandRows largest(const ConvShape& s, Index bands) {
    BandRows rows;
    for (Index i = 0; i < bands; ++i) rows.add(GradientBand(s, i, bands));
    return rows;
  }
};

// The least number of bands, but for rounding, for which bytes(rows) of the largest is at most `most_bytes`.
// A band has at least one row of dout, and no fewer rows than the halo that it stages again.
template <class Bytes>
Index choose_bands(const ConvShape& s, double most_bytes, const Bytes& bytes) {
  const Index reach = (s.KH - 1) * s.dilation_h;
  const Index most = std::clamp<Index>(s.OH * s.stride_h / std::max<Index>(1, reach), 1, s.OH);
  const auto largest = [&](Index bands) {  // dx and dout differ most in the first or the last
    BandRows rows;
    rows.add(GradientBand(s, 0, bands));
    rows.add(GradientBand(s, bands - 1, bands));
    return bytes(rows);
  };
  Index bands = 1;
  while (bands < most && largest(bands) > most_bytes) bands = std::min(bands + ceil_div(bands, 4), most);
  return bands;
}

// The taps of dx on staged dout: a list for each phase of the rows and columns of dx.
struct GradientTaps {
  Index left, right;  // halo: columns of dout that taps read on either side
  Index row_phases, column_phases;

  explicit GradientTaps(const ConvShape& s)
      : left(std::max<Index>(0, divide_up((s.KW - 1) * s.dilation_w - s.pad_left, s.stride_w))),
        right((s.stride_w - 1 + s.pad_left) / s.stride_w),
        row_phases(std::min(s.stride_h, s.H)),
        column_phases(std::min(s.stride_w, s.W)) {}

  Index width(const ConvShape& s) const { return std::max(s.OW + left, ceil_div(s.W, s.stride_w) + right); }
  template <class T>
  StagedChannels<T> dout_staging(const ConvShape& s, Index rows) const {
    return {s.OH, s.OW, width(s), left, rows};
  }
  Index lists() const { return row_phases * column_phases; }

  // Fills list[row phase][column phase], the kernel backwards, so that dout is read forwards; `memory` has
  // room for two indices for each weight of a channel, which is in one phase at most. The staged planes of
  // dout of a channel's filters have the stride `plane`.
  template <class T>
  void list(const ConvShape& s, Index pitch, Index plane, TapList* list, Index* memory) const {
    const Index filters = s.F / s.C;
    for (Index ph = 0; ph < row_phases; ++ph)
      for (Index pw = 0; pw < column_phases; ++pw, memory += list++->count) {
        *list = {0, memory, memory + filters * s.KH * s.KW};
        for (Index f = 0; f < filters; ++f)
          each_tap(s, [&](Index a, Index k) {
            const Index kh = s.KH - 1 - a, kw = s.KW - 1 - k;
            const Index row = ph + s.pad_top - kh * s.dilation_h,
                        column = pw + s.pad_left - kw * s.dilation_w;
            if (row % s.stride_h == 0 && column % s.stride_w == 0)
              list->add(f * plane + row / s.stride_h * pitch + column / s.stride_w * Simd<T>::size,
                        (f * s.KH + kh) * s.KW + kw);
          });
      }
  }
};

}  // namespace cnnlib::CNNLIB_ISA
