// Layer and group norm of x (rows, channels, S): y = (x - mean) / sqrt(var + eps) * gamma + beta with
// statistics (rows,) of each row of channels * S values; channel c of row r has the parameters (r * channels
// + c) % C.
#pragma once

#include "kernels/norm/norm_sums.hpp"
#include "kernels/plane_grid.hpp"

namespace cnnlib::CNNLIB_ISA {

// Whether a pass over long rows should prefetch the next one meanwhile: where they come from memory.
template <class T>
bool prefetches_rows(Index size, Index all) {
  constexpr Index long_row_bytes = 2 << 10, cached_bytes = 8 << 20;
  return size * Index(sizeof(T)) >= long_row_bytes && all * Index(sizeof(T)) >= cached_bytes;
}

// How rows are shared out: one by one, the sums of a row and what is made of them while it is in the cache;
// or, where few long rows would keep few threads busy, the parts of all sums first. The sums are the same.
struct RowTasks {
  Index rows;
  int threads;
  bool cut;

  RowTasks(Index row_count, Index size, double work)
      : rows(row_count),
        threads(threads_for(work * double(rows) * double(size))),
        cut(threads > 1 && size > SumParts::least_values && rows < PlaneGrid::tasks_per_thread * threads) {}
};

// Adds up part(0), part(1), ... in this order.
template <class Sums, class Part>
Sums sum_of_parts(Index count, const Part& part) {
  Sums total = part(0);
  for (Index i = 1; i < count; ++i) total.add(part(i));
  return total;
}

// body(row) for all rows of `size` values.
template <class Body>
void each_norm_row(const RowTasks& tasks, Index size, const Body& body) {
  const Index grain = std::max<Index>(1, sum_slice / size);
  parallel_for(ceil_div(tasks.rows, grain), tasks.threads, [&](Index task, int) {
    for (Index row = task * grain; row < std::min(tasks.rows, (task + 1) * grain); ++row) body(row);
    store_fence();
  });
}

// body(row, channel of the row, first value, values) for blocks of all channels of all rows; layer norm's row
// is a single channel.
template <class Body>
void each_norm_block(const RowNormShape& s, bool layer, const Body& body) {
  const Index channels = layer ? 1 : s.channels, size = layer ? s.channels : s.S;
  const PlaneGrid grid(s.rows * channels, 1, size, size, 2.0 * double(s.rows * s.channels) * double(s.S));
  grid.each([&](const PlaneTask& task, int) {
    for (Index plane = task.first_plane; plane < task.last_plane; ++plane)
      body(plane / channels, plane % channels, task.first_column, task.last_column - task.first_column);
    store_fence();
  });
}

// Layer norm: each column of a row has its own gamma.
inline bool is_layer_norm(const RowNormShape& s) { return s.S == 1 && s.channels == s.C; }

// mean and inv_std (rows,) are filled for the backward pass.
template <class T>
void rownorm_forward(const T* x, const T* gamma, const T* beta, double eps, T* y, double* mean,
                     double* inv_std, const RowNormShape& s) {
  using S = Simd<T>;
  const Index size = s.channels * s.S;
  const bool layer = is_layer_norm(s), large = use_non_temporal<T>(s.rows * size);
  const bool non_temporal = large && (layer ? size : s.S) % S::size == 0;
  const auto normalize = [=](Index r, Index c, Index first, Index count) {
    const Index at = r * size + c * s.S + first;
    if (!layer) {
      const Index channel = (r * s.channels + c) % s.C;
      const Affine<T> a(mean[r], inv_std[r] * double(gamma[channel]), double(beta[channel]));
      return a.template apply<false>(x + at, y + at, count, non_temporal);
    }
    const Affine<T> a(mean[r], inv_std[r], 0);
    const auto high = S::fill(a.high), scale = S::fill(a.scale), shift = S::fill(a.shift);
    const T *from = x + at, *by = gamma + first, *plus = beta + first;
    write_vectors(y + at, count, non_temporal, [&](Index i, Index lanes) {
      const auto normal = S::fma(S::sub(load_first(from + i, lanes), high), scale, shift);
      return S::fma(normal, load_first(by + i, lanes), load_first(plus + i, lanes));
    });
  };
  const SumParts parts(size);
  const auto deviations = [=](Index r, Index i) {
    return deviations_of(x + r * size + parts.first(i), 1, parts.values(i), parts.values(i));
  };
  const auto finish = [=](Index r, const auto& part) {
    const Moments m = sum_of_parts<Deviations>(parts.count, part).moments();
    mean[r] = m.mean;
    inv_std[r] = 1 / std::sqrt(m.var + eps);
  };
  const RowTasks tasks(s.rows, size, 2);
  if (!tasks.cut)
    return each_norm_row(tasks, size, [&](Index r) {
      finish(r, [&](Index i) { return deviations(r, i); });
      if (layer) return normalize(r, 0, 0, size);
      for (Index c = 0; c < s.channels; ++c) normalize(r, c, 0, s.S);
    });
  Layout layout;
  const auto piece = layout.array<Deviations>(s.rows * parts.count);
  const Scratch scratch(layout.bytes());
  Deviations* partial = piece.in(scratch.data());
  parallel_for(s.rows * parts.count, tasks.threads,
               [=](Index k, int) { partial[k] = deviations(k / parts.count, k % parts.count); });
  for (Index r = 0; r < s.rows; ++r) finish(r, [=](Index i) { return partial[r * parts.count + i]; });
  each_norm_block(s, layer, normalize);
}

// Sums of dout * gamma and of dout * gamma * (x - mean) over D values of a row of layer norm.
template <class T>
[[gnu::noinline]] TwoSums layernorm_sums(const T* dout, const T* x, const T* gamma, double mean, Index D) {
  using S = Simd<T>;
  const auto high = S::fill(T(mean));
  TwoSums sums;
  each_run(1, D, D, [&](Index at, Index, Index size) {
    sums.add(run_sums<T>(1, size, size, [&](Index i, Index count, auto& a, auto& b) {
      const auto g = S::mul(load_first(dout + at + i, count), load_first(gamma + at + i, count));
      a = S::add(a, g);
      b = S::fma(g, S::sub(load_first(x + at + i, count), high), b);
    }));
  });
  sums.b -= sums.a * (mean - double(T(mean)));
  return sums;
}

// dx of D values of a row, whose shares of dgamma and dbeta are added to those of its run.
template <class T>
void layernorm_row_gradient(const T* dout, const T* x, const T* gamma, const Affine<T>& normal,
                            const NormGradient<T>& gradient, T* dx, T* run_gamma, T* run_beta, Index D,
                            bool non_temporal) {
  using S = Simd<T>;
  const auto high = S::fill(normal.high), scale = S::fill(normal.scale), shift = S::fill(normal.shift);
  const auto by_dout = S::fill(gradient.by_dout), by_x = S::fill(gradient.by_x);
  const auto constant = S::fill(gradient.constant);
  write_vectors(dx, D, non_temporal, [&](Index j, Index count) {
    const auto g = load_first(dout + j, count), d = S::sub(load_first(x + j, count), high);
    store_first(run_beta + j, count, S::add(load_first(run_beta + j, count), g));
    store_first(run_gamma + j, count, S::fma(g, S::fma(d, scale, shift), load_first(run_gamma + j, count)));
    return S::fma(S::mul(g, load_first(gamma + j, count)), by_dout, S::fma(d, by_x, constant));
  });
}

// Gradients of layer norm, x (N, D), where every column has its own gamma. The rows are cut into parts that
// depend on the shape alone; each adds up dgamma and dbeta, short runs of rows in T and these in double.
template <class T>
void layernorm_backward(const T* dout, const T* x, const double* mean, const double* inv_std, const T* gamma,
                        T* dx, T* dgamma, T* dbeta, Index N, Index D) {
  constexpr Index run = 16, most_parts = 64;
  const Index parts = std::clamp<Index>(N / run, 1, most_parts);
  const SumParts row_parts(D);
  const int threads = threads_for(3.0 * double(N) * double(D));
  // Few parts are cut by columns, too, of which the rows' sums have to be known before.
  const Index wanted = ceil_div(PlaneGrid::tasks_per_thread * threads, parts);
  const bool cut = threads > 1 && parts < 2 * threads;
  const Index block = cut ? even_part(D, ceil_div(D, wanted), PlaneGrid::column_unit) : D,
              blocks = ceil_div(D, block);
  const bool non_temporal = use_non_temporal<T>(N * D) && D % Simd<T>::size == 0;
  const bool prefetches = prefetches_rows<T>(D, N * D) && !cut;
  Layout layout;
  const auto total_piece = layout.array<double>(checked_product(2 * parts, D));
  const auto run_piece = layout.per_thread<T>(threads, checked_product(2, block));
  const auto row_piece = layout.array<TwoSums>(cut ? N * row_parts.count : 0);
  const Scratch scratch(layout.bytes());
  double* totals = total_piece.in(scratch.data());  // [part][dgamma, dbeta][D]
  TwoSums* partial = row_piece.in(scratch.data());
  const auto sums_of = [=](Index n, Index i) {
    const Index at = row_parts.first(i);
    return layernorm_sums(dout + n * D + at, x + n * D + at, gamma + at, mean[n], row_parts.values(i));
  };
  if (cut)
    parallel_for(N * row_parts.count, threads,
                 [=](Index k, int) { partial[k] = sums_of(k / row_parts.count, k % row_parts.count); });
  parallel_for(parts * blocks, threads, [&](Index task, int slot) {
    const Index part = task / blocks, j = task % blocks * block, width = std::min(block, D - j);
    T *run_gamma = run_piece.of(scratch.data(), slot), *run_beta = run_gamma + width;
    double *total_gamma = totals + 2 * part * D + j, *total_beta = total_gamma + D;
    std::fill_n(total_gamma, width, 0.0);
    std::fill_n(total_beta, width, 0.0);
    const Index last = (part + 1) * N / parts;
    for (Index first = part * N / parts; first < last; first += run) {
      std::fill_n(run_gamma, 2 * width, T(0));
      for (Index n = first; n < std::min(first + run, last); ++n) {
        const Index at = n * D + j;
        const TwoSums sums = sum_of_parts<TwoSums>(
            row_parts.count, [&](Index i) { return cut ? partial[n * row_parts.count + i] : sums_of(n, i); });
        if (prefetches && n + 1 < last) {
          prefetch(dout + at + D, D);
          prefetch(x + at + D, D);
        }
        const Affine<T> normal(mean[n], inv_std[n], 0);
        const NormGradient<T> of(mean[n], inv_std[n], 1, sums.a / double(D), sums.b * inv_std[n] / double(D));
        layernorm_row_gradient(dout + at, x + at, gamma + j, normal, of, dx + at, run_gamma, run_beta, width,
                               non_temporal);
      }
      for (Index i = 0; i < width; ++i) total_gamma[i] += double(run_gamma[i]);
      for (Index i = 0; i < width; ++i) total_beta[i] += double(run_beta[i]);
    }
    store_fence();
  });
  parallel_ranges(D, 256, 4 * double(parts), [=](Index begin, Index end) {
    for (Index j = begin; j < end; ++j) {
      double sum_gamma = 0, sum_beta = 0;
      for (Index part = 0; part < parts; ++part) {
        sum_gamma += totals[2 * part * D + j];
        sum_beta += totals[(2 * part + 1) * D + j];
      }
      dgamma[j] = T(sum_gamma);
      dbeta[j] = T(sum_beta);
    }
  });
}

// Gradients of group norm, x (N, C, S) in groups of `channels` channels. A task takes a group of the samples
// of a part, in their order, and adds up dgamma and dbeta of its channels; how samples are cut into parts
// depends on their number alone.
template <class T>
class GroupGradient {
 public:
  GroupGradient(const T* dout_, const T* x_, const double* mean_, const double* inv_std_, const T* gamma_,
                T* dx_, const RowNormShape& shape)
      : dout(dout_), x(x_), mean(mean_), inv_std(inv_std_), gamma(gamma_), dx(dx_), s(shape) {}

