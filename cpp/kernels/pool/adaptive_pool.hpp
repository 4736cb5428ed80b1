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
  return even_pool(s.planes, s.OH, s.OW, s.H / s.OH, s.W / s.OW);
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

// The largest of `lines` lines of n values that lie `pitch` apart; NaN if one is.
template <class T>
T largest_of(const T* p, Index lines, Index n, Index pitch) {
  using S = Simd<T>;
  auto lanes = S::fill(p[0]);
  for (Index line = 0; line < lines; ++line)
    for (Index i = 0; i < n; i += S::size)
      lanes = S::max_or_nan(lanes, load_first(p + line * pitch + i, std::min<Index>(S::size, n - i), p[0]));
  T value[S::size];
  S::store(value, lanes);
  T most = value[0];
  for (const T v : value) most = greater_or_nan(v, most) ? v : most;
  return most;
}

// Where among n values v stands first, NaN where v is; n where it does not.
template <class T>
Index first_place(const T* p, Index n, T v) {
  using S = Simd<T>;
  const auto wanted = S::fill(v);
  Index i = 0;
  if (v == v)
    while (i + S::size <= n && !S::any(S::equal(S::load(p + i), wanted))) i += S::size;
  while (i < n && p[i] != v && (v == v || p[i] == p[i])) ++i;
  return i;
}

// What both passes take.
inline double adaptive_work(const AdaptivePoolShape& s) {
  return double(s.planes) * double(s.H * s.W + s.OH * s.OW);
}

// out[oh, ow] = maximum of its window, and arg where in the plane it stands: the first in row-major order of
// equal values, and of NaN, which beats every number.
template <class T>
void adaptive_max_pool_forward(const T* x, T* out, std::int64_t* arg, const AdaptivePoolShape& s) {
  const AdaptiveWindows rows = row_windows(s), columns = column_windows(s);
  const PlaneGrid grid(s.planes, s.OH, s.OW, s.H * s.W + s.OH * s.OW, adaptive_work(s));
  grid.each([=](const PlaneTask& task, int) {
    for (Index plane = task.first_plane; plane < task.last_plane; ++plane)
      for (Index oh = task.first_row; oh < task.last_row; ++oh)
        for (Index ow = task.first_column; ow < task.last_column; ++ow) {
          const T* const image = x + plane * s.H * s.W;
          const Index left = columns.begin(ow), top = rows.begin(oh), height = rows.end(oh) - top;
          const bool one_row = s.OW == 1;  // whole rows follow each other
          const Index width = one_row ? height * s.W : columns.end(ow) - left;
          const Index lines = one_row ? 1 : height, to = (plane * s.OH + oh) * s.OW + ow;
          Index row = top * s.W + left;
          const T most = largest_of(image + row, lines, width, s.W);
          Index place = first_place(image + row, width, most);
          for (Index line = 1; line < lines && place == width; ++line)
            place = first_place(image + (row += s.W), width, most);
          arg[to] = row + std::min(place, width - 1);  // should another thread write to x meanwhile
          out[to] = image[arg[to]];
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
