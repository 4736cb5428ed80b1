// Average pooling: out[oh, ow] = sum of the window / divisor, where padding counts or not, and
// dx[h, w] = sum of dout / divisor over the windows that cover it. x (planes, H, W), out (planes, OH, OW).
//
// Small windows are added up in T, others by window_means.hpp.
#pragma once

#include "kernels/pool/small_windows.hpp"
#include "kernels/pool/tiles.hpp"
#include "kernels/pool/window_means.hpp"

namespace cnnlib::CNNLIB_ISA {

// What windows along a row are divided by, as vectors: 1 / (rows * columns that are averaged), or 1 for sums.
template <class T>
class WindowWeights {
  using S = Simd<T>;

 public:
  // Windows [first, first + lanes), which average up to `most_rows` <= 3 rows; lanes that are no windows get
  // a number.
  void fill(const SlidingWindows& columns, Index first, Index most_rows, bool mean) {
    auto wide = S::fill(T(columns.window));
    if (!columns.inside(first) || !columns.inside(first + S::size - 1)) {
      T count[S::size];
      for (Index l = 0; l < S::size; ++l)
        count[l] = T(columns.averaged(std::clamp<Index>(first + l, 0, columns.outputs - 1)));
      wide = S::load(count);
    }
    for (Index rows = 1; rows <= most_rows; ++rows)
      S::store(weight[rows - 1],
               mean ? S::div(S::fill(T(1)), S::mul(S::fill(T(rows)), wide)) : S::fill(T(1)));
  }
  typename S::Packet of(Index rows) const { return S::load(weight[rows - 1]); }

 private:
  T weight[3][S::size];
};

// Means of small windows, or their sums, and their gradient.
template <class T, int PW, int Stride>
class SmallAverages {
  using S = Simd<T>;
  using Packet = typename S::Packet;
  using Windows = ReachingWindows<T, PW, Stride>;

 public:
  SmallAverages(const PoolShape& whole, const PoolBand& band, bool of_means)
      : s(band.shape),
        rows(row_windows(whole)),
        columns(column_windows(whole)),
        first_row(band.first_row),
        first_column(band.first_column),
        mean(of_means) {}

  [[gnu::noinline]] void forward(const T* x, T* out) const {
    const T* const end = out + s.planes * s.OH * s.OW;
    each_walk<T, PW, Stride>(s, [&](auto width, Index j, Index count) {
      WindowTaps<T, PW, Stride> taps[width()];
      WindowWeights<T> weights[width()];
      for (Index v = 0; v < (width() == 1 ? 1 : count); ++v) {
        taps[v] = {(j + v * S::size) * Stride - s.pad_left, s.W};
        weights[v].fill(columns, first_column + j + v * S::size, s.PH, mean);
      }
      for (Index plane = 0; plane < s.planes; ++plane) {
        const T* image = x + plane * s.H * s.W;
        T* to = out + plane * s.OH * s.OW;
        slide_windows_down<width()>(
            s, count, S::zero(),
            [&](Index v, Index h) __attribute__((always_inline)) {
              if (width() == 1) taps[v].prefetch_next(image + h * s.W);
              return sum_of_line(taps[v], image + h * s.W);
            },
            [&](Index v, Index oh, const Packet& first, const Packet& second, const Packet& third)
                __attribute__((always_inline)) {
                  const auto sum = S::add(S::add(first, second), third);
                  store_in_rows(to + oh * s.OW, s.OW, j + v * S::size, end,
                                S::mul(sum, weights[v].of(averaged_rows(oh))));
                });
      }
    });
  }