  void run(T* dgamma, T* dbeta) const {
    const RowTasks tasks(s.rows, s.channels * s.S, 3);
    Layout layout;
    const auto piece = layout.array<TwoSums>(parts * s.C);
    const auto sums_piece = layout.array<TwoSums>(tasks.cut ? N * s.C * plane_parts.count : 0);
    const auto gradient_piece = layout.array<NormGradient<T>>(tasks.cut ? s.rows : 0);
    const Scratch scratch(layout.bytes());
    TwoSums* partial = piece.in(scratch.data());  // (parts, C)
    std::fill_n(partial, parts * s.C, TwoSums{});
    tasks.cut ? run_cut(tasks, sums_piece.in(scratch.data()), gradient_piece.in(scratch.data()), partial)
              : run_rows(tasks, partial);
    parallel_ranges(s.C, 64, 4 * double(parts), [=](Index begin, Index end) {
      for (Index c = begin; c < end; ++c) {
        const auto total = sum_of_parts<TwoSums>(parts, [=](Index part) { return partial[part * s.C + c]; });
        dbeta[c] = T(total.a);
        dgamma[c] = T(total.b);
      }
    });
  }

 private:
  static constexpr Index most_parts = 64;

  void run_rows(const RowTasks& tasks, TwoSums* partial) const {
    const bool prefetches = prefetches_rows<T>(s.channels * s.S, s.rows * s.channels * s.S);
    const Index grain = std::clamp<Index>(sum_slice * parts / (N * s.channels * s.S), 1, groups);
    const Index blocks = ceil_div(groups, grain);
    parallel_for(parts * blocks, tasks.threads, [=](Index task, int) {
      const Index part = task / blocks, first = task % blocks * grain, last = std::min(groups, first + grain);
      for (Index n = N * part / parts; n < N * (part + 1) / parts; ++n)
        for (Index group = first; group < last; ++group)
          run_row(n * groups + group, part, prefetches, partial);
      store_fence();
    });
  }

