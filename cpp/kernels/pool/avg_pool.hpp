// Average pooling: out[oh, ow] = sum of the window / divisor, where padding counts or not, and
// dx[h, w] = sum of dout / divisor over the windows that cover it. x (planes, H, W), out (planes, OH, OW).
//
// Small windows in T: whole vectors of columns are added up down the rows into a row of scratch, between
// zeros, and vectors of windows then add its columns. Others are those of window_means.hpp.
#pragma once

#include "kernels/pool/pool_rows.hpp"
#include "kernels/pool/window_means.hpp"

namespace cnnlib::CNNLIB_ISA {

// A row of values from column `first` on, with zeros where there is no column of [0, size).
template <class T>
struct RowBetweenZeros {
  using S = Simd<T>;
  Index first, size, begin, end;  // [begin, end) of the scratch are columns

  RowBetweenZeros(Index first_column, Index columns, Index room)
      : first(first_column),
        size(columns),
        begin(std::clamp<Index>(-first, 0, room)),
        end(std::clamp<Index>(columns - first, begin, room)) {}
  void clear(T* row, Index room) const {
    std::fill_n(row, begin, T(0));
    std::fill(row + end, row + room, T(0));
  }
  // vector(column, lanes), of which the lanes behind the last column are zeros; the scratch has room for
  // them.
  template <class Vector>
  void fill(T* row, const Vector& vector) const {
    Index j = begin;
    for (; j + S::size <= end; j += S::size) S::store(row + j, vector(first + j, S::size));
    if (j < end) S::store(row + j, vector(first + j, end - j));
  }
};

// Means of windows, or their sums.
template <class T, int PW, int Stride>
class SmallAverages {
  using S = Simd<T>;

 public:
  SmallAverages(const PoolShape& shape, bool of_means)
      : s(shape), rows(row_windows(s)), columns(column_windows(s)), mean(of_means) {}

  // Values of a row of scratch for a task of so many columns of outputs, and of dx.
  static Index forward_room(Index width) { return round_up(width, S::size) * Stride + PW + 2 * S::size; }
  static Index backward_room(Index width) { return width / Stride + 2 * margin + 4 * S::size; }

  // weight (PH, pitch) of windows [first, last) in a row that average 1, 2, ... rows: 1 / divisor, or 1.
  void fill_weights(Index first, Index last, Index pitch, T* weight) const {
    for (Index tall = 1; tall <= s.PH; ++tall)
      for (Index ow = first; ow < last; ++ow)
        weight[(tall - 1) * pitch + ow - first] = mean ? T(1) / T(tall * columns.averaged(ow)) : T(1);
  }
  void fill_forward_weights(const PlaneTask& task, T* weight) const {
    const Index width = task.last_column - task.first_column;
    fill_weights(task.first_column, task.last_column, width, weight);
  }
  void fill_backward_weights(const PlaneTask& task, T* weight) const {
    const auto row = windows_of(task);
    fill_weights(row.first + row.begin, row.first + row.end, row.end - row.begin, weight);
  }

  // out of a task of a plane.
  void forward(const T* x, const PlaneTask& task, const T* weight, T* out, T* scratch) const {
    const Index width = task.last_column - task.first_column, room = forward_room(width);
    const RowBetweenZeros<T> row(task.first_column * Stride - s.pad_left, s.W, room - S::size);
    row.clear(scratch, room);
    const T* end = out + (task.last_row - 1) * s.OW + task.last_column;
    for (Index oh = task.first_row; oh < task.last_row; ++oh) {
      const Index top = rows.begin(oh), tall = rows.end(oh) - top;
      const T *from = x + top * s.W, *scale = weight + (mean ? rows.averaged(oh) - 1 : 0) * width;
      row.fill(scratch, [&](Index w, Index lanes) {
        auto sum = load_first(from + w, lanes);
        for (Index h = 1; h < tall; ++h) sum = S::add(sum, load_first(from + h * s.W + w, lanes));
        return sum;
      });
      T* to = out + oh * s.OW + task.first_column;
      for (Index ow = 0; ow < width; ow += S::size) {
        typename S::Packet tap[PW];
        load_taps<T, PW, Stride>(scratch + ow * Stride, tap);
        auto sum = tap[0];
#pragma GCC unroll 2
        for (int kw = 1; kw < PW; ++kw) sum = S::add(sum, tap[kw]);
        store_in_plane(to, width, ow, end, S::mul(sum, S::load_within(scale, width, ow, T(0))));
      }
    }
  }

