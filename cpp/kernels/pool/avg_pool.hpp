// Average pooling: out[oh, ow] = sum of the window / divisor, where padding counts or not, and
// dx[h, w] = sum of dout / divisor over the windows that cover it. x (planes, H, W), out (planes, OH, OW).
//
// Small windows are added up in T, others by window_means.hpp.
#pragma once

#include "kernels/pool/window_means.hpp"
#include "kernels/pool_bands.hpp"
#include "kernels/scratch_layout.hpp"

namespace cnnlib::CNNLIB_ISA {

// What windows along a row are divided by, as vectors: 1 / (rows * columns that are averaged).
template <class T>
class WindowWeights {
  using S = Simd<T>;

 public:
  // Windows [first, first + lanes), which average up to `most_rows` <= 3 rows; lanes that are no windows get
  // a number.
  void fill(const SlidingWindows& columns, Index first, Index most_rows) {
    auto wide = S::fill(T(columns.window));
    if (columns.sums || !columns.inside(first) || !columns.inside(first + S::size - 1)) {
      T count[S::size];
      for (Index l = 0; l < S::size; ++l)
        count[l] = T(columns.averaged(std::clamp<Index>(first + l, 0, columns.outputs - 1)));
      wide = S::load(count);
    }
    for (Index rows = 1; rows <= most_rows; ++rows)
      S::store(weight[rows - 1], S::div(S::fill(T(1)), S::mul(S::fill(T(rows)), wide)));
  }
  Packet<T> of(Index rows) const { return S::load(weight[rows - 1]); }

