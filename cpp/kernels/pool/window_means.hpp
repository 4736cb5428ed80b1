// Means over windows of any size, and their gradient. Sums go down the columns of a window's rows first, in T
// over short_column rows and in double beyond, then along the row of doubles that they make.
#pragma once

#include "kernels/plane_grid.hpp"
#include "kernels/pool/windows.hpp"
#include "kernels/scratch_layout.hpp"
#include "kernels/simd/loops.hpp"
#include "kernels/simd/sums.hpp"

namespace cnnlib::CNNLIB_ISA {

constexpr Index short_column = 16;

// to[j] += the sum of column j of `count` <= short_column rows that lie `pitch` apart, times
// factor(j), j < n.
template <class T, class Factor>
void add_rows(const T* rows, Index count, Index pitch, Index n, const Factor& factor, double* to) {
  using S = Simd<T>;
  Index j = 0;
  for (; j + S::size <= n; j += S::size) {
    auto sum = S::load(rows + j);
    for (Index r = 1; r < count; ++r) sum = S::add(sum, S::load(rows + r * pitch + j));
    T part[S::size];
    S::store(part, sum);
    for (Index l = 0; l < S::size; ++l) to[j + l] += double(part[l]) * factor(j + l);
  }
  for (; j < n; ++j) {
    T sum = rows[j];
    for (Index r = 1; r < count; ++r) sum += rows[r * pitch + j];
    to[j] += double(sum) * factor(j);
  }
}

// The sum of n values, n > 0.
inline double window_sum(const double* p, Index n) {
  if (n > 4 * Simd<double>::size) return sum(p, n);
  double total = p[0];
  for (Index i = 1; i < n; ++i) total += p[i];
  return total;
}

// The columns [begin, end) of a window, how many of them an average divides by, and 1 / that.
struct WindowColumns {
  Index begin, end;
  double count, share;
};
// Those of windows [first, last), from column `left` on, of `width` columns: a task finds them once, since
// windows that cover the axis evenly take divisions.
template <class Columns>
void list_columns(const Columns& columns, Index first, Index last, Index left, Index width,
                  WindowColumns* list) {
  for (Index ow = first; ow < last; ++ow) {
    const double count = double(columns.averaged(ow));
    *list++ = {std::max<Index>(0, columns.begin(ow) - left), std::min(columns.end(ow) - left, width), count,
               1 / count};
  }
}

// out[oh, ow] = the mean of its window, for all planes of x (planes, H, W).
template <class T, class Rows, class Columns>
void window_means(const T* x, Index planes, Index H, Index W, const Rows& rows, const Columns& columns,
                  T* out) {
  const Index outputs = rows.outputs * columns.outputs;
  const PlaneGrid grid(
      planes, rows.outputs, columns.outputs, H * W + outputs,
      double(planes) * double(rows.span(1) * rows.outputs * W + outputs * columns.span(1)) / 4);
  const ScratchArray<double, ThreadReserved> all_sums(grid.threads, columns.span(grid.block));
  const ScratchArray<WindowColumns, ThreadReserved> lists(grid.threads, grid.block);
  grid.each([&](const PlaneTask& task, int slot) {
    double* sums = all_sums[slot];
    WindowColumns* list = lists[slot];
    const Index left = columns.begin(task.first_column), width = columns.end(task.last_column - 1) - left;
    list_columns(columns, task.first_column, task.last_column, left, width, list);
    for (Index oh = task.first_row; oh < task.last_row; ++oh) {
      const Index top = rows.begin(oh), bottom = rows.end(oh);
      const double tall = double(rows.averaged(oh));
      for (Index plane = task.first_plane; plane < task.last_plane; ++plane) {
        std::fill_n(sums, width, 0.0);
        for (Index h = top; h < bottom; h += short_column)
          add_rows(
              x + (plane * H + h) * W + left, std::min(short_column, bottom - h), W, width,
              [](Index) { return 1.0; }, sums);
        T* to = out + plane * outputs + oh * columns.outputs;
        for (Index ow = task.first_column; ow < task.last_column; ++ow) {
          const WindowColumns& at = list[ow - task.first_column];
          to[ow] = T(window_sum(sums + at.begin, at.end - at.begin) / (tall * at.count));
        }
      }
    }
  });
}

// dx[h, w] = the sum of dout / (size of the window) over the windows that hold it, for one task of a plane dx
// with rows of W values. `list` has the windows [first, last) that reach the task's columns; `shares` has
// room for a row of outputs, and `sums` for a row of the task.
template <class T, class Rows>
void window_shares(const T* dout, Index W, Index OW, const Rows& rows, const PlaneTask& task, Index first,
                   Index last, const WindowColumns* list, T* dx, double* shares, double* sums) {
  const Index left = task.first_column, width = task.last_column - left, count = last - first;
  Index upper = -1, lower = -1;  // rows of windows that the row before lies in
  for (Index h = task.first_row; h < task.last_row; ++h) {
    const Index begin = rows.first_reaching(h), end = rows.last_reaching(h);
    T* to = dx + h * W + left;
    if (begin == upper && end == lower && h > task.first_row) {
      std::copy_n(to - W, width, to);
      continue;
    }
    upper = begin;
    lower = end;
    std::fill_n(shares, count, 0.0);
    for (Index oh = begin, next; oh < end && count > 0; oh = next) {
      const Index tall = rows.averaged(oh);
      const double share = 1 / double(tall);
      for (next = oh + 1; next < std::min(end, oh + short_column) && rows.averaged(next) == tall;) ++next;
      add_rows(
          dout + oh * OW + first, next - oh, OW, count, [&](Index j) { return share * list[j].share; },
          shares);
    }
    std::fill_n(sums, width, 0.0);
    for (Index j = 0; j < count; ++j)
      for (Index w = list[j].begin; w < list[j].end; ++w) sums[w] += shares[j];
#pragma omp simd
    for (Index w = 0; w < width; ++w) to[w] = T(sums[w]);
  }
}

template <class T, class Rows, class Columns>
void window_shares(const T* dout, Index planes, Index H, Index W, const Rows& rows, const Columns& columns,
                   T* dx) {
  const Index outputs = rows.outputs * columns.outputs;
  const PlaneGrid grid(planes, H, W, H * W + outputs,
                       double(planes) * double(rows.span(1) * outputs + H * W + H * columns.outputs) / 4);
  const Index most = columns.reaching(grid.block);
  const ScratchArray<double, ThreadReserved> all_shares(grid.threads, most + grid.block);
  const ScratchArray<WindowColumns, ThreadReserved> lists(grid.threads, most);
  grid.each([&](const PlaneTask& task, int slot) {
    double *shares = all_shares[slot], *sums = shares + most;
    WindowColumns* list = lists[slot];
    const Index first = columns.first_reaching(task.first_column),
                last = std::max(first, columns.last_reaching(task.last_column - 1));
    list_columns(columns, first, last, task.first_column, task.last_column - task.first_column, list);
    for (Index plane = task.first_plane; plane < task.last_plane; ++plane)
      window_shares(dout + plane * outputs, W, columns.outputs, rows, task, first, last, list,
                    dx + plane * H * W, shares, sums);
  });
}

}  // namespace cnnlib::CNNLIB_ISA
