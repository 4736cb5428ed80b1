// Batch norm of the columns of a matrix x (N, C), read row by row: mean and var (C,) over the rows.
#pragma once

#include "kernels/channel_parts.hpp"
#include "kernels/clamp.hpp"
#include "kernels/norm/norm_sums.hpp"

namespace cnnlib::CNNLIB_ISA {

constexpr Index column_run = 64;  // rows whose values are added up in T

// How many parts the runs of N rows are cut into, whose sums are added up in their order; one where there are
// none. N alone decides.
inline Index column_parts(Index N) {
  constexpr Index most_parts = 64;
  return std::clamp<Index>(ceil_div(N, column_run), 1, most_parts);
}

// Two sums down each column: row(first position of the column in a run of rows, position, lanes, column, a,
// b) adds a row's share of a vector of columns, and run(first row, rows, column, sums of the run) says what
// they add to the part's. partial (parts, C).
template <class T, class Row, class Run>
void column_sums(Index N, Index C, const Row& row, const Run& run, TwoSums* partial) {
  using S = Simd<T>;
  constexpr int vectors = InstructionSet::registers / 4;  // two sums of each take half of the registers
  constexpr Index width = vectors * S::size;
  const Index parts = column_parts(N), runs = ceil_div(N, column_run), blocks = ceil_div(C, width);
  parallel_grid({parts, blocks}, threads_for(2.0 * double(N) * double(C)), [&](Index part, Index block, int) {
    const Index c = block * width, count = std::min(width, C - c);
    TwoSums* total = partial + part * C + c;
    std::fill_n(total, count, TwoSums{});
    const Range own = range_of(runs, part, parts);
    for (Index r = own.first; r < own.last; ++r) {
      const Index top = r * column_run, bottom = std::min(N, top + column_run);
      T sum_a[width], sum_b[width];
      const auto add_up = [&](auto side_by_side, Index j, Index lanes) __attribute__((always_inline)) {
        constexpr int some = side_by_side();  // vectors, from column j of the block on
        Packet<T> a[some], b[some];
#pragma GCC unroll 8
        for (int v = 0; v < some; ++v) a[v] = b[v] = S::zero();
        for (Index n = top; n < bottom; ++n)
#pragma GCC unroll 8
          for (int v = 0; v < some; ++v) {
            const Index at = c + j + v * S::size;
            row(top * C + at, n * C + at, lanes, at, a[v], b[v]);
          }
#pragma GCC unroll 8
        for (int v = 0; v < some; ++v) {
          S::store(sum_a + j + v * S::size, a[v]);
          S::store(sum_b + j + v * S::size, b[v]);
        }
      };
      if (count == width)
        add_up(std::integral_constant<int, vectors>(), 0, S::size);
      else
        each_vector<T>(0, count,
                       [&](Index j, Index lanes) { add_up(std::integral_constant<int, 1>(), j, lanes); });
      for (Index j = 0; j < count; ++j)
        total[j].add(run(top, bottom - top, c + j, TwoSums{double(sum_a[j]), double(sum_b[j])}));
    }
  });
}

// mean and biased variance of each column.
template <class T>
void column_moments(const T* x, Index N, Index C, double* mean, double* var) {
  using S = Simd<T>;
  const Index parts = column_parts(N);
  const ScratchArray<TwoSums> memory(checked_product(parts, C));
  TwoSums* partial = memory.data();
  // Deviations from the first row of each run, then from the first row of all.
  column_sums<T>(
      N, C,
      [=](Index first, Index at, Index lanes, Index, auto& a, auto& b) {
        const auto d = S::sub(load_first(x + at, lanes), load_first(x + first, lanes));
        a = S::add(a, d);
        b = S::fma(d, d, b);
      },
      [=](Index top, Index rows, Index c, const TwoSums& run) {
        const double shift = double(x[top * C + c]) - double(x[c]);
        return TwoSums{run.a + double(rows) * shift, run.b + shift * (2 * run.a + double(rows) * shift)};
      },
      partial);
  add_parts_up(parts, C, partial, [=](Index c, const TwoSums& total) {
    const double shift = total.a / double(N), v = total.b / double(N) - shift * shift;
    mean[c] = double(x[c]) + shift;
    var[c] = v < 0 ? 0 : v;
  });
}

// to[r * C + j] = value(r * C + j, j, lanes) in all rows of N x C.
template <class T, class Value>
void write_matrix(T* to, Index N, Index C, const Value& value) {
  const bool non_temporal = use_non_temporal<T>(N * C, C);
  // The last rows first: those are still in the cache.
  parallel_ranges(
      N, std::max<Index>(1, write_grain / std::max<Index>(1, C)), double(C),
      [=](Index begin, Index end) {
        for (Index at = begin * C; at < end * C; at += C)
          write_vectors(to + at, C, non_temporal,
                        [=](Index j, Index count) { return value(at + j, j, count); });
        store_fence();
      },
      Order::backward);
}

template <class T>
void column_normalize(const T* x, const double* mean, const double* inv_std, const T* gamma, const T* beta,
                      T* y, Index N, Index C, const Clamp<T>& activation) {
  using S = Simd<T>;
  const ScratchArray<T> memory(checked_product(3, C));
  T *high = memory.data(), *scale = high + C, *shift = scale + C;
  for (Index c = 0; c < C; ++c) {
    const Affine<T> a = forward_affine(mean, inv_std, gamma, beta, c);
    high[c] = a.high;
    scale[c] = a.scale;
    shift[c] = a.shift;
  }
  const auto value = [=](Index at, Index j, Index count) {
    const auto d = S::sub(load_first(x + at, count), load_first<T>(high + j, count));
    return clamp(activation, S::fma(d, load_first<T>(scale + j, count), load_first<T>(shift + j, count)));
  };
  write_matrix(y, N, C, value);
}

// gradient(column, sums of dout and of dout * (x - mean)) completes a column and returns its NormGradient.
template <class T, class Gradient>
void column_backward(const T* dout, const T* x, const double* mean, T* dx, Index N, Index C,
                     const Gradient& gradient) {
  using S = Simd<T>;
  const Index parts = column_parts(N);
  const ScratchArray<TwoSums> partial_memory(checked_product(parts, C));
  const ScratchArray<T> factor_memory(checked_product(4, C));
  TwoSums* partial = partial_memory.data();
  T* high = factor_memory.data();  // and the other fields of NormGradient, (C,) each
  T *by_dout = high + C, *by_x = by_dout + C, *constant = by_x + C;
  for (Index c = 0; c < C; ++c) high[c] = T(mean[c]);
  column_sums<T>(
      N, C,
      [=](Index, Index at, Index lanes, Index c, auto& a, auto& b) {
        const auto g = load_first(dout + at, lanes);
        a = S::add(a, g);
        b = S::fma(g, S::sub(load_first(x + at, lanes), load_first(high + c, lanes)), b);
      },
      [](Index, Index, Index, const TwoSums& run) { return run; }, partial);
  add_parts_up(parts, C, partial, [&](Index c, const TwoSums& total) {
    const NormGradient<T> g = gradient(c, TwoSums{total.a, total.b - low_part<T>(mean[c], total.a)});
    by_dout[c] = g.by_dout;
    by_x[c] = g.by_x;
    constant[c] = g.constant;
  });
  // Neither of both where the statistics did not come from the batch: x has no part in dx, nor has NaN in it.
  if (std::all_of(by_x, by_x + 2 * C, [](T factor) { return factor == 0; }))
    return write_matrix(dx, N, C, [=](Index at, Index j, Index count) {
      return S::mul(load_first(dout + at, count), load_first<T>(by_dout + j, count));
    });
  write_matrix(dx, N, C, [=](Index at, Index j, Index count) {
    const auto d = S::sub(load_first(x + at, count), load_first<T>(high + j, count));
    return S::fma(load_first(dout + at, count), load_first<T>(by_dout + j, count),
                  S::fma(d, load_first<T>(by_x + j, count), load_first<T>(constant + j, count)));
  });
}

}  // namespace cnnlib::CNNLIB_ISA