  [[gnu::noinline]] void backward(const T* dout, T* dx) const {
    constexpr Index step = Stride * S::size;
    const T* const end = dx + s.planes * s.H * s.W;
    WindowWeights<T> weights[Windows::vectors];
    for (Index w = last_vector(s.W, step); w >= 0; w -= step) {
      const Windows windows(s, w);
      for (int i = 0; i < Windows::vectors; ++i)
        weights[i].fill(columns, first_column + windows.vector[i].first, s.PH, mean);
      for (Index plane = 0; plane < s.planes; ++plane) {
        const T* from = dout + plane * s.OH * s.OW;
        gather_windows_down<T, PW, Stride>(
            s, w, S::zero(), dx + plane * s.H * s.W, end,
            [&](Index oh) {
              const Index tall = averaged_rows(oh);
              Packet share[Windows::vectors];
              windows.vector[0].prefetch_next(from + oh * s.OW, 1);
#pragma GCC unroll 3
              for (int i = 0; i < Windows::vectors; ++i)
                share[i] = S::mul(windows.vector[i].load(from + oh * s.OW, T(0)), weights[i].of(tall));
              return windows.gather([&](int i, int) { return share[i]; },
                                    [&](Packet sum, int i, int) { return S::add(sum, share[i]); });
            },
            [](const typename Windows::Columns& share, int) { return share; },
            [](Packet sum) { return sum; });
      }
    }
  }

 private:
  Index averaged_rows(Index oh) const { return mean ? rows.averaged(first_row + oh) : 1; }

  [[gnu::always_inline]] static Packet sum_of_line(const WindowTaps<T, PW, Stride>& taps, const T* row) {
    Packet tap[PW];
    taps.load(row, T(0), tap);
    auto sum = tap[0];
#pragma GCC unroll 2
    for (int kw = 1; kw < PW; ++kw) sum = S::add(sum, tap[kw]);
    return sum;
  }

