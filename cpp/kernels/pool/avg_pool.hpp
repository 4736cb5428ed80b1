// Average pooling: out[oh, ow] = sum of the window / divisor, where padding counts or not, and
// dx[h, w] = sum of dout / divisor over the windows that cover it. x (planes, H, W), out (planes, OH, OW).
#pragma once

#include "kernels/pool/pool_rows.hpp"
#include "kernels/simd/sums.hpp"

namespace cnnlib::CNNLIB_ISA {

// How many positions of output o's window an average divides by, along one axis: those inside the
// padded image when padding counts, those inside the image otherwise; never the overhang of ceil_mode.
inline Index averaged(Index o, Index stride, Index window, Index size, Index pad_before, Index pad_after,
                      bool count_pad) {
  const Index begin = o * stride - pad_before, end = std::min(begin + window, size + pad_after);
  return count_pad ? end - begin : std::max<Index>(1, std::min(end, size) - std::max<Index>(begin, 0));
}

// 1 / divisor of every output of a plane.
template <class T>
void average_weights(const PoolShape& s, T* weight) {
  for (Index oh = 0; oh < s.OH; ++oh) {
    const Index tall = averaged(oh, s.stride_h, s.PH, s.H, s.pad_top, s.pad_bottom, s.count_include_pad);
    for (Index ow = 0; ow < s.OW; ++ow)
      *weight++ =
          T(1) / T(tall * averaged(ow, s.stride_w, s.PW, s.W, s.pad_left, s.pad_right, s.count_include_pad));
  }
}

// `weight` (OH, OW) is 1 / divisor here and below.
template <class T, int PW, int Stride>
void avg_pool_small_windows(const T* x, const T* weight, T* out, const PoolShape& s) {
  using S = Simd<T>;
  const PlaneSlices slices(s);
  const PaddedRows<T> padded(s.W, round_up(s.OW, S::size) * Stride + 2);
  Layout layout;
  const auto piece = layout.per_thread<T>(slices.threads, padded.size(s.H));
  const Scratch scratch(layout.bytes());
  const auto clear = [&](int slot) { std::fill_n(piece.of(scratch.data(), slot), padded.size(s.H), T(0)); };
  slices.each_plane(clear, [&](Index plane, int slot) {
    T* rows = piece.of(scratch.data(), slot);
    for (Index h = 0; h < s.H; ++h)
      padded.fill(padded.row(rows, h),
                  [&](Index j, Index count) { return load_first(x + (plane * s.H + h) * s.W + j, count); });
    for (Index oh = 0; oh < s.OH; ++oh) {
      const Index top = oh * s.stride_h - s.pad_top;
      const Index begin = std::max<Index>(top, 0), end = std::min(top + s.PH, s.H);
      for (Index ow = 0; ow < s.OW; ow += S::size) {
        auto sum = S::zero();
        for (Index h = begin; h < end; ++h) {
          typename S::Packet tap[PW];
          load_taps<T, PW, Stride>(padded.row(rows, h) + ow * Stride - s.pad_left, tap);
#pragma GCC unroll 3
          for (int kw = 0; kw < PW; ++kw) sum = S::add(sum, tap[kw]);
        }
        sum = S::mul(sum, S::load_within(weight + oh * s.OW, s.OW, ow, T(0)));
        store_in_plane(out + (plane * s.OH + oh) * s.OW, s.OW, ow, out + (plane + 1) * s.OH * s.OW, sum);
      }
    }
  });
}

// A row of dx, gathered from the windows that reach it: `shares` is dout / divisor, between margins of zeros.
template <class T, int PW, int Stride>
void avg_pool_backward_row(const PaddedRows<T>& padded, T* shares, const PoolShape& s,
                           const ReachingRows& reaching, T* to, const T* plane_end) {
  using S = Simd<T>;
  const T* row[3];
  const int rows = reaching.count;
  for (int r = 0; r < rows; ++r) row[r] = padded.row(shares, reaching.oh[r]);
  const auto share = [&](Index at) {  // of the windows from `at` on, for each of their columns
    auto sum = S::zero();
    for (int r = 0; r < rows; ++r) sum = S::add(sum, S::load(row[r] + at));
    return sum;
  };
  const Index W = s.W, pad = s.pad_left;
  if constexpr (Stride == 1) {
    for (Index w = 0; w < W; w += S::size) {
      auto sum = share(w + pad);
#pragma GCC unroll 2
      for (int kw = 1; kw < PW; ++kw) sum = S::add(sum, share(w + pad - kw));
      store_in_plane(to, W, w, plane_end, sum);
    }
  } else {
    for (Index w = 0, j = pad / 2; w < W; w += 2 * S::size, j += S::size) {
      // Of each pair of columns one is the middle of a window 3 wide, the other its neighbours' edge.
      const auto own = share(j);
      auto first = own, second = own;
      if (pad % 2 == 0) {
        if constexpr (PW == 3) first = S::add(own, share(j - 1));
      } else {
        second = share(j + 1);
        if constexpr (PW == 3) second = S::add(second, own);
      }
      typename S::Packet low, high;
      S::join_pairs(first, second, low, high);
      store_in_plane(to, W, w, plane_end, low);
      store_in_plane(to, W, w + S::size, plane_end, high);
    }
  }
}

template <class T, int PW, int Stride>
void avg_pool_backward_small_windows(const T* dout, const T* weight, T* dx, const PoolShape& s) {
  using S = Simd<T>;
  const PlaneSlices slices(s);
  const PaddedRows<T> padded(s.OW, (s.W + s.pad_left) / Stride + S::size + 2);
  Layout layout;
  const auto piece = layout.per_thread<T>(slices.threads, padded.size(s.OH));
  const auto reaching_piece = layout.array<ReachingRows>(s.H);
  const Scratch scratch(layout.bytes());
  const ReachingRows* reaching = reaching_rows(s, reaching_piece.in(scratch.data()));
  const auto clear = [&](int slot) { std::fill_n(piece.of(scratch.data(), slot), padded.size(s.OH), T(0)); };
  slices.each_plane(clear, [&](Index plane, int slot) {
    T* shares = piece.of(scratch.data(), slot);
    for (Index oh = 0; oh < s.OH; ++oh) {
      const T *grad = dout + (plane * s.OH + oh) * s.OW, *scale = weight + oh * s.OW;
      padded.fill(padded.row(shares, oh), [&](Index j, Index count) {
        return S::mul(load_first(grad + j, count), load_first(scale + j, count));
      });
    }
    for (Index h = 0; h < s.H; ++h)
      avg_pool_backward_row<T, PW, Stride>(padded, shares, s, reaching[h], dx + (plane * s.H + h) * s.W,
                                           dx + (plane + 1) * s.H * s.W);
  });
}

// row(position in the image of output 0's tap, outputs) for every tap of row oh of any windows.
template <class Row>
void each_average_tap(const PoolShape& s, Index oh, const Row& row) {
  for (Index kh = 0; kh < s.PH; ++kh) {
    const Index line = oh * s.stride_h + kh - s.pad_top;
    if (line < 0 || line >= s.H) continue;
    for (Index kw = 0; kw < s.PW; ++kw)
      row(line * s.W + kw - s.pad_left, OutputRange(kw - s.pad_left, s.stride_w, s.W, s.OW));
  }
}

// out (planes, OH, OW) from x (planes, H, W).
template <class T>
void avg_pool_forward(const T* x, T* out, const PoolShape& s) {
  Layout layout;
  const auto piece = layout.array<T>(s.OH * s.OW);
  const Scratch scratch(layout.bytes());
  T* weight = piece.in(scratch.data());
  average_weights(s, weight);
  if (small_windows(s))
    return with_window(
        s, [&](auto width, auto stride) { avg_pool_small_windows<T, width(), stride()>(x, weight, out, s); });
  PlaneSlices(s).each_plane([&](Index plane, int) {
    const T* image = x + plane * s.H * s.W;
    for (Index oh = 0; oh < s.OH; ++oh) {
      T* to = out + (plane * s.OH + oh) * s.OW;
      std::fill_n(to, s.OW, T(0));
      each_average_tap(s, oh, [&](Index at, const OutputRange& range) {
        for (Index ow = range.first; ow < range.last; ++ow) to[ow] += image[at + ow * s.stride_w];
      });
      for (Index ow = 0; ow < s.OW; ++ow) to[ow] *= weight[oh * s.OW + ow];
    }
  });
}

// dx (planes, H, W) from dout (planes, OH, OW).
template <class T>
void avg_pool_backward(const T* dout, T* dx, const PoolShape& s) {
  Layout layout;
  const auto piece = layout.array<T>(s.OH * s.OW);
  const Scratch scratch(layout.bytes());
  T* weight = piece.in(scratch.data());
  average_weights(s, weight);
  if (small_windows(s))
    return with_window(s, [&](auto width, auto stride) {
      avg_pool_backward_small_windows<T, width(), stride()>(dout, weight, dx, s);
    });
  PlaneSlices(s).each_plane([&](Index plane, int) {
    T* image = dx + plane * s.H * s.W;
    std::fill_n(image, s.H * s.W, T(0));
    for (Index oh = 0; oh < s.OH; ++oh) {
      const T *from = dout + (plane * s.OH + oh) * s.OW, *scale = weight + oh * s.OW;
      each_average_tap(s, oh, [&](Index at, const OutputRange& range) {
        for (Index ow = range.first; ow < range.last; ++ow)
          image[at + ow * s.stride_w] += from[ow] * scale[ow];
      });
    }
  });
}

constexpr Index global_pool_planes = 16;  // of a task: a cache line of results

// out[plane] = mean of the plane.
template <class T>
void global_avg_pool_forward(const T* x, T* out, Index planes, Index size) {
  parallel_ranges(planes, global_pool_planes, double(size), [&](Index begin, Index end) {
    for (Index plane = begin; plane < end; ++plane)
      out[plane] = T(sum(x + plane * size, size) / double(size));
  });
}

// dx[plane, i] = dout[plane] / size.
template <class T>
void global_avg_pool_backward(const T* dout, T* dx, Index planes, Index size) {
  parallel_ranges(planes, global_pool_planes, double(size), [&](Index begin, Index end) {
    for (Index plane = begin; plane < end; ++plane)
      std::fill_n(dx + plane * size, size, dout[plane] / T(size));
  });
}

}  // namespace cnnlib::CNNLIB_ISA
