// Batch norm of the columns of a matrix x (N, C), read row by row: mean and var (C,) over the rows.
#pragma once

#include "kernels/norm/norm_sums.hpp"

namespace cnnlib::CNNLIB_ISA {

constexpr Index column_run = 64;  // rows whose values are added up in T

inline Index column_runs(Index N) { return ceil_div(N, column_run); }

// Two sums down each column of every run of rows: body(first position of the column in the run, position,
// lanes, column, a, b) adds a row's share of a vector of columns. partial (runs, 2, C).
template <class T, class Body>
void column_run_sums(Index N, Index C, const Body& body, T* partial) {
  using S = Simd<T>;
  constexpr Index vectors = InstructionSet::registers / 4;  // two sums of each take half of the registers
  constexpr Index width = vectors * S::size;
  const Index blocks = ceil_div(C, width), tasks = column_runs(N) * blocks;
  parallel_for(tasks, threads_for(2.0 * N * C), [&](Index task, int) {
    const Index run = task / blocks, c = task % blocks * width, count = std::min(width, C - c);
    const Index top = run * column_run, bottom = std::min(N, top + column_run);
    T* to = partial + run * 2 * C + c;
    typename S::Packet a[vectors], b[vectors];
#pragma GCC unroll 8
    for (int v = 0; v < vectors; ++v) a[v] = b[v] = S::zero();
    if (count == width) {
      for (Index n = top; n < bottom; ++n)
#pragma GCC unroll 8
        for (int v = 0; v < vectors; ++v)
          body(top * C + c + v * S::size, n * C + c + v * S::size, S::size, c + v * S::size, a[v], b[v]);
#pragma GCC unroll 8
      for (int v = 0; v < vectors; ++v) {
        S::store(to + v * S::size, a[v]);
        S::store(to + C + v * S::size, b[v]);
      }
      return;
    }
    for (Index j = 0; j < count; j += S::size) {
      const Index lanes = std::min<Index>(S::size, count - j);
      a[0] = b[0] = S::zero();
      for (Index n = top; n < bottom; ++n) body(top * C + c + j, n * C + c + j, lanes, c + j, a[0], b[0]);
      S::store_lanes(to + j, a[0], 0, lanes);
      S::store_lanes(to + C + j, b[0], 0, lanes);
    }
  });
}

// mean and biased variance of each column.
template <class T>
void column_moments(const T* x, Index N, Index C, double* mean, double* var) {
  using S = Simd<T>;
  Layout layout;
  const auto piece = layout.array<T>(checked_product(column_runs(N), 2 * C));
  const Scratch scratch(layout.bytes());
  T* partial = piece.in(scratch.data());
  column_run_sums(
      N, C,
      [&](Index first, Index at, Index lanes, Index, auto& a, auto& b) {
        const auto d = S::sub(load_first(x + at, lanes), load_first(x + first, lanes));
        a = S::add(a, d);
        b = S::fma(d, d, b);
      },
      partial);
  std::fill_n(mean, C, 0.0);
  std::fill_n(var, C, 0.0);
  for (Index run = 0; run < column_runs(N); ++run) {
    const T *a = partial + run * 2 * C, *b = a + C, *origin = x + run * column_run * C;
    const double rows = double(std::min(column_run, N - run * column_run));
    for (Index c = 0; c < C; ++c) {
      const double shift = double(origin[c]) - double(x[c]);
      mean[c] += double(a[c]) + rows * shift;
      var[c] += double(b[c]) + shift * (2 * double(a[c]) + rows * shift);
    }
  }
  for (Index c = 0; c < C; ++c) {
    const double shift = mean[c] / double(N), v = var[c] / double(N) - shift * shift;
    mean[c] = double(x[c]) + shift;
    var[c] = v < 0 ? 0 : v;
  }
}

// body(first row, rows) for slices of all rows, the last ones first: those are still in the cache.
template <class T, class Body>
void each_slice_of_rows(Index N, Index C, const Body& body) {
  parallel_ranges(
      N, std::max<Index>(1, write_slice / std::max<Index>(1, C)), double(C),
      [&](Index begin, Index end) {
        body(begin, end - begin);
        store_fence();
      },
      Order::backward);
}

// to[r * C + j] = value(factors(j, lanes), r * C + j, lanes) in `rows` rows of C columns. Blocks of rows
// share the factors of a column, unless the stores are non-temporal.
template <class T, class Factors, class Value>
[[gnu::always_inline]] inline void write_rows(T* to, Index rows, Index C, bool non_temporal,
                                              const Factors& factors, const Value& value) {
  using S = Simd<T>;
  constexpr Index block = 4;
  Index r = 0;
  for (; !non_temporal && r + block <= rows; r += block) {
    const auto column = [&](Index j, Index count) {
      const auto f = factors(j, count);
#pragma GCC unroll 4
      for (Index at = r * C + j, k = 0; k < block; ++k, at += C)
        store_first(to + at, count, value(f, at, count));
    };
    Index j = 0;
    for (; j + S::size <= C; j += S::size) column(j, S::size);
    if (j < C) column(j, C - j);
  }
  for (; r < rows; ++r)
    write_vectors(to + r * C, C, non_temporal,
                  [&](Index j, Index count) { return value(factors(j, count), r * C + j, count); });
}

template <class T>
void column_normalize(const T* x, const double* mean, const double* inv_std, const T* gamma, const T* beta,
                      T* y, Index N, Index C, bool relu) {
  using S = Simd<T>;
  Layout layout;
  const auto piece = layout.array<T>(checked_product(3, C));
  const Scratch scratch(layout.bytes());
  T *high = piece.in(scratch.data()), *scale = high + C, *shift = scale + C;
  for (Index c = 0; c < C; ++c) {
    const Affine<T> a = forward_affine(mean, inv_std, gamma, beta, c);
    high[c] = a.high;
    scale[c] = a.scale;
    shift[c] = a.shift;
  }
  const bool non_temporal = use_non_temporal<T>(N * C) && C % S::size == 0;
  struct Factors {
    typename S::Packet high, scale, shift;
  };
  each_slice_of_rows<T>(N, C, [=](Index n, Index rows) {
    const T* from = x + n * C;
    const auto factors = [=](Index j, Index count) {
      return Factors{load_first(high + j, count), load_first(scale + j, count), load_first(shift + j, count)};
    };
    const auto value = [=](const Factors& f, Index at, Index count) {
      return S::fma(S::sub(load_first(from + at, count), f.high), f.scale, f.shift);
    };
    if (relu)
      write_rows(y + n * C, rows, C, non_temporal, factors,
                 [=](const Factors& f, Index at, Index count) { return S::relu(value(f, at, count)); });
    else
      write_rows(y + n * C, rows, C, non_temporal, factors, value);
  });
}

// Sums down each column of dout, and of dout * (x - high): sum and dot (C,). `partial` has room for those of
// the runs, (runs, 2, C).
template <class T>
void column_gradient_sums(const T* dout, const T* x, const T* high, Index N, Index C, T* partial, double* sum,
                          double* dot) {
  using S = Simd<T>;
  column_run_sums(
      N, C,
      [&](Index, Index at, Index lanes, Index c, auto& a, auto& b) {
        const auto g = load_first(dout + at, lanes);
        a = S::add(a, g);
        b = S::fma(g, S::sub(load_first(x + at, lanes), load_first(high + c, lanes)), b);
      },
      partial);
  std::fill_n(sum, C, 0.0);
  std::fill_n(dot, C, 0.0);
  for (Index run = 0; run < column_runs(N); ++run) {
    const T *a = partial + run * 2 * C, *b = a + C;
    for (Index c = 0; c < C; ++c) sum[c] += double(a[c]);
    for (Index c = 0; c < C; ++c) dot[c] += double(b[c]);
  }
}

// The fields of NormGradient, (C,) each.
template <class T>
struct ColumnFactors {
  T *high, *by_dout, *by_x, *constant;
};

template <class T>
void column_input_gradient(const T* dout, const T* x, const ColumnFactors<T>& columns, T* dx, Index N,
                           Index C) {
  using S = Simd<T>;
  const bool non_temporal = use_non_temporal<T>(N * C) && C % S::size == 0;
  const T *high = columns.high, *by_dout = columns.by_dout, *by_x = columns.by_x,
          *constant = columns.constant;
  // Neither of both where the statistics did not come from the batch: x has no part in dx, nor has NaN in it.
  if (std::all_of(by_x, by_x + 2 * C, [](T factor) { return factor == 0; }))
    return each_slice_of_rows<T>(N, C, [=](Index n, Index rows) {
      write_rows(
          dx + n * C, rows, C, non_temporal,
          [=](Index j, Index count) { return load_first(by_dout + j, count); },
          [=](const auto& by, Index at, Index count) {
            return S::mul(load_first(dout + n * C + at, count), by);
          });
    });
  struct Factors {
    typename S::Packet high, by_dout, by_x, constant;
  };
  each_slice_of_rows<T>(N, C, [=](Index n, Index rows) {
    const T *grad = dout + n * C, *from = x + n * C;
    write_rows(
        dx + n * C, rows, C, non_temporal,
        [=](Index j, Index count) {
          return Factors{load_first(high + j, count), load_first(by_dout + j, count),
                         load_first(by_x + j, count), load_first(constant + j, count)};
        },
        [=](const Factors& f, Index at, Index count) {
          const auto d = S::sub(load_first(from + at, count), f.high);
          return S::fma(load_first(grad + at, count), f.by_dout, S::fma(d, f.by_x, f.constant));
        });
  });
}

// gradient(column, sums of dout and of dout * (x - mean)) completes a column and returns its NormGradient.
template <class T, class Gradient>
void column_backward(const T* dout, const T* x, const double* mean, T* dx, Index N, Index C,
                     const Gradient& gradient) {
  Layout layout;
  const auto partial_piece = layout.array<T>(checked_product(column_runs(N), 2 * C));
  const auto total_piece = layout.array<double>(checked_product(2, C));
  const auto factor_piece = layout.array<T>(checked_product(4, C));
  const Scratch scratch(layout.bytes());
  double *sum = total_piece.in(scratch.data()), *dot = sum + C;
  T* high = factor_piece.in(scratch.data());
  const ColumnFactors<T> columns{high, high + C, high + 2 * C, high + 3 * C};
  for (Index c = 0; c < C; ++c) high[c] = T(mean[c]);
  column_gradient_sums(dout, x, high, N, C, partial_piece.in(scratch.data()), sum, dot);
  for (Index c = 0; c < C; ++c) {
    const NormGradient<T> g = gradient(c, TwoSums{sum[c], dot[c] - low_part<T>(mean[c], sum[c])});
    columns.by_dout[c] = g.by_dout;
    columns.by_x[c] = g.by_x;
    columns.constant[c] = g.constant;
  }
  column_input_gradient(dout, x, columns, dx, N, C);
}

}  // namespace cnnlib::CNNLIB_ISA