  void run_row(Index r, Index part, bool prefetches, TwoSums* partial) const {
    const NormGradient<T> gradient = add_up(r, part, partial, [=](Index k) {
      return sum_of_parts<TwoSums>(plane_parts.count, [=](Index i) { return sums_of(r, k, i); });
    });
    const Index first_channel = r % groups * s.channels;
    for (Index k = 0; k < s.channels; ++k) {
      const Index next = (r + 1) * s.channels + k;
      if (prefetches && next < N * s.C) {
        prefetch(dout + next * s.S, s.S);
        prefetch(x + next * s.S, s.S);
      }
      write(gradient, r, k, gamma[first_channel + k], 0, s.S);
    }
  }

  void run_cut(const RowTasks& tasks, TwoSums* sums, NormGradient<T>* gradient, TwoSums* partial) const {
    const Index pieces = plane_parts.count;
    parallel_for(N * s.C * pieces, tasks.threads, [=](Index i, int) {
      sums[i] = sums_of(i / pieces / s.channels, i / pieces % s.channels, i % pieces);
    });
    for (Index part = 0; part < parts; ++part)
      for (Index r = N * part / parts * groups; r < N * (part + 1) / parts * groups; ++r)
        gradient[r] = add_up(r, part, partial, [=](Index k) {
          return sum_of_parts<TwoSums>(pieces,
                                       [=](Index i) { return sums[(r * s.channels + k) * pieces + i]; });
        });
    each_norm_block(s, false, [=](Index r, Index k, Index first, Index count) {
      write(gradient[r], r, k, gamma[r % groups * s.channels + k], first, count);
    });
  }

