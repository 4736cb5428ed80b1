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

// NaN beats every number, and of equals the first stays.
template <class T>
bool beats(T v, T best) {
  return !(v <= best) & (best == best);
}

// One vector of outputs whose windows of PH x PW, `Stride` (1 or 2) apart, lie inside the image; reads one
// value past the last window where the stride is 2 and PW odd.
template <class T, class Arg, int PH, int PW, int Stride>
void max_pool_vector(const T* corner, Index W, T* best, Arg* winner) {
  using S = Simd<T>;
  using Packet = typename S::Packet;
  Packet most = S::zero(), place = S::zero();
#pragma GCC unroll 3
  for (int kh = 0; kh < PH; ++kh) {
    const T* row = corner + kh * W;
    Packet tap[PW + 1];
    if constexpr (Stride == 1) {
#pragma GCC unroll 3
      for (int kw = 0; kw < PW; ++kw) tap[kw] = S::load(row + kw);
    } else {
#pragma GCC unroll 3
      for (int kw = 0; kw < PW; kw += 2) S::load_pairs(row + kw, tap[kw], tap[kw + 1]);
    }
#pragma GCC unroll 3
    for (int kw = 0; kw < PW; ++kw) {
      if (kh == 0 && kw == 0) {
        most = tap[0];
        continue;
      }
      const auto wins = S::beats(tap[kw], most);
      most = S::select(wins, tap[kw], most);
      place = S::select(wins, S::fill(T(kh * PW + kw)), place);
    }
  }
  S::store(best, most);
  T places[S::size];
  S::store(places, place);
  for (int i = 0; i < S::size; ++i) winner[i] = static_cast<Arg>(static_cast<int>(places[i]));
}

// Outputs [first, last) of a row; the window of output 0 starts at `corner`.
template <class T, class Arg, int PH, int PW, int Stride>
void max_pool_row(const T* corner, Index W, Index first, Index last, T* best, Arg* winner) {
  constexpr Index n = Simd<T>::size, past = Stride == 2 && PW % 2 == 1;
  constexpr Index width = n * Stride + PW;
  Index ow = first;
  for (; ow + n + past <= last; ow += n)
    max_pool_vector<T, Arg, PH, PW, Stride>(corner + ow * Stride, W, best + ow, winner + ow);
  for (; ow < last; ow += n) {  // the rest of the row, from a copy with room
    const Index count = std::min(n, last - ow);
    T rows[PH * width] = {}, most[n];
    Arg place[n];
    for (int kh = 0; kh < PH; ++kh)
      std::copy_n(corner + ow * Stride + kh * W, (count - 1) * Stride + PW, rows + kh * width);
    max_pool_vector<T, Arg, PH, PW, Stride>(rows, width, most, place);
    std::copy_n(most, count, best + ow);
    std::copy_n(place, count, winner + ow);
  }
}

template <class T, class Arg>
using MaxPoolRow = void (*)(const T* corner, Index W, Index first, Index last, T* best, Arg* winner);

// A row function for the windows that networks use, or null.
template <class T, class Arg>
MaxPoolRow<T, Arg> max_pool_row_for(const PoolShape& s) {
  if (s.dilation_h != 1 || s.dilation_w != 1) return nullptr;
  if (s.PH == 2 && s.PW == 2 && s.stride_w == 2) return &max_pool_row<T, Arg, 2, 2, 2>;
  if (s.PH == 3 && s.PW == 3 && s.stride_w == 2) return &max_pool_row<T, Arg, 3, 3, 2>;
  if (s.PH == 3 && s.PW == 3 && s.stride_w == 1) return &max_pool_row<T, Arg, 3, 3, 1>;
  return nullptr;
}

// Outputs [begin, end) of row oh for any window, a pass for each tap.
template <class T, class Arg>
void max_pool_taps(const T* image, const PoolShape& s, Index oh, Index begin, Index end, T* best,
                   Arg* winner) {
  constexpr Arg none = std::numeric_limits<Arg>::max();
  if (begin >= end) return;
  std::fill(best + begin, best + end, -std::numeric_limits<T>::infinity());
  std::fill(winner + begin, winner + end, none);
  for (Index kh = 0; kh < s.PH; ++kh) {
    const Index line = oh * s.stride_h + kh * s.dilation_h - s.pad_top;
    if (line < 0 || line >= s.H) continue;
    for (Index kw = 0; kw < s.PW; ++kw) {
      const Index offset = kw * s.dilation_w - s.pad_left;
      const OutputRange range(offset, s.stride_w, s.W, s.OW);
      const Arg tap = static_cast<Arg>(kh * s.PW + kw);
      const T* row = image + line * s.W + offset;
      for (Index ow = std::max(begin, range.first); ow < std::min(end, range.last); ++ow) {
        const T v = row[ow * s.stride_w], old = best[ow];
        const bool wins = (winner[ow] == none) | beats(v, old);
        best[ow] = wins ? v : old;
        winner[ow] = wins ? tap : winner[ow];
      }
    }
  }
}