  // dx of a task, whose first column is even.
  void backward(const T* dout, const PlaneTask& task, const T* weight, T* dx, T* scratch) const {
    const Index width = task.last_column - task.first_column, room = backward_room(width);
    const RowBetweenZeros<T> row = windows_of(task);
    row.clear(scratch, room);
    const T* end = dx + (task.last_row - 1) * s.W + task.last_column;
    ReachingRows before;
    for (Index h = task.first_row; h < task.last_row; ++h) {
      const ReachingRows reaching(s, h);
      if (h == task.first_row || !reaching.same_windows(before))
        add_shares(dout, reaching, row, weight, scratch);
      before = reaching;
      backward_row(scratch + margin, width, dx + h * s.W + task.first_column, end);
    }
  }

 private:
  static constexpr Index margin = 2;  // windows before the first column's

  // The windows that reach a task's columns.
  RowBetweenZeros<T> windows_of(const PlaneTask& task) const {
    const Index room = backward_room(task.last_column - task.first_column);
    return {(task.first_column + s.pad_left) / Stride - margin, s.OW, room - S::size};
  }

  // dout / divisor, summed over the rows of windows that reach a row of dx.
  void add_shares(const T* dout, const ReachingRows& reaching, const RowBetweenZeros<T>& row, const T* weight,
                  T* shares) const {
    const T *grad[3], *scale[3];
    for (int r = 0; r < reaching.count; ++r) {
      grad[r] = dout + reaching.oh[r] * s.OW;
      scale[r] =
          weight + (rows.averaged(reaching.oh[r]) - 1) * (row.end - row.begin) - (row.first + row.begin);
    }
    row.fill(shares, [&](Index ow, Index lanes) {
      auto sum = S::zero();
      for (int r = 0; r < reaching.count; ++r)
        sum = S::add(sum, S::mul(load_first(grad[r] + ow, lanes), load_first(scale[r] + ow, lanes)));
      return sum;
    });
  }

  // A row of dx from its shares, of which `shares` are those of the last window that begins at its first
  // column or before, and the following ones.
  void backward_row(const T* shares, Index width, T* to, const T* end) const {
    if constexpr (Stride == 1) {
      for (Index w = 0; w < width; w += S::size) {
        auto sum = S::load(shares + w);
#pragma GCC unroll 2
        for (int kw = 1; kw < PW; ++kw) sum = S::add(sum, S::load(shares + w - kw));
        store_in_plane(to, width, w, end, sum);
      }
    } else {
      for (Index w = 0, j = 0; w < width; w += 2 * S::size, j += S::size) {
        // Of each pair of columns one is the middle of a window 3 wide, the other its neighbours' edge.
        const auto own = S::load(shares + j);
        auto first = own, second = own;
        if (s.pad_left % 2 == 0) {
          if constexpr (PW == 3) first = S::add(own, S::load(shares + j - 1));
        } else {
          second = S::load(shares + j + 1);
          if constexpr (PW == 3) second = S::add(second, own);
        }
        typename S::Packet low, high;
        S::join_pairs(first, second, low, high);
        store_in_plane(to, width, w, end, low);
        store_in_plane(to, width, w + S::size, end, high);
      }
    }
  }

