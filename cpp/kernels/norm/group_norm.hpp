// The gradients of group norm.
#pragma once

#include "kernels/norm/row_tasks.hpp"

namespace cnnlib::CNNLIB_ISA {

// Gradients of group norm, x (N, C, S) in groups of `channels` channels. A task takes a group of the samples
// of a part, in their order, and adds up dgamma and dbeta of its channels; how samples are cut into parts
// depends on their number alone.
template <class T>
struct GroupGradient {
  static constexpr Index most_parts = 64;
  const T *dout, *x;
  const double *mean, *inv_std;
  const T* gamma;
  T* dx;
  RowNormShape s;
  Index groups = s.C / s.channels, N = s.rows / groups, parts = std::min(N, most_parts);
  SumParts plane_parts{s.S};
  bool non_temporal = use_non_temporal<T>(N * s.C * s.S, s.S);

  void run(T* dgamma, T* dbeta) const {
    const RowTasks tasks(s.rows, s.channels * s.S, 3);
    const ScratchArray<TwoSums> partial_memory(parts * s.C);
    const ScratchArray<TwoSums> sums_memory(tasks.cut ? N * s.C * plane_parts.count : 0);
    const ScratchArray<NormGradient<T>> gradient_memory(tasks.cut ? s.rows : 0);
    TwoSums* partial = partial_memory.data();  // (parts, C)
    std::fill_n(partial, parts * s.C, TwoSums{});
    tasks.cut ? run_cut(tasks, sums_memory.data(), gradient_memory.data(), partial)
              : run_rows(tasks, partial);
    add_parts_up(parts, s.C, partial, dgamma, dbeta);
  }

  void run_rows(const RowTasks& tasks, TwoSums* partial) const {
    const bool prefetches = prefetches_rows<T>(s.channels * s.S, s.rows * s.channels * s.S);
    const Index grain = std::clamp<Index>(sum_grain * parts / (N * s.channels * s.S), 1, groups);
    const Index blocks = ceil_div(groups, grain);
    parallel_grid({parts, blocks}, tasks.threads, [=](Index part, Index block, int) {
      const Index first = block * grain, last = std::min(groups, first + grain);
      const Range images = range_of(N, part, parts);
      for (Index n = images.first; n < images.last; ++n)
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
    const Index blocks = plane_parts.count;
    parallel_grid({s.rows, s.channels, blocks}, tasks.threads, [=](Index r, Index k, Index i, int) {
      sums[(r * s.channels + k) * blocks + i] = sums_of(r, k, i);
    });
    for (Index part = 0; part < parts; ++part) {
      const Range images = range_of(N, part, parts);
      for (Index r = images.first * groups; r < images.last * groups; ++r)
        gradient[r] = add_up(r, part, partial, [=](Index k) {
          return sum_of_parts<TwoSums>(blocks,
                                       [=](Index i) { return sums[(r * s.channels + k) * blocks + i]; });
        });
    }
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
};

}  // namespace cnnlib::CNNLIB_ISA
