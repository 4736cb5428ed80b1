// The gradients of depthwise convolution in one pass over dout (N, F, OH, OW), which is staged once for all
// three. With M = F / C filters a channel, and the tap (a, k) of output (oh, ow) at
// h = oh * stride_h + a * dilation_h - pad_top, v = ow * stride_w + k * dilation_w - pad_left:
//
//   dx (N, C, H, W)     dx[n, c, h, v] = bias[c] + sum over f of channel c and the (oh, ow), (a, k) at (h, v)
//                                        of w[f, 0, a, k] * dout[n, f, oh, ow]
//   dw (F, 1, KH, KW)   dw[f, 0, a, k] = sum over n, oh, ow of dout[n, f, oh, ow] * x[n, f / M, h, v]
//   db (F,)             db[f] = sum over n, oh, ow of dout[n, f, oh, ow]
#pragma once

#include "kernels/conv/depthwise/depthwise.hpp"
#include "kernels/conv/depthwise/gradient_bands.hpp"
#include "threads/parallel.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
class DepthwiseGradientPass {
  using L = ChannelLanes<T>;
  static constexpr Index vector = Simd<T>::size;
  static constexpr Index most_parts = 24;  // of the sums, for threads to share
  // Vectors of dout that are summed in T before the sums are added to the totals in double.
  static constexpr Index flush_vectors = 256;

 public:
  // `with_sums`: dw or db.
  DepthwiseGradientPass(const ConvShape& shape, bool dx, bool sums) : s(shape), with_dx(dx), with_sums(sums) {
    stencil.list_x_taps(x_staged.pitch);
    if (with_dx)
      dx_taps.list<T>(s, dout_staged.pitch, dout_size, lists, index_memory.in(axis_scratch.data()));
  }

  void run(const DepthwiseGradients<T>& o) {
    Layout layout;
    const Memory memory(*this, layout);
    const Scratch scratch(layout.bytes());
    prepare(memory, scratch.data());
    double* totals = memory.totals.in(scratch.data());
    parallel_for(parts * stencil.tasks, threads, [&](Index task, int slot) {
      if (memory.first_use(scratch.data(), slot)) {
        if (with_sums) std::fill_n(memory.x.of(scratch.data(), slot), x_staged.size(), T(0));
        std::fill_n(memory.dout.of(scratch.data(), slot), stencil.multiplier * dout_size, T(0));
      }
      const Index part = task / stencil.tasks;
      Worker(*this, memory, scratch.data(), slot, o)
          .run(part, stencil.groups_of(task % stencil.tasks), totals + part * total_size);
    });
    if (with_sums) finish(totals, o);
  }

  void describe(ConvPlan& plan) const {
    plan.tile_rows = stencil_rows;
    plan.tile_columns = vector;
    plan.threads = threads;
    name_blocks(plan, {{"output rows", most.out}, {"channels", L::channels}});
    plan.scratch_bytes = bytes_of<Memory>(*this);
  }

 private:
  struct Memory {
    Reserved<Index> x_pixels, dout_pixels;
    ThreadReserved<T> x, dout, dx, weights, sums;
    Reserved<double> totals;  // [part][filter][tap, then db]
    FirstUse first_use;
    Memory(const DepthwiseGradientPass& m, Layout& layout) : first_use(m.threads, layout) {
      const Index groups = m.stencil.task_groups, multiplier = m.stencil.multiplier;
      x_pixels = layout.array<Index>(L::Staged::pixel_offsets(m.x_staged.rows, m.s.W));
      dout_pixels = layout.array<Index>(L::Staged::pixel_offsets(m.dout_staged.rows, m.s.OW));
      x = layout.per_thread<T>(m.threads, m.with_sums ? m.x_staged.size() : 0);
      dout = layout.per_thread<T>(m.threads, checked_product(multiplier, m.dout_size));
      dx = layout.per_thread<T>(m.threads, m.with_dx ? checked_product(m.most.dx, m.dx_row) : 0);
      weights = layout.per_thread<T>(m.threads, m.with_dx ? groups * m.weight_size : 0);
      sums = layout.per_thread<T>(m.threads, m.with_sums ? groups * multiplier * m.sum_size : 0);
      totals = layout.array<double>(m.with_sums ? m.parts * m.total_size : 0);
    }
  };

