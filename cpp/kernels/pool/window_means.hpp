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

// out[oh, ow] = the mean of its window, for one task of a plane x with rows of W values; `sums` has room for
// the columns that the task's windows span.
template <class T, class Rows, class Columns>
void window_means(const T* x, Index W, const Rows& rows, const Columns& columns, const PlaneTask& task,
                  T* out, double* sums) {
  const Index left = columns.begin(task.first_column), right = columns.end(task.last_column - 1);
  for (Index oh = task.first_row; oh < task.last_row; ++oh) {
    const Index bottom = rows.end(oh), tall = rows.averaged(oh);
    std::fill_n(sums, right - left, 0.0);
    for (Index h = rows.begin(oh); h < bottom; h += short_column)
      add_rows(
          x + h * W + left, std::min(short_column, bottom - h), W, right - left, [](Index) { return 1.0; },
          sums);
    for (Index ow = task.first_column; ow < task.last_column; ++ow) {
      const Index begin = columns.begin(ow);
      const double total = window_sum(sums + begin - left, columns.end(ow) - begin);
      out[oh * columns.outputs + ow] = T(total / double(tall * columns.averaged(ow)));
    }
  }
}

// The same for all planes.
template <class T, class Rows, class Columns>
void window_means(const T* x, Index planes, Index H, Index W, const Rows& rows, const Columns& columns,
                  T* out) {
  const Index outputs = rows.outputs * columns.outputs;
  const PlaneGrid grid(
      planes, rows.outputs, columns.outputs, H * W + outputs,
      double(planes) * double(rows.span(1) * rows.outputs * W + outputs * columns.span(1)) / 4);
  Layout layout;
  const auto piece = layout.per_thread<double>(grid.threads, columns.span(grid.block));
  const Scratch scratch(layout.bytes());
  grid.each([&](const PlaneTask& task, int slot) {
    for (Index plane = task.first_plane; plane < task.last_plane; ++plane)
      window_means(x + plane * H * W, W, rows, columns, task, out + plane * outputs,
                   piece.of(scratch.data(), slot));
  });
}

// dx[h, w] = the sum of dout / (size of the window) over the windows that hold it, for one task of a plane dx
// with rows of W values. `narrow` (OW,) is 1 / what the windows are averaged over along a row; `shares` has
// room for a row of outputs, and `spread` for a row of the task.
template <class T, class Rows, class Columns>
void window_shares(const T* dout, Index W, const Rows& rows, const Columns& columns, const PlaneTask& task,
                   T* dx, double* shares, double* narrow, double* spread) {
  const Index OW = columns.outputs, left = task.first_column, width = task.last_column - left;
  const Index first = columns.first_reaching(left), last = columns.last_reaching(task.last_column - 1);
  for (Index ow = first; ow < last; ++ow) narrow[ow - first] = 1 / double(columns.averaged(ow));
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
    std::fill_n(shares, std::max<Index>(0, last - first), 0.0);
    for (Index oh = begin, next; oh < end && first < last; oh = next) {
      const Index tall = rows.averaged(oh);
      const double share = 1 / double(tall);
      for (next = oh + 1; next < std::min(end, oh + short_column) && rows.averaged(next) == tall;) ++next;
      add_rows(
          dout + oh * OW + first, next - oh, OW, last - first, [&](Index j) { return share * narrow[j]; },
          shares);
    }
    std::fill_n(spread, width, 0.0);
    for (Index ow = first; ow < last; ++ow) {
      const Index begin_w = std::max(columns.begin(ow) - left, Index(0)),
                  end_w = std::min(columns.end(ow) - left, width);
      const double share = shares[ow - first];
      for (Index w = begin_w; w < end_w; ++w) spread[w] += share;
    }
    for (Index w = 0; w < width; ++w) to[w] = T(spread[w]);
  }
}

template <class T, class Rows, class Columns>
void window_shares(const T* dout, Index planes, Index H, Index W, const Rows& rows, const Columns& columns,
                   T* dx) {
  const Index outputs = rows.outputs * columns.outputs;
  const PlaneGrid grid(planes, H, W, H * W + outputs,
                       double(planes) * double(rows.span(1) * outputs + H * W + H * columns.outputs) / 4);
  Layout layout;
  const Index most = columns.reaching(grid.block);
  const auto piece = layout.per_thread<double>(grid.threads, 2 * most + grid.block);
  const Scratch scratch(layout.bytes());
  grid.each([&](const PlaneTask& task, int slot) {
    double *shares = piece.of(scratch.data(), slot), *narrow = shares + most, *spread = narrow + most;
    for (Index plane = task.first_plane; plane < task.last_plane; ++plane)
      window_shares(dout + plane * outputs, W, rows, columns, task, dx + plane * H * W, shares, narrow,
                    spread);
  });
}

}  // namespace cnnlib::CNNLIB_ISA