  PoolShape s;
  SlidingWindows rows, columns;  // of whole planes
  Index first_row, first_column;
  bool mean;
};

// out = `by` times the sums of tiles.
template <class T>
void sums_of_tiles(const T* x, T* out, const PoolShape& s, T by) {
  using S = Simd<T>;
  PoolBands(s, PoolBands::Of::outputs).each([&](const PoolBand& band, int) {
    T* to = out + band.out;
    const auto use = [=](const typename S::Packet* tap, Index at, Index count) {
      const auto sum = S::add(S::add(tap[0], tap[1]), S::add(tap[2], tap[3]));
      store_first(to + at, count, S::mul(sum, S::fill(by)));
    };
    with_tiles<T>(band.shape, [&](const auto& tiles) { tiles.gather(x + band.in, band.shape.planes, use); });
  });
}

// All four values of each tile of dx = `by` times its dout; what is left over is 0.
template <class T>
void spread_to_tiles(const T* dout, T* dx, const PoolShape& s, T by) {
  using S = Simd<T>;
  PoolBands(s, PoolBands::Of::inputs).each([&](const PoolBand& band, int) {
    const T* from = dout + band.out;
    const auto taps_of = [=](Index at, Index count, Index, typename S::Packet* tap) {
      tap[0] = tap[1] = tap[2] = tap[3] = S::mul(load_first(from + at, count), S::fill(by));
    };
    with_tiles<T>(band.shape,
                  [&](const auto& tiles) { tiles.spread(dx + band.in, band.shape.planes, taps_of); });
  });
}

// out = the means of windows that small_windows() names, or their sums.
template <class T>
void small_window_means(const T* x, T* out, const PoolShape& s, bool mean = true) {
  if (tiled_windows(s)) return sums_of_tiles(x, out, s, mean ? T(1) / T(4) : T(1));
  PoolBands(s, PoolBands::Of::outputs).each([&](const PoolBand& band, int) {
    with_window(s, [&](auto width, auto stride) {
      SmallAverages<T, width(), stride()>(s, band, mean).forward(x + band.in, out + band.out);
    });
  });
}

// dx from dout for means of such windows.
template <class T>
void small_window_shares(const T* dout, T* dx, const PoolShape& s) {
  if (tiled_windows(s)) return spread_to_tiles(dout, dx, s, T(1) / T(4));
  PoolBands(s, PoolBands::Of::inputs).each([&](const PoolBand& band, int) {
    with_window(s, [&](auto width, auto stride) {
      SmallAverages<T, width(), stride()>(s, band, true).backward(dout + band.out, dx + band.in);
    });
  });
}

constexpr Index global_pool_planes = 16;  // of a task: a cache line of results

// out[plane] = mean of x[plane], x (planes, size).
template <class T>
void global_avg_pool_forward(const T* x, T* out, Index planes, Index size) {
  const SumParts parts(size);
  const double all = double(size);
  if (parts.count == 1)
    return parallel_ranges(planes, global_pool_planes, all, [=](Index begin, Index end) {
      for (Index plane = begin; plane < end; ++plane) out[plane] = T(sum(x + plane * size, size) / all);
    });
  Layout layout;
  const auto piece = layout.array<double>(planes * parts.count);
  const Scratch scratch(layout.bytes());
  double* const sums = piece.in(scratch.data());
  parallel_for(planes * parts.count, threads_for(all * double(planes)), [=](Index k, int) {
    const Index plane = k / parts.count, i = k % parts.count;
    sums[k] = sum(x + plane * size + parts.first(i), parts.values(i));
  });
  for (Index plane = 0; plane < planes; ++plane) {
    double total = 0;
    for (Index i = 0; i < parts.count; ++i) total += sums[plane * parts.count + i];
    out[plane] = T(total / all);
  }
}

// dx[plane, i] = dout[plane] / size.
template <class T>
void global_avg_pool_backward(const T* dout, T* dx, Index planes, Index size) {
  PlaneGrid(planes, 1, size, size, double(planes) * double(size)).each([&](const PlaneTask& task, int) {
    for (Index plane = task.first_plane; plane < task.last_plane; ++plane)
      fill_vectors(dx + plane * size + task.first_column, task.last_column - task.first_column,
                   dout[plane] / T(size));
  });
}

// Whether a single window is the whole plane.
inline bool global_window(const PoolShape& s) {
  return s.OH == 1 && s.OW == 1 && s.PH == s.H && s.PW == s.W && s.pad_top + s.pad_left == 0 &&
         (!s.count_include_pad || s.pad_bottom + s.pad_right == 0);
}

// Whether windows are single values, and all of them are used.
inline bool single_values(const PoolShape& s) {
  return s.PH == 1 && s.PW == 1 && s.OH == s.H && s.OW == s.W && s.pad_top + s.pad_left == 0;
}
template <class T>
void copy_planes(const T* from, T* to, const PoolShape& s) {
  const Index values = s.planes * s.H * s.W;
  parallel_ranges(values, PlaneGrid::least_values, 1,
                  [=](Index begin, Index end) { std::copy(from + begin, from + end, to + begin); });
}

// out (planes, OH, OW) from x (planes, H, W).
template <class T>
void avg_pool_forward(const T* x, T* out, const PoolShape& s) {
  if (single_values(s)) return copy_planes(x, out, s);
  if (global_window(s)) return global_avg_pool_forward(x, out, s.planes, s.H * s.W);
  if (!small_windows(s)) return window_means(x, s.planes, s.H, s.W, row_windows(s), column_windows(s), out);
  small_window_means(x, out, s);
}

// dx (planes, H, W) from dout (planes, OH, OW).
template <class T>
void avg_pool_backward(const T* dout, T* dx, const PoolShape& s) {
  if (single_values(s)) return copy_planes(dout, dx, s);
  if (global_window(s)) return global_avg_pool_backward(dout, dx, s.planes, s.H * s.W);
  if (!small_windows(s))
    return window_shares(dout, s.planes, s.H, s.W, row_windows(s), column_windows(s), dx);
  small_window_shares(dout, dx, s);
}

}  // namespace cnnlib::CNNLIB_ISA