  PoolShape s;
  SlidingWindows rows, columns;
  bool mean;
};

// run(task, plane, weight, scratch) for all tasks of a grid, where fill(task, weight) has made the weights of
// a task's columns; each thread has room for `room` values in a row.
template <class T, class Fill, class Run>
void each_small_average(const PlaneGrid& grid, Index PH, Index room, const Fill& fill, const Run& run) {
  Layout layout;
  const auto piece = layout.per_thread<T>(grid.threads, room * (1 + PH));
  const auto held_piece = layout.array<Index>(grid.threads);  // the column that a thread's weights begin with
  const Scratch scratch(layout.bytes());
  Index* held = held_piece.in(scratch.data());
  std::fill_n(held, grid.threads, Index(-1));
  grid.each([&](const PlaneTask& task, int slot) {
    T *row = piece.of(scratch.data(), slot), *weight = row + room;
    if (held[slot] != task.first_column) fill(task, weight);
    held[slot] = task.first_column;
    for (Index plane = task.first_plane; plane < task.last_plane; ++plane) run(task, plane, weight, row);
  });
}

// out = the means of windows that small_windows() names, or their sums.
template <class T>
void small_window_means(const T* x, T* out, const PoolShape& s, bool mean = true) {
  const PlaneGrid grid(s.planes, s.OH, s.OW, s.H * s.W + s.OH * s.OW, pool_work(s));
  with_window(s, [&](auto width, auto stride) {
    const SmallAverages<T, width(), stride()> averages(s, mean);
    each_small_average<T>(
        grid, s.PH, averages.forward_room(grid.block),
        [&](const PlaneTask& task, T* weight) { averages.fill_forward_weights(task, weight); },
        [&](const PlaneTask& task, Index plane, const T* weight, T* row) {
          averages.forward(x + plane * s.H * s.W, task, weight, out + plane * s.OH * s.OW, row);
        });
  });
}

// dx from dout for means of such windows.
template <class T>
void small_window_shares(const T* dout, T* dx, const PoolShape& s) {
  const PlaneGrid grid(s.planes, s.H, s.W, s.H * s.W + s.OH * s.OW, pool_work(s));
  with_window(s, [&](auto width, auto stride) {
    const SmallAverages<T, width(), stride()> averages(s, true);
    each_small_average<T>(
        grid, s.PH, averages.backward_room(grid.block),
        [&](const PlaneTask& task, T* weight) { averages.fill_backward_weights(task, weight); },
        [&](const PlaneTask& task, Index plane, const T* weight, T* row) {
          averages.backward(dout + plane * s.OH * s.OW, task, weight, dx + plane * s.H * s.W, row);
        });
  });
}

constexpr Index global_pool_planes = 16;  // of a task: a cache line of results

// out[plane] = mean of x[plane], x (planes, size).
template <class T>
void global_avg_pool_forward(const T* x, T* out, Index planes, Index size) {
  const SumParts parts(size);
  const int threads = threads_for(double(planes) * double(size) / Simd<T>::size);
  const auto sum_of = [=](Index plane, Index i) {
    return sum(x + plane * size + parts.first(i), parts.values(i));
  };
  const auto each_plane = [=](const auto& part_sum) {
    parallel_for(ceil_div(planes, global_pool_planes), threads, [&](Index task, int) {
      const Index first = task * global_pool_planes;
      for (Index plane = first; plane < std::min(planes, first + global_pool_planes); ++plane) {
        double total = 0;
        for (Index i = 0; i < parts.count; ++i) total += part_sum(plane, i);
        out[plane] = T(total / double(size));
      }
    });
  };
  if (planes >= global_pool_planes * threads || parts.count == 1) return each_plane(sum_of);
  Layout layout;
  const auto piece = layout.array<double>(planes * parts.count);
  const Scratch scratch(layout.bytes());
  double* sums = piece.in(scratch.data());
  parallel_for(planes * parts.count, threads,
               [=](Index k, int) { sums[k] = sum_of(k / parts.count, k % parts.count); });
  each_plane([=](Index plane, Index i) { return sums[plane * parts.count + i]; });
}

// dx[plane, i] = dout[plane] / size.
template <class T>
void global_avg_pool_backward(const T* dout, T* dx, Index planes, Index size) {
  PlaneGrid(planes, 1, size, size, double(planes) * double(size)).each([&](const PlaneTask& task, int) {
    for (Index plane = task.first_plane; plane < task.last_plane; ++plane)
      std::fill(dx + plane * size + task.first_column, dx + plane * size + task.last_column,
                dout[plane] / T(size));
  });
}

// Whether a single window is the whole plane.
inline bool global_window(const PoolShape& s) {
  return s.OH == 1 && s.OW == 1 && s.PH == s.H && s.PW == s.W && s.pad_top + s.pad_left == 0 &&
         (!s.count_include_pad || s.pad_bottom + s.pad_right == 0);
}

// out (planes, OH, OW) from x (planes, H, W).
template <class T>
void avg_pool_forward(const T* x, T* out, const PoolShape& s) {
  if (global_window(s)) return global_avg_pool_forward(x, out, s.planes, s.H * s.W);
  if (!small_windows(s)) return window_means(x, s.planes, s.H, s.W, row_windows(s), column_windows(s), out);
  small_window_means(x, out, s);
}

// dx (planes, H, W) from dout (planes, OH, OW).
template <class T>
void avg_pool_backward(const T* dout, T* dx, const PoolShape& s) {
  if (global_window(s)) return global_avg_pool_backward(dout, dx, s.planes, s.H * s.W);
  if (!small_windows(s))
    return window_shares(dout, s.planes, s.H, s.W, row_windows(s), column_windows(s), dx);
  small_window_shares(dout, dx, s);
}

}  // namespace cnnlib::CNNLIB_ISA
