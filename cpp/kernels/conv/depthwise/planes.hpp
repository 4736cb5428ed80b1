// Depthwise 3x3 at stride 1 or 2 on planes as they lie, with neighbouring columns in the lanes: a walk down
// each vector of columns (column_walks.hpp) for the forward pass and either gradient, without scratch.
//
//   x (N, C, H, W)   w (C, 1, 3, 3)   out, dout (N, C, OH, OW)
#pragma once

#include "kernels/clamp.hpp"
#include "kernels/column_walks.hpp"
#include "kernels/conv/method.hpp"
#include "kernels/pool_bands.hpp"

namespace cnnlib::CNNLIB_ISA {

// The windows of such a convolution on its planes.
inline PoolShape windows_of(const ConvShape& s) {
  PoolShape p{};
  p.planes = s.N * s.C;
  p.H = s.H;
  p.W = s.W;
  p.OH = s.OH;
  p.OW = s.OW;
  p.PH = p.PW = 3;
  p.stride_h = s.stride_h;
  p.stride_w = s.stride_w;
  p.pad_top = s.pad_top;
  p.pad_left = s.pad_left;
  p.dilation_h = p.dilation_w = 1;
  return p;
}
// At stride 1, the windows whose gradient the forward pass is: those of out on x, with the filter turned
// round.
inline PoolShape transposed_windows_of(const ConvShape& s) {
  PoolShape p = windows_of(s);
  std::swap(p.H, p.OH);
  std::swap(p.W, p.OW);
  p.pad_top = 2 - s.pad_top;
  p.pad_left = 2 - s.pad_left;
  return p;
}

// The nine weights of a channel in registers.
template <class T>
struct PlaneFilter {
  using S = Simd<T>;
  typename S::Packet tap[9];

  PlaneFilter(const T* w, bool turned) {
#pragma GCC unroll 9
    for (int t = 0; t < 9; ++t) tap[t] = S::fill(w[turned ? 8 - t : t]);
  }
};

// Ends a walk's sums with the activation, if there is one. The nine weights leave few registers, which the
// limits of an activation that changes nothing must not take.
template <class T>
class ColumnEnd {
 public:
  explicit ColumnEnd(const Clamp<T>& limits) : activation(limits), changes(limits.changes()) {}
  [[gnu::always_inline]] Packet<T> operator()(Packet<T> sum) const {
    return changes ? clamp(activation, sum) : sum;
  }

