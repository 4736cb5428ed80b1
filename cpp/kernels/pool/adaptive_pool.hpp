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

// The largest of n values; NaN if one is.
template <class T>
T largest_of(const T* p, Index n) {
  using S = Simd<T>;
  T most = p[0], lanes[S::size];
  if (n > 2 * S::size) {
    auto a = S::load(p + n - S::size), b = S::load(p);  // the last vector may overlap the one before
    for (Index i = S::size; i + S::size <= n; i += S::size) a = S::max_or_nan(a, S::load(p + i));
    S::store(lanes, S::max_or_nan(a, b));
    p = lanes;
    n = S::size;
  }
  for (Index i = 0; i < n; ++i) most = greater_or_nan(p[i], most) ? p[i] : most;
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

// out[oh, ow] = maximum of its window, and arg, unless it is null, where in the plane it stands: the first in
// row-major order of equal values, and of NaN, which beats every number. The columns of a row of windows are
// gone down first, so many rows at a time that T counts them.
template <class T>
void adaptive_max_pool_forward(const T* x, T* out, std::int64_t* arg, const AdaptivePoolShape& s) {
  using S = Simd<T>;
  constexpr Index most_rows = 1 << 20;
  const AdaptiveWindows rows = row_windows(s), columns = column_windows(s);
  const auto run_rows = [=](const T* plane, Index top, Index bottom, bool first, const PlaneTask& task,
                            T* value, T* row, T* to, std::int64_t* place) {
    const Index end = columns.end(task.last_column - 1);
    for (Index w = columns.begin(task.first_column); w < end; w += S::size) {
      const Index count = std::min<Index>(S::size, end - w);
      Maxima<T, true> most{load_first(plane + top * s.W + w, count), S::zero()};
      for (Index h = top + 1; h < bottom; ++h)
        most.add({load_first(plane + h * s.W + w, count), S::zero()}, static_cast<int>(h - top));
      S::store(value + w, most.value);
      S::store(row + w, most.tap);
    }
    for (Index ow = task.first_column; ow < task.last_column; ++ow) {
      const Index left = columns.begin(ow), right = columns.end(ow);
      const T most = largest_of(value + left, right - left);
      if (!first && !greater_or_nan(most, to[ow])) continue;
      T first_row = T(most_rows);
      Index at = left;
      for (Index w = left; (w += first_place(value + w, right - w, most)) < right; ++w)
        if (row[w] < first_row) first_row = row[at = w];
      to[ow] = value[at];
      if (place != nullptr) place[ow] = (top + static_cast<Index>(first_row)) * s.W + at;
    }
  };
  const PlaneGrid grid(s.planes, s.OH, s.OW, s.H * s.W + s.OH * s.OW, adaptive_work(s));
  grid.each([=](const PlaneTask& task, int) {
    const Index line = s.W + S::size;
    const Scratch lines(static_cast<std::size_t>(2 * line) * sizeof(T));
    T *const value = static_cast<T*>(lines.data()), *const row = value + line;
    for (Index plane = task.first_plane; plane < task.last_plane; ++plane)
      for (Index oh = task.first_row; oh < task.last_row; ++oh) {
        const Index top = rows.begin(oh), bottom = rows.end(oh), to = (plane * s.OH + oh) * s.OW;
        for (Index h = top; h < bottom; h += most_rows)
          run_rows(x + plane * s.H * s.W, h, std::min(bottom, h + most_rows), h == top, task, value, row,
                   out + to, arg == nullptr ? nullptr : arg + to);
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
        for (Index o = (plane * s.OH + oh) * s.OW; o < (plane * s.OH + oh + 1) * s.OW; ++o) {
          const Index at = arg[o];  // read once: other threads may write there
          if (at >= first && at < last) to[at] += dout[o];
        }
      }
    }
  });
}

// A max pool whose windows cut a plane without a rest, as an adaptive one.
inline bool cuts_planes(const PoolShape& s) {
  return s.OH * s.PH == s.H && s.OW * s.PW == s.W && (s.OH == 1 || s.stride_h == s.PH) &&
         (s.OW == 1 || s.stride_w == s.PW) && s.pad_top == 0 && s.pad_left == 0 && s.dilation_h == 1 &&
         s.dilation_w == 1;
}
template <class T, class Arg>
void max_pool_of_parts(const T* x, T* out, Arg* arg, const PoolShape& s) {
  const AdaptivePoolShape parts{s.planes, s.H, s.W, s.OH, s.OW};
  if (arg == nullptr) return adaptive_max_pool_forward<T>(x, out, nullptr, parts);
  const ScratchArray<std::int64_t> places(s.planes * s.OH * s.OW);
  const std::int64_t* place = places.data();
  adaptive_max_pool_forward<T>(x, out, places.data(), parts);
  for (Index plane = 0; plane < s.planes; ++plane)
    for (Index oh = 0; oh < s.OH; ++oh)
      for (Index ow = 0; ow < s.OW; ++ow, ++place) {
        const Index h = *place / s.W, w = *place - h * s.W;
        *arg++ = static_cast<Arg>((h - oh * s.PH) * s.PW + w - ow * s.PW);
      }
}

template <class T>
void any_max_pool_forward(const T* x, T* out, void* arg, const PoolShape& s) {
  if (small_windows(s) || !cuts_planes(s)) return max_pool_forward<T>(x, out, arg, s);
  if (s.winner_bytes() == 1)
    max_pool_of_parts(x, out, static_cast<std::uint8_t*>(arg), s);
  else
    max_pool_of_parts(x, out, static_cast<std::uint32_t*>(arg), s);
}

}  // namespace cnnlib::CNNLIB_ISA
