// Adaptive pooling: OH x OW windows that cover the plane evenly, whatever its size.
#pragma once

#include "kernels/pool/avg_pool.hpp"
#include "kernels/pool/max_pool.hpp"

namespace cnnlib::CNNLIB_ISA {

inline AdaptiveWindows row_windows(const AdaptivePoolShape& s) { return {s.H, s.OH}; }
inline AdaptiveWindows column_windows(const AdaptivePoolShape& s) { return {s.W, s.OW}; }

// Whether all windows have one size, and the pool of that size.
inline bool even_windows(const AdaptivePoolShape& s) { return s.H % s.OH == 0 && s.W % s.OW == 0; }
inline PoolShape pool_of_even_windows(const AdaptivePoolShape& s) {
  PoolShape pool{};
  pool.planes = s.planes;
  pool.H = s.H;
  pool.W = s.W;
  pool.OH = s.OH;
  pool.OW = s.OW;
  pool.PH = pool.stride_h = s.H / s.OH;
  pool.PW = pool.stride_w = s.W / s.OW;
  pool.dilation_h = pool.dilation_w = 1;
  return pool;
}

// out[oh, ow] = mean of its window.
template <class T>
void adaptive_avg_pool_forward(const T* x, T* out, const AdaptivePoolShape& s) {
  if (even_windows(s)) return avg_pool_forward(x, out, pool_of_even_windows(s));
  window_means(x, s.planes, s.H, s.W, row_windows(s), column_windows(s), out);
}

// dx[h, w] = sum of dout / size over the windows that hold it.
template <class T>
void adaptive_avg_pool_backward(const T* dout, T* dx, const AdaptivePoolShape& s) {
  if (even_windows(s)) return avg_pool_backward(dout, dx, pool_of_even_windows(s));
  window_shares(dout, s.planes, s.H, s.W, row_windows(s), column_windows(s), dx);
}

// The largest of n values, at least a vector of them; NaN if one is.
template <class T>
T largest_of(const T* p, Index n) {
  using S = Simd<T>;
  auto a = S::load(p + n - S::size), b = a, c = a, d = a;  // the last vector may overlap the one before
  Index i = 0;
  for (; i + 4 * S::size <= n; i += 4 * S::size) {
    a = S::max_or_nan(a, S::load(p + i));
    b = S::max_or_nan(b, S::load(p + i + S::size));
    c = S::max_or_nan(c, S::load(p + i + 2 * S::size));
    d = S::max_or_nan(d, S::load(p + i + 3 * S::size));
  }
  for (; i + S::size <= n; i += S::size) a = S::max_or_nan(a, S::load(p + i));
  T lanes[S::size];
  S::store(lanes, S::max_or_nan(S::max_or_nan(a, b), S::max_or_nan(c, d)));
  T most = lanes[0];
  for (const T v : lanes) most = greater_or_nan(v, most) ? v : most;
  return most;
}

// Where among n values v stands first; NaN where v is.
template <class T>
Index first_place(const T* p, Index n, T v) {
  using S = Simd<T>;
  const auto wanted = S::fill(v);
  Index i = 0;
  if (v == v)
    while (i + S::size <= n && !S::any(S::equal(S::load(p + i), wanted))) i += S::size;
  while (p[i] != v && (v == v || p[i] == p[i])) ++i;
  return i;
}

// The largest value of a window so far, and where in the plane it stands: the first in row-major order of
// equal values, and of NaN, which beats every number.
template <class T>
struct FirstMaximum {
  T value;
  Index at;

  // The next n values of the window, which begin at `begin`.
  void take(const T* plane, Index begin, Index n) {
    if (n < 2 * Simd<T>::size) {
      for (Index i = begin; i < begin + n; ++i) take_if(greater_or_nan(plane[i], value), plane[i], i);
    } else if (const T most = largest_of(plane + begin, n); greater_or_nan(most, value)) {
      at = begin + first_place(plane + begin, n, most);
      value = plane[at];
    }
  }
  // Without a branch, which would be mispredicted for each new maximum.
  void take_if(bool wins, T v, Index i) {
    value = wins ? v : value;
    at = wins ? i : at;
  }
};

// What both passes take.
inline double adaptive_work(const AdaptivePoolShape& s) {
  return double(s.planes) * double(s.H * s.W + s.OH * s.OW);
}

// out[oh, ow] = maximum of its window, and arg where in the plane it stands.
template <class T>
void adaptive_max_pool_forward(const T* x, T* out, std::int64_t* arg, const AdaptivePoolShape& s) {
  const AdaptiveWindows rows = row_windows(s), columns = column_windows(s);
  const auto find = [=](const T* plane, Index oh, Index ow) {
    const Index left = columns.begin(ow), width = columns.end(ow) - left, top = rows.begin(oh);
    const Index first = top * s.W + left;
    FirstMaximum<T> maximum{plane[first], first};
    if (s.OW == 1)  // its rows are one run
      maximum.take(plane, first, (rows.end(oh) - top) * s.W);
    else
      for (Index h = top; h < rows.end(oh); ++h) maximum.take(plane, h * s.W + left, width);
    return maximum;
  };
  const PlaneGrid grid(s.planes, s.OH, s.OW, s.H * s.W + s.OH * s.OW, adaptive_work(s));
  grid.each([=](const PlaneTask& task, int) {
    for (Index plane = task.first_plane; plane < task.last_plane; ++plane)
      for (Index oh = task.first_row; oh < task.last_row; ++oh)
        for (Index ow = task.first_column; ow < task.last_column; ++ow) {
          const FirstMaximum<T> maximum = find(x + plane * s.H * s.W, oh, ow);
          const Index to = (plane * s.OH + oh) * s.OW + ow;
          out[to] = maximum.value;
          arg[to] = maximum.at;
        }
  });
}

// Each output's gradient goes to where its maximum stands; a position outside the rows of its window, which
// only an altered cache holds, takes none.
template <class T>
void adaptive_max_pool_backward(const T* dout, const std::int64_t* arg, T* dx, const AdaptivePoolShape& s) {
  const AdaptiveWindows rows = row_windows(s);
  const PlaneGrid grid(s.planes, s.H, 1, s.H * s.W + s.OH * s.OW, adaptive_work(s));
  grid.each([=](const PlaneTask& task, int) {
    for (Index plane = task.first_plane; plane < task.last_plane; ++plane) {
      T* to = dx + plane * s.H * s.W;
      std::fill(to + task.first_row * s.W, to + task.last_row * s.W, T(0));
      const Index end = rows.last_reaching(task.last_row - 1);
      for (Index oh = rows.first_reaching(task.first_row); oh < end; ++oh) {
        const Index first = std::max(rows.begin(oh), task.first_row) * s.W,
                    last = std::min(rows.end(oh), task.last_row) * s.W;
        for (Index o = (plane * s.OH + oh) * s.OW; o < (plane * s.OH + oh + 1) * s.OW; ++o)
          if (arg[o] >= first && arg[o] < last) to[arg[o]] += dout[o];
      }
    }
  });
}

}  // namespace cnnlib::CNNLIB_ISA