 private:
  Clamp<T> activation;
  bool changes;
};

// A vector of columns of dx at stride 1, from `column` on: `start` and dout (OH, OW) through the filter.
template <class T, bool at_edge>
[[gnu::always_inline]] inline void gather_column(const PoolShape& s, Index column, const T* dout,
                                                 const PlaneFilter<T>& weight, T start_value,
                                                 const ColumnEnd<T>& finish, T* dx, const T* end,
                                                 const T*& next_dout, const T*& next_dx) {
  using S = Simd<T>;
  using Packet = typename S::Packet;
  const ReachingWindows<T, 3, 1> windows(s, column);
  const ColumnVector<T> vector[3] = {windows.vector[0], windows.vector[1], windows.vector[2]};
  const Packet start = S::fill(start_value);
  const Index W = s.W, OW = s.OW;
  Packet first = start, second = start;  // the row of dx that is next, and the one below, so far
  // Adds a row of dout; returns what it completes.
  const auto add_row = [&](const T* row) __attribute__((always_inline)) {
    Packet grad[3];
    prefetch_next<S::size>(next_dout);
    prefetch_next<S::size, true>(next_dx);
#pragma GCC unroll 3
    for (int i = 0; i < 3; ++i)
      grad[i] = at_edge ? S::load_lanes(row + vector[i].first, vector[i].skipped, vector[i].count)
                        : S::load(row + vector[i].first);
    const auto share = [&](int kh) __attribute__((always_inline)) {
      return S::fma(weight.tap[3 * kh + 2], grad[2],
                    S::fma(weight.tap[3 * kh + 1], grad[1], S::mul(weight.tap[3 * kh], grad[0])));
    };
    const Packet complete = S::add(first, share(0));
    first = S::add(second, share(1));
    second = S::add(start, share(2));
    return complete;
  };
  Index oh = 0;
  for (; oh < std::min(s.pad_top, s.OH); ++oh) add_row(dout + oh * OW);
  for (Index missing = s.pad_top - oh; missing > 0; --missing) first = std::exchange(second, start);
  // Rows of dx, of which the last ones lie too near the end of the array for whole vectors.
  const Index rows = std::clamp<Index>(s.OH - oh, 0, s.H);
  const Index room = Index(end - dx) - column - S::size, whole = room < 0 ? 0 : std::min(rows, room / W + 1);
  const T* row = dout + oh * OW;
  T* to = dx + column;
  Index h = 0;
  for (; h < whole; ++h, row += OW, to += W) {
    S::store(to, finish(add_row(row)));
  }
  for (; h < rows; ++h, row += OW) store_in_rows(dx + h * W, W, column, end, finish(add_row(row)));
  for (; h < s.H; ++h) {
    store_in_rows(dx + h * W, W, column, end, finish(first));
    first = second;
    second = start;
  }
}

// A plane of dx (H, W).
template <class T>
[[gnu::noinline]] void gather_plane(const PoolShape& s, const T* dout, const PlaneFilter<T>& filter, T start,
                                    Clamp<T> activation, T* dx, const T* end) {
  using S = Simd<T>;
  const PlaneFilter<T> weight = filter;
  const T* next_dout = dout + s.OH * s.OW;
  const T* next_dx = dx + s.H * s.W;
  const ColumnEnd<T> finish(activation);
  for (Index w = last_vector(s.W, S::size); w >= 0; w -= S::size) {
    const bool inside = w + s.pad_left >= 2 && w + s.pad_left + S::size <= s.OW;
    if (inside)
      gather_column<T, false>(s, w, dout, weight, start, finish, dx, end, next_dout, next_dx);
    else
      gather_column<T, true>(s, w, dout, weight, start, finish, dx, end, next_dout, next_dx);
  }
}

// A plane of dx (H, W) at stride 2, by pairs of columns.
template <class T>
[[gnu::noinline]] void gather_strided_plane(const PoolShape& s, const T* dout, const PlaneFilter<T>& filter,
                                            T start, Clamp<T> activation, T* dx, const T* end) {
  using S = Simd<T>;
  using Windows = ReachingWindows<T, 3, 2>;
  struct Row {
    typename S::Packet dout[Windows::vectors];
  };
  constexpr Index step = 2 * S::size;
  const PlaneFilter<T> weight = filter;
  const T* next_dout = dout + s.OH * s.OW;
  const T* next_dx = dx + s.H * s.W;
  for (Index w = last_vector(s.W, step); w >= 0; w -= step) {
    const Windows windows(s, w);
    gather_windows_down<T, 3, 2>(
        s, w, S::fill(start), dx, end,
        [&](Index oh) {
          Row row;
          prefetch_next<S::size>(next_dout);
          prefetch_next<4 * S::size, true>(next_dx);
          for (int i = 0; i < Windows::vectors; ++i) row.dout[i] = windows.vector[i].load(dout + oh * s.OW);
          return row;
        },
        [&](const Row& row, int kh) {
          return windows.gather([&](int i, int kw) { return S::mul(weight.tap[3 * kh + kw], row.dout[i]); },
                                [&](typename S::Packet sum, int i, int kw) {
                                  return S::fma(weight.tap[3 * kh + kw], row.dout[i], sum);
                                });
        },
        ColumnEnd<T>(activation));
  }
}

// The taps along a row of windows 3 wide.
template <class T>
struct TapLine {
  using S = Simd<T>;
  typename S::Packet tap[3];