  // Sums of part i of dout and of dout * (x - mean), of channel k of row r.
  TwoSums sums_of(Index r, Index k, Index i) const {
    const Index at = (r * s.channels + k) * s.S + plane_parts.first(i), count = plane_parts.values(i);
    return gradient_sums(dout + at, x + at, mean[r], 1, count, count);
  }

  // Adds the sums of row r's channels to those of its part; what dx of the row amounts to, but for gamma.
  template <class Sums>
  NormGradient<T> add_up(Index r, Index part, TwoSums* partial, const Sums& sums_of_channel) const {
    const double size = double(s.channels * s.S);
    const Index first_channel = r % groups * s.channels;
    TwoSums* to = partial + part * s.C + first_channel;
    TwoSums total;
    for (Index k = 0; k < s.channels; ++k) {
      TwoSums own = sums_of_channel(k);
      own.b *= inv_std[r];
      to[k].add(own);
      total.a += own.a * double(gamma[first_channel + k]);
      total.b += own.b * double(gamma[first_channel + k]);
    }
    return NormGradient<T>(mean[r], inv_std[r], 1, total.a / size, total.b / size);
  }

  void write(NormGradient<T> gradient, Index r, Index k, T channel_gamma, Index first, Index count) const {
    const Index at = (r * s.channels + k) * s.S + first;
    gradient.by_dout = T(inv_std[r] * double(channel_gamma));
    gradient.apply(dout + at, x + at, dx + at, count, non_temporal);
  }

  const T *dout, *x;
  const double *mean, *inv_std;
  const T* gamma;
  T* dx;
  RowNormShape s;
  Index groups = s.C / s.channels, N = s.rows / groups, parts = std::min(N, most_parts);
  SumParts plane_parts{s.S};
  bool non_temporal = use_non_temporal<T>(N * s.C * s.S) && s.S % Simd<T>::size == 0;
};

template <class T>
void rownorm_backward(const T* dout, const T* x, const double* mean, const double* inv_std, const T* gamma,
                      T* dx, T* dgamma, T* dbeta, const RowNormShape& s) {
  if (is_layer_norm(s))
    return layernorm_backward(dout, x, mean, inv_std, gamma, dx, dgamma, dbeta, s.rows, s.channels);
  GroupGradient<T>(dout, x, mean, inv_std, gamma, dx, s).run(dgamma, dbeta);
}

}  // namespace cnnlib::CNNLIB_ISA