 private:
  T weight[3][S::size];
};

// Means of small windows for a band of the pool `whole`.
template <class T, int PW, int Stride>
[[gnu::noinline]] void small_window_means(const T* x, T* out, const PoolShape& whole, const PoolBand& band) {
  using S = Simd<T>;
  const PoolShape s = band.shape;
  const SlidingWindows rows = row_windows(whole), columns = column_windows(whole);
  const T* const end = out + s.planes * s.OH * s.OW;
  WindowWeights<T> weights;
  const T* next_x = x + s.planes * s.H * s.W;
  const T* next_out = end;
  for (Index j = last_vector(s.OW, S::size); j >= 0; j -= S::size) {
    const WindowTaps<T, PW, Stride> taps(j * Stride - s.pad_left, s.W);
    weights.fill(columns, j, s.PH);
    for (Index plane = 0; plane < s.planes; ++plane) {
      const T* image = x + plane * s.H * s.W;
      T* to = out + plane * s.OH * s.OW;
      const auto line_of = [&](Index h) __attribute__((always_inline)) {
        Packet<T> tap[PW];
        prefetch_next<Stride * S::size>(next_x);
        taps.load(image + h * s.W, tap);
        auto sum = tap[0];
#pragma GCC unroll 2
        for (int kw = 1; kw < PW; ++kw) sum = S::add(sum, tap[kw]);
        return sum;
      };
      slide_windows_down(
          s, S::zero(), line_of,
          [&](Index oh, const Packet<T>& first, const Packet<T>& second, const Packet<T>& third) {
            prefetch_next<S::size, true>(next_out);
            const auto weight = weights.of(rows.averaged(band.first_row + oh));
            const auto sum = S::add(S::add(first, second), third);
            store_in_rows(to + oh * s.OW, s.OW, j, end, S::mul(sum, weight));
          });
    }
  }
}

// The gradient of the means.
template <class T, int PW, int Stride>
[[gnu::noinline]] void small_window_shares(const T* dout, T* dx, const PoolShape& s, Index first_row,
                                           const SlidingWindows& rows, const SlidingWindows& columns) {
  using S = Simd<T>;
  using Windows = ReachingWindows<T, PW, Stride>;
  constexpr Index step = Stride * S::size;
  const T* const end = dx + s.planes * s.H * s.W;
  WindowWeights<T> weights[Windows::vectors];
  const T* next_dout = dout + s.planes * s.OH * s.OW;
  const T* next_dx = end;
  for (Index w = last_vector(s.W, step); w >= 0; w -= step) {
    const Windows windows(s, w);
    for (int i = 0; i < Windows::vectors; ++i) weights[i].fill(columns, windows.vector[i].first, s.PH);
    for (Index plane = 0; plane < s.planes; ++plane) {
      const T* from = dout + plane * s.OH * s.OW;
      gather_windows_down<T, PW, Stride>(
          s, w, S::zero(), dx + plane * s.H * s.W, end,
          [&](Index oh) {
            const Index tall = rows.averaged(first_row + oh);
            Packet<T> share[Windows::vectors];
            prefetch_next<S::size>(next_dout);
            prefetch_next<Stride * Stride * S::size, true>(next_dx);
#pragma GCC unroll 3
            for (int i = 0; i < Windows::vectors; ++i)
              share[i] = S::mul(windows.vector[i].load(from + oh * s.OW), weights[i].of(tall));
            return windows.gather([&](int i, int) { return share[i]; },
                                  [&](Packet<T> sum, int i, int) { return S::add(sum, share[i]); });
          },
          [](const typename Windows::Columns& share, int) { return share; },
          [](Packet<T> sum) { return sum; });
    }
  }
}

constexpr Index global_pool_planes = 16;  // of a task: a cache line of results

// out[plane] = mean of x[plane], x (planes, size).
template <class T>
void global_avg_pool_forward(const T* x, T* out, Index planes, Index size) {
  const SumParts parts{size};
  const double all = double(size);
  if (parts.count == 1)
    return parallel_ranges(planes, global_pool_planes, all, [=](Index begin, Index end) {
      for (Index plane = begin; plane < end; ++plane) out[plane] = T(sum(x + plane * size, size) / all);
    });
  const ScratchArray<double> scratch(planes * parts.count);
  double* const sums = scratch.data();
  parallel_grid({planes, parts.count}, threads_for(all * double(planes)), [=](Index plane, Index i, int) {
    sums[plane * parts.count + i] = sum(x + plane * size + parts.first(i), parts.values(i));
  });
  for (Index plane = 0; plane < planes; ++plane)
    out[plane] = T(sum_in_order(sums + plane * parts.count, parts.count) / all);
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

// Whether a single window is the whole plane, of which it takes the mean.
inline bool global_window(const PoolShape& s) {
  return !s.sums && s.OH == 1 && s.OW == 1 && s.PH == s.H && s.PW == s.W && s.pad_top + s.pad_left == 0 &&
         (!s.count_include_pad || s.pad_bottom + s.pad_right == 0);
}

// out (planes, OH, OW) from x (planes, H, W).
template <class T>
void avg_pool_forward(const T* x, T* out, const PoolShape& s) {
  if (global_window(s)) return global_avg_pool_forward(x, out, s.planes, s.H * s.W);
  if (!small_windows(s))
    return with_windows(s, [=](const auto& rows, const auto& columns) {
      window_means(x, s.planes, s.H, s.W, rows, columns, out);
    });
  each_small_window(s, RowsOf::outputs, [&](const PoolBand& band, auto width, auto stride) {
    small_window_means<T, width(), stride()>(x + band.in, out + band.out, s, band);
  });
}

// dx (planes, H, W) from dout (planes, OH, OW).
template <class T>
void avg_pool_backward(const T* dout, T* dx, const PoolShape& s) {
  if (global_window(s)) return global_avg_pool_backward(dout, dx, s.planes, s.H * s.W);
  if (!small_windows(s))
    return with_windows(s, [=](const auto& rows, const auto& columns) {
      window_shares(dout, s.planes, s.H, s.W, rows, columns, dx);
    });
  const SlidingWindows rows = row_windows(s), columns = column_windows(s);
  each_small_window(s, RowsOf::inputs, [&](const PoolBand& band, auto width, auto stride) {
    small_window_shares<T, width(), stride()>(dout + band.out, dx + band.in, band.shape, band.first_row, rows,
                                              columns);
  });
}

}  // namespace cnnlib::CNNLIB_ISA