  // Those of windows `Stride` apart that lie inside the row, of which the first begins at `row`.
  template <int Stride>
  [[gnu::always_inline]] void load_inside(const T* row) {
    if constexpr (Stride == 1) {
#pragma GCC unroll 3
      for (int kw = 0; kw < 3; ++kw) tap[kw] = S::load(row + kw);
    } else {
      S::load_pairs(row, tap[0], tap[1]);
      tap[2] = S::shift_down(tap[0], S::fill(row[2 * S::size]));
    }
  }
};

// window(oh, its three lines) down a vector of windows 2 apart, where line_of(h) reads line h of the image.
// slide_windows_down asks for sizes at every line, which costs AVX2 a tenth of dw.
template <class T, class LineOf, class Window>
[[gnu::always_inline]] inline void each_strided_window(const PoolShape& s, const LineOf& line_of,
                                                       const Window& window) {
  const TapLine<T> outside{{Simd<T>::zero(), Simd<T>::zero(), Simd<T>::zero()}};
  const auto line_at = [&](Index h) __attribute__((always_inline)) {
    return h >= 0 && h < s.H ? line_of(h) : outside;
  };
  TapLine<T> first = line_at(-s.pad_top);
  for (Index oh = 0, h = 1 - s.pad_top; oh < s.OH; ++oh, h += 2) {
    const TapLine<T> second = line_at(h), third = line_at(h + 1);
    window(oh, first, second, third);
    first = third;
  }
}

// A vector of columns of outputs at stride 2, from column j on.
template <class T, bool at_edge>
[[gnu::always_inline]] inline void correlate_strided_column(const PoolShape& s, Index j, const T* x,
                                                            const PlaneFilter<T>& weight, T bias,
                                                            const ColumnEnd<T>& finish, T* out, const T* end,
                                                            const T*& next_x, const T*& next_out) {
  using S = Simd<T>;
  using Packet = typename S::Packet;
  const Index W = s.W, column = 2 * j - s.pad_left;
  const WindowTaps<T, 3, 2> taps(column, W);
  const Packet start = S::fill(bias), zero = S::zero();
  const auto load = [&](Index h) __attribute__((always_inline)) {
    const T* row = x + h * W;
    prefetch_next<2 * S::size>(next_x);
    TapLine<T> line;
    if constexpr (at_edge) {
      taps.load(row, line.tap);
    } else {
      line.template load_inside<2>(row + column);
    }
    return line;
  };
  const auto load_inside = [&](Index h) __attribute__((always_inline)) {
    return h >= 0 && h < s.H ? load(h) : TapLine<T>{{zero, zero, zero}};
  };
  const auto through = [&](const TapLine<T>& line, int kh, Packet sum) __attribute__((always_inline)) {
#pragma GCC unroll 3
    for (int kw = 0; kw < 3; ++kw) sum = S::fma(weight.tap[3 * kh + kw], line.tap[kw], sum);
    return sum;
  };
  using Line = const TapLine<T>&;
  const auto window = [&](Line first, Line second, Line third) __attribute__((always_inline)) {
    prefetch_next<S::size, true>(next_out);
    return finish(
        S::add(through(second, 1, start), S::add(through(first, 0, zero), through(third, 2, zero))));
  };
  TapLine<T> first = load_inside(-s.pad_top);
  Index oh = 0, h = 1 - s.pad_top;  // h: the window's second line
  const auto careful = [&](Index last) __attribute__((always_inline)) {
    for (; oh < last; ++oh, h += 2) {
      const TapLine<T> third = load_inside(h + 1);
      store_in_rows(out + oh * s.OW, s.OW, j, end, window(first, load_inside(h), third));
      first = third;
    }
  };
  careful(std::min<Index>(s.OH, s.pad_top > 1));
  // Windows that lie inside the image, and whose vectors end in the array.
  const Index room = Index(end - out) - j - S::size, whole = room < 0 ? 0 : room / s.OW + 1;
  const Index inside = std::min({s.OH, whole, oh + std::max<Index>(0, (s.H - h) / 2)});
  for (; oh < inside; ++oh, h += 2) {
    const TapLine<T> second = load(h), third = load(h + 1);
    S::store(out + oh * s.OW + j, window(first, second, third));
    first = third;
  }
  careful(s.OH);
}

// A plane of outputs at stride 2.
template <class T>
[[gnu::noinline]] void correlate_strided_plane(const PoolShape& s, const T* x, const PlaneFilter<T>& filter,
                                               T bias, Clamp<T> activation, T* out, const T* end) {
  const PlaneFilter<T> weight = filter;
  const T* next_x = x + s.H * s.W;
  const T* next_out = out + s.OH * s.OW;
  const ColumnEnd<T> finish(activation);
  for (Index j = last_vector(s.OW, Simd<T>::size); j >= 0; j -= Simd<T>::size) {
    const Index column = 2 * j - s.pad_left;
    if (column >= 0 && column + 2 * Simd<T>::size < s.W)
      correlate_strided_column<T, false>(s, j, x, weight, bias, finish, out, end, next_x, next_out);
    else
      correlate_strided_column<T, true>(s, j, x, weight, bias, finish, out, end, next_x, next_out);
  }
}

// The taps along a row of `windows` windows, of which the first begins at `column` of W. Other lanes are
// zeros and make no products, whatever x holds there.
template <class T, int Stride>
class EdgeTaps;

template <class T>
class EdgeTaps<T, 1> {
 public:
  EdgeTaps(Index column, Index W, Index windows) {
    for (Index kw = 0; kw < 3; ++kw) tap[kw] = {column + kw, std::min(W, column + kw + windows)};
  }
  [[gnu::always_inline]] void load(const T* row, TapLine<T>& line) const {
#pragma GCC unroll 3
    for (int kw = 0; kw < 3; ++kw) line.tap[kw] = tap[kw].load(row);
  }

 private:
  ColumnVector<T> tap[3];
};

template <class T>
class EdgeTaps<T, 2> {
  using S = Simd<T>;

 public:
  EdgeTaps(Index column, Index W, Index windows) : taps(column, std::min(W, column + 2 * windows + 1)) {
    T outside[S::size];
    for (Index l = 0; l < S::size; ++l) outside[l] = T(l >= windows);
    inside = S::equal(S::load(outside), S::zero());
  }
  [[gnu::always_inline]] void load(const T* row, TapLine<T>& line) const {
    taps.load(row, line.tap);
    line.tap[0] = S::select(inside, line.tap[0], S::zero());  // one more was loaded for tap 2
  }