// out = max over the window, where NaN beats every number; arg = the winning tap's index kh * PW + kw,
// the first of equals, or the type's largest number for a window that holds padding alone.
template <class T, class Arg>
void max_pool_forward(const T* x, T* out, Arg* arg, const PoolShape& s) {
  const auto whole_windows = max_pool_row_for<T, Arg>(s);
  // Columns whose windows lie inside the image.
  const Index first = std::min(s.OW, (s.pad_left + s.stride_w - 1) / s.stride_w);
  const Index last = s.W + s.pad_left < s.PW
                         ? first
                         : std::max(first, std::min(s.OW, (s.W + s.pad_left - s.PW) / s.stride_w + 1));
  const double work = double(s.planes) * s.OH * s.OW * s.PH * s.PW;
  parallel_for(s.planes, threads_for(work / 4), [&](Index plane, int) {
    const T* image = x + plane * s.H * s.W;
    for (Index oh = 0; oh < s.OH; ++oh) {
      T* best = out + (plane * s.OH + oh) * s.OW;
      Arg* winner = arg + (plane * s.OH + oh) * s.OW;
      const Index top = oh * s.stride_h - s.pad_top;
      if (whole_windows == nullptr || top < 0 || top + s.PH > s.H) {
        max_pool_taps(image, s, oh, 0, s.OW, best, winner);
        continue;
      }
      max_pool_taps(image, s, oh, 0, first, best, winner);
      whole_windows(image + top * s.W - s.pad_left, s.W, first, last, best, winner);
      max_pool_taps(image, s, oh, last, s.OW, best, winner);
    }
  });
}

// 2x2 windows side by side: every position of dx belongs to at most one window and is written once.
template <class T, class Arg>
void max_pool_backward_2x2(const T* dout, const Arg* arg, T* dx, const PoolShape& s) {
  using S = Simd<T>;
  parallel_for(s.planes, threads_for(double(s.planes) * s.H * s.W / 2), [&](Index plane, int) {
    for (Index oh = 0; oh < s.OH; ++oh) {
      const T* grad = dout + (plane * s.OH + oh) * s.OW;
      const Arg* winner = arg + (plane * s.OH + oh) * s.OW;
      T* upper = dx + (plane * s.H + 2 * oh) * s.W;
      T* lower = upper + s.W;
      Index ow = 0;
      for (; ow + S::size <= s.OW; ow += S::size) {
        T places[S::size];
        for (int i = 0; i < S::size; ++i) places[i] = static_cast<T>(static_cast<int>(winner[ow + i]));
        const auto place = S::load(places), g = S::load(grad + ow);
        const auto given = [&](int k) { return S::select(S::equal(place, S::fill(T(k))), g, S::zero()); };
        S::store_pairs(upper + 2 * ow, given(0), given(1));
        S::store_pairs(lower + 2 * ow, given(2), given(3));
      }
      for (; ow < s.OW; ++ow) {
        const T g = grad[ow];
        const int place = winner[ow];
        upper[2 * ow] = place == 0 ? g : T(0);
        upper[2 * ow + 1] = place == 1 ? g : T(0);
        lower[2 * ow] = place == 2 ? g : T(0);
        lower[2 * ow + 1] = place == 3 ? g : T(0);
      }
      if (2 * s.OW < s.W) upper[2 * s.OW] = lower[2 * s.OW] = T(0);
    }
    if (2 * s.OH < s.H) std::fill_n(dx + (plane * s.H + 2 * s.OH) * s.W, s.W, T(0));
  });
}

// dx[winner of each window] += dout. A winner that lies outside the image adds to nothing.
template <class T, class Arg>
void max_pool_backward(const T* dout, const Arg* arg, T* dx, const PoolShape& s) {
  const bool side_by_side = s.PH == 2 && s.PW == 2 && s.stride_h == 2 && s.stride_w == 2 &&
                            s.dilation_h == 1 && s.dilation_w == 1 && s.pad_top == 0 && s.pad_left == 0 &&
                            s.OH == s.H / 2 && s.OW == s.W / 2;
  if (side_by_side) return max_pool_backward_2x2(dout, arg, dx, s);
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
  const auto piece = layout.per_thread<T>(threads, s.OW);
  const Scratch scratch(layout.bytes());
  parallel_for(s.planes, threads, [&](Index plane, int slot) {
    const T* image = x + plane * s.H * s.W;
    T* weight = piece.of(scratch.data(), slot);
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
  const auto piece = layout.per_thread<T>(threads, s.OW);
  const Scratch scratch(layout.bytes());
  parallel_for(s.planes, threads, [&](Index plane, int slot) {
    T* image = dx + plane * s.H * s.W;
    T* weight = piece.of(scratch.data(), slot);
    std::fill_n(image, s.H * s.W, T(0));
    for (Index oh = 0; oh < s.OH; ++oh) {
      const T* from = dout + (plane * s.OH + oh) * s.OW;
      each_average_tap(s, oh, weight, [&](Index at, const OutputRange& range) {
        for (Index ow = range.first; ow < range.last; ++ow)
          image[at + ow * s.stride_w] += from[ow] * weight[ow];
      });
    }
  });
}

// out[plane] = mean of the plane.
template <class T>
void global_avg_pool_forward(const T* x, T* out, Index planes, Index size) {
  parallel_ranges(planes, 16, double(size), [&](Index begin, Index end) {
    for (Index plane = begin; plane < end; ++plane)
      out[plane] = T(sum(x + plane * size, size) / double(size));
  });
}

template <class T>
void global_avg_pool_backward(const T* dout, T* dx, Index planes, Index size) {
  parallel_ranges(planes, 16, double(size), [&](Index begin, Index end) {
    for (Index plane = begin; plane < end; ++plane)
      std::fill_n(dx + plane * size, size, dout[plane] / T(size));
  });
}

}  // namespace cnnlib::CNNLIB_ISA
