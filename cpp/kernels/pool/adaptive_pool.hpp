// Adaptive pooling: OH x OW windows that cover the plane evenly, whatever its size. Output o of an axis of
// `size` values has [floor(o * size / outputs), ceil((o + 1) * size / outputs)).
#pragma once

#include <algorithm>

#include "kernels/pool/avg_pool.hpp"
#include "kernels/pool/pool_rows.hpp"
#include "kernels/simd/loops.hpp"
#include "memory/scratch.hpp"
#include "threads/parallel.hpp"

namespace cnnlib::CNNLIB_ISA {

struct Window {
  Index begin, end;
};
inline Window adaptive_window(Index o, Index size, Index outputs) {
  return {o * size / outputs, ceil_div((o + 1) * size, outputs)};
}

// body(plane, row) for every plane, with a row of W values as scratch.
template <class T, class Body>
void each_plane_with_row(Index planes, Index plane_size, Index W, const Body& body) {
  const int threads = threads_for(double(planes) * double(plane_size));
  const Index stride = round_up(W, Index(buffer_alignment / sizeof(T)));  // no line is another thread's too
  const Scratch scratch(checked_product(std::size_t(stride) * sizeof(T), std::size_t(threads)));
  T* rows = static_cast<T*>(scratch.data());
  parallel_for(planes, threads, [=](Index plane, int slot) { body(plane, rows + slot * stride); });
}

// out[oh, ow] = mean of its window.
template <class T>
void adaptive_avg_pool_forward(const T* x, T* out, const AdaptivePoolShape& s) {
  using S = Simd<T>;
  if (s.OH == 1 && s.OW == 1) return global_avg_pool_forward(x, out, s.planes, s.H * s.W);
  each_plane_with_row<T>(s.planes, s.H * s.W, s.W, [=](Index plane, T* sums) {
    const T* from = x + plane * s.H * s.W;
    T* to = out + plane * s.OH * s.OW;
    for (Index oh = 0; oh < s.OH; ++oh) {
      const Window rows = adaptive_window(oh, s.H, s.OH);
      for (Index w = 0; w < s.W; w += S::size) {
        const Index count = std::min<Index>(S::size, s.W - w);
        auto sum = load_first(from + rows.begin * s.W + w, count);
        for (Index h = rows.begin + 1; h < rows.end; ++h)
          sum = S::add(sum, load_first(from + h * s.W + w, count));
        store_first(sums + w, count, sum);
      }
      for (Index ow = 0; ow < s.OW; ++ow) {
        const Window columns = adaptive_window(ow, s.W, s.OW);
        double sum = 0;
        for (Index w = columns.begin; w < columns.end; ++w) sum += double(sums[w]);
        *to++ = T(sum / double((rows.end - rows.begin) * (columns.end - columns.begin)));
      }
    }
  });
}

// dx[h, w] = sum of dout / size over the windows that hold it.
template <class T>
void adaptive_avg_pool_backward(const T* dout, T* dx, const AdaptivePoolShape& s) {
  using S = Simd<T>;
  if (s.OH == 1 && s.OW == 1) return global_avg_pool_backward(dout, dx, s.planes, s.H * s.W);
  each_plane_with_row<T>(s.planes, s.H * s.W, s.W, [=](Index plane, T* shares) {
    const T* from = dout + plane * s.OH * s.OW;
    T* to = dx + plane * s.H * s.W;
    Index written = 0;  // rows
    for (Index oh = 0; oh < s.OH; ++oh) {
      const Window rows = adaptive_window(oh, s.H, s.OH);
      std::fill_n(shares, s.W, T(0));
      for (Index ow = 0; ow < s.OW; ++ow) {
        const Window columns = adaptive_window(ow, s.W, s.OW);
        const T share = *from++ / T((rows.end - rows.begin) * (columns.end - columns.begin));
        for (Index w = columns.begin; w < columns.end; ++w) shares[w] += share;
      }
      for (Index h = rows.begin; h < rows.end; ++h) {
        const bool first = h >= written;
        for (Index w = 0; w < s.W; w += S::size) {
          const Index count = std::min<Index>(S::size, s.W - w);
          T* at = to + h * s.W + w;
          const auto share = load_first<T>(shares + w, count);
          store_first(at, count, first ? share : S::add(load_first<T>(at, count), share));
        }
      }
      written = rows.end;
    }
  });
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

// out[oh, ow] = maximum of its window, and arg where in the plane it stands.
template <class T>
void adaptive_max_pool_forward(const T* x, T* out, std::int64_t* arg, const AdaptivePoolShape& s) {
  parallel_for(s.planes, threads_for(double(s.planes) * double(s.H * s.W)), [=](Index plane, int) {
    const T* from = x + plane * s.H * s.W;
    Index to = plane * s.OH * s.OW;
    for (Index oh = 0; oh < s.OH; ++oh) {
      const Window rows = adaptive_window(oh, s.H, s.OH);
      for (Index ow = 0; ow < s.OW; ++ow, ++to) {
        const Window columns = adaptive_window(ow, s.W, s.OW);
        const Index first = rows.begin * s.W + columns.begin;
        FirstMaximum<T> maximum{from[first], first};
        if (s.OW == 1)  // its rows are one run
          maximum.take(from, first, (rows.end - rows.begin) * s.W);
        else
          for (Index h = rows.begin; h < rows.end; ++h)
            maximum.take(from, h * s.W + columns.begin, columns.end - columns.begin);
        out[to] = maximum.value;
        arg[to] = maximum.at;
      }
    }
  });
}

// Each output's gradient goes to where its maximum stands; a position outside the plane, which only an
// altered cache holds, takes none.
template <class T>
void adaptive_max_pool_backward(const T* dout, const std::int64_t* arg, T* dx, const AdaptivePoolShape& s) {
  parallel_for(s.planes, threads_for(double(s.planes) * double(s.H * s.W)), [=](Index plane, int) {
    T* to = dx + plane * s.H * s.W;
    std::fill_n(to, s.H * s.W, T(0));
    for (Index o = plane * s.OH * s.OW; o < (plane + 1) * s.OH * s.OW; ++o)
      if (arg[o] >= 0 && arg[o] < s.H * s.W) to[arg[o]] += dout[o];
  });
}

}  // namespace cnnlib::CNNLIB_ISA