  // Where the halos of staged rows lie, which stay zero, and zeros for the totals.
  void prepare(const Memory& memory, void* scratch) {
    x_staged.set_pixel_offsets(memory.x_pixels.in(scratch));
    dout_staged.set_pixel_offsets(memory.dout_pixels.in(scratch));
    memory.first_use.reset(scratch);
    if (with_sums) std::fill_n(memory.totals.in(scratch), parts * total_size, 0.0);
  }

  // One thread's work on a task: some bands of the images, in some groups of channels.
  class Worker {
   public:
    Worker(const DepthwiseGradientPass& pass, const Memory& memory, void* scratch, int slot,
           const DepthwiseGradients<T>& operands)
        : m(pass),
          s(pass.s),
          stencil(pass.stencil),
          o(operands),
          staged_x(memory.x.of(scratch, slot) + m.x_staged.margin),
          staged_dout(memory.dout.of(scratch, slot) + m.dout_staged.margin),
          staged_dx(memory.dx.of(scratch, slot)),
          weights(memory.weights.of(scratch, slot)),
          sums(memory.sums.of(scratch, slot)) {}

    void run(Index part, ChannelGroups groups, double* totals) {
      if (m.with_sums) std::fill_n(sums, stencil.task_groups * stencil.multiplier * m.sum_size, T(0));
      if (m.with_dx) gather_weights(groups);
      const Index last = std::min((part + 1) * m.part_blocks, m.blocks);
      Index summed = 0;  // vectors of dout since the last flush
      for (Index block = part * m.part_blocks; block < last; ++block) {
        const Index n = block / m.bands;
        const GradientBand band(s, block % m.bands, m.bands, m.with_dx);
        summed += band.out_rows() * L::pitch(s.OW) / vector;
        const bool flush = summed > flush_vectors || block == last - 1;
        if (flush) summed = 0;
        for (Index group = groups.first; group < groups.last; ++group) {
          const Index at = group - groups.first;
          stage_dout(n, group, band);
          if (m.with_dx) input_gradient(n, group, band, weights + at * m.weight_size);
          if (!m.with_sums) continue;
          T* group_sums = sums + at * stencil.multiplier * m.sum_size;
          add_products(n, group, band, group_sums);
          if (flush) flush_sums(group, group_sums, totals);
        }
      }
    }

   private:
    // weights[group][bias, then the taps of each phase of dx][lane]
    void gather_weights(ChannelGroups groups) {
      for (Index group = groups.first; group < groups.last; ++group) {
        T* to = weights + (group - groups.first) * m.weight_size;
        stencil.gather_bias(o.bias, 1, group, to);
        to += vector;
        for (const TapList* list = m.lists; list < m.lists + m.dx_taps.lists(); to += list++->count * vector)
          stencil.gather_weights(o.w, *list, group, to);
      }
    }

    void stage_dout(Index n, Index group, const GradientBand& band) {
      const Index plane = s.OH * s.OW, multiplier = stencil.multiplier;
      const T* from = o.dout + (n * s.C + stencil.first_channel(group)) * multiplier * plane;
      for (Index f = 0; f < multiplier; ++f)
        m.dout_staged.stage(from + f * plane, o.dout + s.N * s.F * plane, stencil.channels_of(group),
                            multiplier * plane, band.dout_first, band.dout_rows(),
                            staged_dout + f * m.dout_size);
    }

    // A band of dx: a stencil over staged dout for each phase of its rows and columns.
    void input_gradient(Index n, Index group, const GradientBand& band, const T* weight) {
      const T* bias = weight;
      weight += vector;
      const TapList* list = m.lists;
      for (Index ph = 0; ph < m.dx_taps.row_phases; ++ph) {
        const Index first = std::max<Index>(0, divide_up(band.dx_first - ph, s.stride_h));
        const Index rows = divide_up(band.dx_last - ph, s.stride_h) - first;
        const T* from = staged_dout + (first - band.dout_first) * m.dout_staged.pitch;
        T* to = staged_dx + (first * s.stride_h + ph - band.dx_first) * m.dx_row;
        for (Index pw = 0; pw < m.dx_taps.column_phases; weight += list++->count * vector, ++pw)
          if (rows > 0)
            L::correlate(*list, weight, bias, {}, rows, ceil_div(s.W - pw, s.stride_w), from,
                         m.dout_staged.pitch, 1, to + pw * L::column, s.stride_h * m.dx_row, s.stride_w);
      }
      L::unstage(staged_dx, band.dx_rows(), s.W, stencil.channels_of(group), s.H * s.W,
                 o.dx + ((n * s.C + stencil.first_channel(group)) * s.H + band.dx_first) * s.W);
    }