 private:
  WindowTaps<T, 3, 2> taps;
  typename S::Mask inside;
};

// What a vector of columns of dout, from column j on, adds to sum[t], the products with tap t of x, and to
// sum[9], dout.
template <class T, int Stride, bool at_edge>
[[gnu::always_inline]] inline void add_column_products(const PoolShape& s, Index j, const T* x, const T* dout,
                                                       typename Simd<T>::Packet (&sum)[10], const T*& next_x,
                                                       const T*& next_dout) {
  using S = Simd<T>;
  using Packet = typename S::Packet;
  const Index column = j * Stride - s.pad_left, W = s.W, OW = s.OW, OH = s.OH, pad = s.pad_top;
  const ColumnVector<T> columns(j, OW);
  const EdgeTaps<T, Stride> taps(column, W, columns.count);
  const auto add_products = [&](int kh, Packet grad, const TapLine<T>& line) __attribute__((always_inline)) {
#pragma GCC unroll 3
    for (int kw = 0; kw < 3; ++kw) sum[3 * kh + kw] = S::fma(grad, line.tap[kw], sum[3 * kh + kw]);
  };
  const auto line_of = [&](Index h) __attribute__((always_inline)) {
    TapLine<T> line;
    const T* row = x + h * W;
    prefetch_next<Stride * S::size>(next_x);
    if constexpr (at_edge)
      taps.load(row, line);
    else
      line.template load_inside<Stride>(row + column);
    return line;
  };
  const auto grad_of = [&](Index oh) __attribute__((always_inline)) {
    prefetch_next<S::size>(next_dout);
    const T* row = dout + oh * OW;
    const Packet grad = at_edge ? columns.load(row) : S::load(row + j);
    sum[9] = S::add(sum[9], grad);
    return grad;
  };
  if constexpr (Stride == 1) {
    // Line h of x meets rows h + pad - kh of dout: one more for each line. With rows that are not there it
    // makes no product, since 0 times NaN would be one: a, b and c say for which kh one is there.
    Packet last = S::zero(), middle = S::zero();
    if (pad > 1 && OH > 0) last = grad_of(0);
    if (pad > 0 && OH >= pad) middle = grad_of(pad - 1);
    const auto add_line = [&](Index h, Packet first, bool a, bool b, bool c) __attribute__((always_inline)) {
      const TapLine<T> line = line_of(h);
      if (a) add_products(0, first, line);
      if (b) add_products(1, middle, line);
      if (c) add_products(2, last, line);
      last = middle;
      middle = first;
    };
    Index h = 0;
    for (; h < std::min({s.H, OH - pad, 2 - pad}); ++h)
      add_line(h, grad_of(h + pad), true, h + pad > 0, false);
    for (; h < std::min(s.H, OH - pad); ++h) add_line(h, grad_of(h + pad), true, true, true);
    for (; h < std::min(s.H, OH - pad + 2); ++h) add_line(h, S::zero(), false, h + pad == OH, h + pad > 1);
    for (; h < OH - pad; ++h) grad_of(h + pad);  // of windows below the image
  } else {
    each_strided_window<T>(s, line_of,
                           [&](Index oh, const TapLine<T>& first, const TapLine<T>& second,
                               const TapLine<T>& third) __attribute__((always_inline)) {
                             const Packet grad = grad_of(oh);
                             add_products(0, grad, first);
                             add_products(1, grad, second);
                             add_products(2, grad, third);
                           });
  }
}

// sums[t][lane] += the products of dout with tap t of a plane of x, sums[9][lane] += dout.
template <class T, int Stride>
[[gnu::noinline]] void add_plane_products(const PoolShape& s, const T* x, const T* dout, T* sums) {
  using S = Simd<T>;
  typename S::Packet sum[10];
#pragma GCC unroll 10
  for (int t = 0; t < 10; ++t) sum[t] = S::load(sums + t * S::size);
  const T *next_x = x + s.H * s.W, *next_dout = dout + s.OH * s.OW;
  for (Index j = last_vector(s.OW, S::size); j >= 0; j -= S::size) {
    const Index column = j * Stride - s.pad_left;
    if (column >= 0 && column + Stride * S::size + 2 <= s.W && j + S::size <= s.OW)
      add_column_products<T, Stride, false>(s, j, x, dout, sum, next_x, next_dout);
    else
      add_column_products<T, Stride, true>(s, j, x, dout, sum, next_x, next_dout);
  }
#pragma GCC unroll 10
  for (int t = 0; t < 10; ++t) S::store(sums + t * S::size, sum[t]);
}

}  // namespace cnnlib::CNNLIB_ISA
