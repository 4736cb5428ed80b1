// The gradients of a depthwise 3x3 over planes as one run of values (flat_planes.hpp): dx is a correlation of
// dout with the flipped filter, dw the products of dout with the taps of x. A task has some channels of some
// images:
//
//   sums    [channel][tap, then db][lane]     in T, for some hundred vectors of dout
//   totals  [part of the images][channel][tap, then db]     in double
#pragma once

#include "kernels/conv/depthwise/depthwise.hpp"
#include "kernels/conv/depthwise/flat_planes.hpp"
#include "kernels/simd/transpose.hpp"
#include "threads/parallel.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
class DepthwiseFlatGradients {
  static constexpr Index lanes = Simd<T>::size, sums_of_channel = 10;
  static constexpr Index most_tasks = 24;      // as parts of the images, for threads to share
  static constexpr Index flush_vectors = 256;  // of dout that are summed in T
  static constexpr Index group_values = 8192, most_channels = 16;  // of an image that a task takes at a time

 public:
  DepthwiseFlatGradients(const ConvShape& shape, bool dx, bool sums)
      : s(shape), with_dx(dx), with_sums(sums), planes(s) {
    channels = std::clamp<Index>(group_values / planes.size, 1, std::min(most_channels, s.C));
    groups = ceil_div(s.C, channels);
    parts = std::clamp<Index>(most_tasks / groups, 1, s.N);
    threads = threads_for(2.0 / 16 * 9 * double(s.N * s.C * planes.size) * (with_dx + with_sums));
  }

  void run(const DepthwiseGradients<T>& o) {
    Layout layout;
    const Memory memory(*this, layout);
    const Scratch scratch(layout.bytes());
    planes.set_masks(memory.masks.in(scratch.data()));
    double* totals = memory.totals.in(scratch.data());
    parallel_for(parts * groups, threads, [&](Index task, int slot) {
      const Index part = task / groups, first = task % groups * channels;
      run_task(part * s.N / parts, (part + 1) * s.N / parts, first, std::min(channels, s.C - first),
               memory.copies.of(scratch.data(), slot), memory.sums.of(scratch.data(), slot),
               totals + part * s.C * sums_of_channel, o);
    });
    if (with_sums) finish(totals, o);
  }

  void describe(ConvPlan& plan) const {
    plan.tile_rows = 1;
    plan.tile_columns = lanes;
    plan.threads = threads;
    name_blocks(plan, {{"channels", channels}, {"partial sums", parts}});
    Layout layout;
    const Memory memory(*this, layout);
    plan.scratch_bytes = layout.bytes();
  }

 private:
  struct Memory {
    Piece<T> masks;
    ThreadPiece<T> copies, sums;
    Piece<double> totals;
    Memory(const DepthwiseFlatGradients& m, Layout& layout) {
      masks = layout.array<T>(m.planes.masks_size());
      copies = layout.per_thread<T>(m.threads, 2 * m.planes.copy_size());
      sums = layout.per_thread<T>(m.threads, m.channels * sums_of_channel * lanes);
      totals = layout.array<double>(m.parts * m.s.C * sums_of_channel);
    }
  };

  // Images [begin, end) of channels [c0, c0 + count).
  void run_task(Index begin, Index end, Index c0, Index count, T* copies, T* sums, double* totals,
                const DepthwiseGradients<T>& o) const {
    const Index size = planes.size, values = s.N * s.C * size, vectors = ceil_div(size, lanes);
    std::fill_n(sums, count * sums_of_channel * lanes, T(0));
    std::fill_n(totals + c0 * sums_of_channel, count * sums_of_channel, 0.0);
    Index summed = 0;
    for (Index n = begin; n < end; ++n) {
      for (Index c = c0; c < c0 + count; ++c) {
        const Index at = (n * s.C + c) * size;
        if (with_dx) {
          T flipped[9];
          for (int t = 0; t < 9; ++t) flipped[t] = o.w[9 * c + 8 - t];
          planes.correlate(planes.within(o.dout + at, o.dout, o.dout + values, copies), flipped,
                           o.bias != nullptr ? o.bias[c] : T(0), {}, o.dx + at);
        }
        if (with_sums)
          planes.add_products(planes.within(o.x + at, o.x, o.x + values, copies + planes.copy_size()),
                              o.dout + at, sums + (c - c0) * sums_of_channel * lanes);
      }
      summed += vectors;
      if (!with_sums || (summed < flush_vectors && n + 1 < end)) continue;
      summed = 0;
      flush(sums, count, totals + c0 * sums_of_channel);
    }
  }

  // Adds the lanes of the sums to the totals, and clears them.
  static void flush(T* sums, Index count, double* totals) {
    const Index values = count * sums_of_channel;
    T lane_sums[most_channels * sums_of_channel];
    sum_each(sums, values, lane_sums);
    for (Index i = 0; i < values; ++i) totals[i] += double(lane_sums[i]);
    std::fill_n(sums, values * lanes, T(0));
  }

  void finish(double* totals, const DepthwiseGradients<T>& o) const {
    for (Index i = 0; i < s.C * sums_of_channel; ++i) {
      double total = 0;
      for (Index part = 0; part < parts; ++part) total += totals[part * s.C * sums_of_channel + i];
      const Index c = i / sums_of_channel, t = i % sums_of_channel;
      if (t < 9 && o.dw != nullptr) o.dw[9 * c + t] = T(total);
      if (t == 9 && o.db != nullptr) o.db[c] = T(total);
    }
  }

  ConvShape s;
  bool with_dx, with_sums;
  FlatPlanes<T> planes;
  Index channels, groups;  // of a task; in all
  Index parts;             // of the images
  int threads;
};

}  // namespace cnnlib::CNNLIB_ISA
