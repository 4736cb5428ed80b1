// Max and average pooling. Each tap of the window passes over a row of outputs, so that the inner loop
// runs along the row whatever the window.
#pragma once

#include <limits>

#include "../parallel.hpp"
#include "arena.hpp"
#include "sums.hpp"

namespace cnnlib::CNNLIB_ISA {

// The outputs [first, last) for which position o * stride + offset lies in [0, size).
struct OutputRange {
  Index first, last;
  OutputRange(Index offset, Index stride, Index size, Index outputs)
      : first(offset >= 0 ? 0 : std::min(outputs, (-offset + stride - 1) / stride)),
        last(offset >= size ? first : std::max(first, std::min(outputs, (size - 1 - offset) / stride + 1))) {}
};

// out = max over the window, where NaN beats every number; arg (or null) = the winning tap's index
// kh * PW + kw, the first of equals, or `none` for a window that holds padding alone.
template <class T, class Arg>
void max_pool_forward(const T* x, T* out, Arg* arg, const PoolShape& s) {
  constexpr Arg none = std::numeric_limits<Arg>::max();
  const double work = double(s.planes) * s.OH * s.OW * s.PH * s.PW;
  const int threads = threads_for(work / 4);
  Layout layout;
  const auto piece = layout.array<Arg>(threads * s.OW);
  const Scratch scratch(layout.bytes());
  parallel_for(s.planes, threads, [&](Index plane, int slot) {
    const T* image = x + plane * s.H * s.W;
    for (Index oh = 0; oh < s.OH; ++oh) {
      T* best = out + (plane * s.OH + oh) * s.OW;
      Arg* winner = arg != nullptr ? arg + (plane * s.OH + oh) * s.OW : piece.in(scratch.data()) + slot * s.OW;
      std::fill_n(best, s.OW, -std::numeric_limits<T>::infinity());
      std::fill_n(winner, s.OW, none);
      for (Index kh = 0; kh < s.PH; ++kh) {
        const Index line = oh * s.stride_h + kh * s.dilation_h - s.pad_top;
        if (line < 0 || line >= s.H) continue;
        for (Index kw = 0; kw < s.PW; ++kw) {
          const Index offset = kw * s.dilation_w - s.pad_left;
          const OutputRange range(offset, s.stride_w, s.W, s.OW);
          const Arg tap = static_cast<Arg>(kh * s.PW + kw);
          const T* row = image + line * s.W + offset;
          const auto pass = [&](Index stride) {
            for (Index ow = range.first; ow < range.last; ++ow) {
              const T v = row[ow * stride], old = best[ow];
              const bool wins = v > old || winner[ow] == none || (v != v && old == old);
              best[ow] = wins ? v : old;
              winner[ow] = wins ? tap : winner[ow];
            }
          };
          if (s.stride_w == 1)
            pass(1);
          else if (s.stride_w == 2)
            pass(2);
          else
            pass(s.stride_w);
        }
      }
    }
  });
}

// dx[winner of each window] += dout. A winner that lies outside the image adds to nothing.
template <class T, class Arg>
void max_pool_backward(const T* dout, const Arg* arg, T* dx, const PoolShape& s) {
  const Index window = s.PH * s.PW;
  Layout layout;
  const auto piece = layout.array<Index>(2 * window);
  const Scratch scratch(layout.bytes());
  Index* line = piece.in(scratch.data());
  Index* column = line + window;
  for (Index k = 0; k < window; ++k) {
    line[k] = k / s.PW * s.dilation_h - s.pad_top;
    column[k] = k % s.PW * s.dilation_w - s.pad_left;
  }
  const double work = double(s.planes) * (s.OH * s.OW + s.H * s.W);
  parallel_for(s.planes, threads_for(work), [&](Index plane, int) {
    T* image = dx + plane * s.H * s.W;
    std::fill_n(image, s.H * s.W, T(0));
    for (Index oh = 0; oh < s.OH; ++oh) {
      const Index row = (plane * s.OH + oh) * s.OW;
      for (Index ow = 0; ow < s.OW; ++ow) {
        const Index winner = static_cast<Index>(arg[row + ow]);
        if (winner >= window) continue;
        const Index h = oh * s.stride_h + line[winner], w = ow * s.stride_w + column[winner];
        if (h >= 0 && h < s.H && w >= 0 && w < s.W) image[h * s.W + w] += dout[row + ow];
      }
    }
  });
}

// How many positions of output o's window an average divides by, along one axis: those inside the
// padded image when padding counts, those inside the image otherwise; never the overhang of ceil_mode.
inline Index averaged(Index o, Index stride, Index window, Index size, Index pad_before, Index pad_after,
                      bool count_pad) {
  const Index begin = o * stride - pad_before, end = std::min(begin + window, size + pad_after);
  return count_pad ? end - begin : std::max<Index>(1, std::min(end, size) - std::max<Index>(begin, 0));
}

template <class T, class Row>  // row(line, offset, range, output row, 1 / divisor of each output)
void each_average_tap(const PoolShape& s, Index oh, T* weight, const Row& row) {
  const Index tall = averaged(oh, s.stride_h, s.PH, s.H, s.pad_top, s.pad_bottom, s.count_include_pad);
  for (Index ow = 0; ow < s.OW; ++ow)
    weight[ow] =
        T(1) / T(tall * averaged(ow, s.stride_w, s.PW, s.W, s.pad_left, s.pad_right, s.count_include_pad));
  for (Index kh = 0; kh < s.PH; ++kh) {
    const Index line = oh * s.stride_h + kh - s.pad_top;
    if (line < 0 || line >= s.H) continue;
    for (Index kw = 0; kw < s.PW; ++kw)
      row(line * s.W + kw - s.pad_left, OutputRange(kw - s.pad_left, s.stride_w, s.W, s.OW));
  }
}

template <class T>
void avg_pool_forward(const T* x, T* out, const PoolShape& s) {
  const int threads = threads_for(double(s.planes) * s.OH * s.OW * s.PH * s.PW / 4);
  Layout layout;
  const auto piece = layout.array<T>(threads * s.OW);
  const Scratch scratch(layout.bytes());
  parallel_for(s.planes, threads, [&](Index plane, int slot) {
    const T* image = x + plane * s.H * s.W;
    T* weight = piece.in(scratch.data()) + slot * s.OW;
    for (Index oh = 0; oh < s.OH; ++oh) {
      T* to = out + (plane * s.OH + oh) * s.OW;
      std::fill_n(to, s.OW, T(0));
      each_average_tap(s, oh, weight, [&](Index at, const OutputRange& range) {
        for (Index ow = range.first; ow < range.last; ++ow) to[ow] += image[at + ow * s.stride_w];
      });
      for (Index ow = 0; ow < s.OW; ++ow) to[ow] *= weight[ow];
    }
  });
}

template <class T>
void avg_pool_backward(const T* dout, T* dx, const PoolShape& s) {
  const int threads = threads_for(double(s.planes) * s.OH * s.OW * s.PH * s.PW / 4);
  Layout layout;
  const auto piece = layout.array<T>(threads * s.OW);
  const Scratch scratch(layout.bytes());
  parallel_for(s.planes, threads, [&](Index plane, int slot) {
    T* image = dx + plane * s.H * s.W;
    T* weight = piece.in(scratch.data()) + slot * s.OW;
    std::fill_n(image, s.H * s.W, T(0));
    for (Index oh = 0; oh < s.OH; ++oh) {
      const T* from = dout + (plane * s.OH + oh) * s.OW;
      each_average_tap(s, oh, weight, [&](Index at, const OutputRange& range) {
        for (Index ow = range.first; ow < range.last; ++ow) image[at + ow * s.stride_w] += from[ow] * weight[ow];
      });
    }
  });
}

// out[plane] = mean of the plane.
template <class T>
void global_avg_pool_forward(const T* x, T* out, Index planes, Index size) {
  parallel_ranges(planes, 16, double(size), [&](Index begin, Index end) {
    for (Index plane = begin; plane < end; ++plane) out[plane] = T(sum(x + plane * size, size) / double(size));
  });
}

template <class T>
void global_avg_pool_backward(const T* dout, T* dx, Index planes, Index size) {
  parallel_ranges(planes, 16, double(size), [&](Index begin, Index end) {
    for (Index plane = begin; plane < end; ++plane) std::fill_n(dx + plane * size, size, dout[plane] / T(size));
  });
}

}  // namespace cnnlib::CNNLIB_ISA