    // Adds a band's products of dout and x to the sums of a group.
    void add_products(Index n, Index group, const GradientBand& band, T* sum) {
      stencil.stage_x(m.x_staged, o.x, n, group, band.out_first, band.out_rows(), staged_x);
      const T* grad = staged_dout + (band.out_first - band.dout_first) * m.dout_staged.pitch;
      for (Index f = 0; f < stencil.multiplier; ++f, grad += m.dout_size, sum += m.sum_size)
        L::accumulate(stencil.x_taps, band.out_rows(), s.OW, grad, m.dout_staged.pitch, staged_x,
                      s.stride_h * m.x_staged.pitch, s.stride_w, sum);
    }

    // Adds a group's sums to the totals, and starts again from zero.
    void flush_sums(Index group, T* sum, double* totals) {
      const Index multiplier = stencil.multiplier;
      double* total = totals + stencil.first_channel(group) * multiplier * m.values;
      for (Index f = 0; f < multiplier; ++f, sum += m.sum_size, total += m.values) {
        L::reduce(sum, m.values, stencil.channels_of(group), multiplier * m.values, total);
        std::fill_n(sum, m.sum_size, T(0));
      }
    }

    const DepthwiseGradientPass& m;
    const ConvShape& s;
    const ChannelStencil<T>& stencil;
    const DepthwiseGradients<T>& o;
    T *staged_x, *staged_dout, *staged_dx, *weights, *sums;
  };

  // Adds up the parts of the totals, in their order.
  void finish(double* totals, const DepthwiseGradients<T>& o) const {
    const Index weights = stencil.taps;
    for (Index f = 0; f < s.F; ++f) {
      double* total = totals + f * values;
      for (Index part = 1; part < parts; ++part)
        for (Index t = 0; t < values; ++t) total[t] += total[part * total_size + t];
      if (o.dw != nullptr)
        for (Index t = 0; t < weights; ++t) o.dw[f * weights + stencil.x_taps.weight[t]] = T(total[t]);
      if (o.db != nullptr) o.db[f] = T(total[weights]);
    }
  }

  Index plan_bands() const {
    return choose_bands(s, with_dx, L::gradient_band_bytes, [&](const BandRows& rows) {
      return double(sizeof(T)) *
             (double(stencil.x_rows(rows.out)) * L::pitch(stencil.x_width()) +
              double(rows.dout) * stencil.multiplier * L::pitch(dx_taps.width(s)) + double(rows.dx) * dx_row);
    });
  }

  ConvShape s;
  bool with_dx, with_sums;
  ChannelStencil<T> stencil{s};
  GradientTaps dx_taps{s};
  Layout axes;
  Reserved<Index> index_memory = axes.array<Index>(2 * stencil.multiplier * stencil.taps);
  Reserved<TapList> list_memory = axes.array<TapList>(dx_taps.lists());
  Scratch axis_scratch{axes.bytes()};
  TapList* lists = list_memory.in(axis_scratch.data());  // [row phase][column phase] of dx
  Index dx_row = L::pitch(s.W);
  Index bands = plan_bands();
  BandRows most = BandRows::largest(s, bands, with_dx);
  typename L::Staged x_staged{stencil.x_shape(most.out)}, dout_staged{dx_taps.dout_shape(s, most.dout)};
  Index dout_size = round_up(dout_staged.size(), vector);  // of one filter
  Index values = stencil.taps + 1, total_size = s.F * values;
  // Parts of the sums depend on the shape alone, not on threads. Without sums each band is one.
  Index blocks = s.N * bands;
  Index part_blocks = ceil_div(blocks, with_sums ? std::max<Index>(1, most_parts / stencil.tasks) : blocks);
  Index parts = ceil_div(blocks, part_blocks);
  int threads = threads_for(depthwise_work(s) * (with_dx + with_sums));
  // Weights of dx of one group, and sums of one filter of each of its channels.
  Index weight_size = (stencil.multiplier * stencil.taps + 1) * vector, sum_size = values * vector;
};

}  // namespace cnnlib::CNNLIB_ISA
