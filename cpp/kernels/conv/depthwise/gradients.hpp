// The gradients of depthwise convolution in one pass over dout (N, F, OH, OW), which is staged once for all
// three. With M = F / C filters a channel, and the tap (a, k) of output (oh, ow) at
// h = oh * stride_h + a * dilation_h - pad_top, v = ow * stride_w + k * dilation_w - pad_left:
//
//   dx (N, C, H, W)     dx[n, c, h, v] = bias[c] + sum over f of channel c and the (oh, ow), (a, k) at (h, v)
//                                        of w[f, 0, a, k] * dout[n, f, oh, ow]
//   dw (F, 1, KH, KW)   dw[f, 0, a, k] = sum over n, oh, ow of dout[n, f, oh, ow] * x[n, f / M, h, v]
//   db (F,)             db[f] = sum over n, oh, ow of dout[n, f, oh, ow]
#pragma once

#include "kernels/conv/depthwise/cuts.hpp"
#include "kernels/conv/method.hpp"
#include "threads/parallel.hpp"

namespace cnnlib::CNNLIB_ISA {

// dw and db from the totals [part][filter][tap, then db], whose parts are added up in their order; order[t]
// is the weight of tap t.
template <class T>
void finish_depthwise_sums(const double* totals, Index parts, Index filters, Index taps, const Index* order,
                           const GradientOperands<T>& o) {
  const Index values = taps + 1;
  for (Index i = 0; i < filters * values; ++i) {
    double total = 0;
    for (Index part = 0; part < parts; ++part) total += totals[part * filters * values + i];
    const Index f = i / values, t = i % values;
    if (t < taps && o.dw != nullptr) o.dw[f * taps + (order != nullptr ? order[t] : t)] = T(total);
    if (t == taps && o.db != nullptr) o.db[f] = T(total);
  }
}

template <class T>
class DepthwiseGradientPass {
  static constexpr Index vector = Simd<T>::size;

 public:
  // `with_sums`: dw or db.
  using Cut = ChannelGradientCut;
  static Cut cut_of(const ConvShape& s) { return channel_gradient_cut<T>(s); }

  DepthwiseGradientPass(const ConvShape& shape, const Cut& own_cut, bool dx, bool sums)
      : s(shape), cut(own_cut), with_dx(dx), with_sums(sums) {
    stencil.list_x_taps(x_staged.pitch);
    if (with_dx) dx_taps.list<T>(s, dout_staged.pitch, dout_size, lists, index_memory.data());
  }

  void run(const GradientOperands<T>& o) {
    const ScratchOf<Memory> scratch(*this);
    x_staged.set_pixel_offsets(scratch->x_pixels.data());
    dout_staged.set_pixel_offsets(scratch->dout_pixels.data());
    scratch->first_use.reset();
    double* totals = scratch->totals.data();
    if (with_sums) std::fill_n(totals, parts * total_size, 0.0);
    parallel_grid({parts, stencil.tasks}, threads, [&](Index part, Index task, int slot) {
      if (scratch->first_use(slot)) {  // halos stay zero
        if (with_sums) std::fill_n(scratch->x[slot], x_staged.size(), T(0));
        std::fill_n(scratch->dout[slot], stencil.multiplier * dout_size, T(0));
      }
      const Worker worker{*this,
                          o,
                          scratch->x[slot] + x_staged.margin,
                          scratch->dout[slot] + dout_staged.margin,
                          scratch->dx[slot],
                          scratch->weights[slot],
                          scratch->sums[slot]};
      worker.run(part, stencil.groups_of(task), totals + part * total_size);
    });
    if (with_sums) finish_depthwise_sums(totals, parts, s.F, stencil.taps, stencil.x_taps.weight, o);
  }

  void describe(ConvExplanation& to) const {
    fill_in(to, {stencil_rows, vector}, threads, {{"output rows", most.out}, {"channels", vector}});
    to.scratch_bytes = bytes_of<Memory>(*this);
  }

 private:
  struct Memory {
    const DepthwiseGradientPass& m;
    Layout& layout;
    Index groups = m.stencil.task_groups, multiplier = m.stencil.multiplier;
    FirstUse first_use{m.threads, layout};
    Reserved<Index> x_pixels{layout, m.x_staged.pixels()}, dout_pixels{layout, m.dout_staged.pixels()};
    ThreadReserved<T> x{layout, m.threads, m.with_sums ? m.x_staged.size() : 0};
    ThreadReserved<T> dout{layout, m.threads, checked_product(multiplier, m.dout_size)};
    ThreadReserved<T> dx{layout, m.threads, m.with_dx ? checked_product(m.most.dx, m.dx_row) : 0};
    ThreadReserved<T> weights{layout, m.threads, m.with_dx ? groups * m.weight_size : 0};
    ThreadReserved<T> sums{layout, m.threads, m.with_sums ? groups * multiplier * m.sum_size : 0};
    Reserved<double> totals{layout,
                            m.with_sums ? m.parts * m.total_size : 0};  // [part][filter][tap, then db]
  };

  // One thread's work on a task: some bands of the images, in some groups of channels.
  struct Worker {
    const DepthwiseGradientPass& m;
    const GradientOperands<T>& o;
    T *staged_x, *staged_dout, *staged_dx, *weights, *sums;
    const ConvShape& s = m.s;
    const ChannelStencil<T>& stencil = m.stencil;

    void run(Index part, Range groups, double* totals) const {
      if (m.with_sums) std::fill_n(sums, stencil.task_groups * stencil.multiplier * m.sum_size, T(0));
      if (m.with_dx) gather_weights(groups);
      const Index last = std::min((part + 1) * m.part_blocks, m.blocks);
      Index summed = 0;  // vectors of dout since the last flush
      for (Index block = part * m.part_blocks; block < last; ++block) {
        const Index n = block / m.bands;
        const GradientBand band(s, block % m.bands, m.bands);
        summed += band.out_rows() * s.OW;
        const bool flush = summed > depthwise_sum_vectors || block == last - 1;
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

    // weights[group][bias, then the taps of each phase of dx][lane]
    void gather_weights(Range groups) const {
      for (Index group = groups.first; group < groups.last; ++group) {
        T* to = weights + (group - groups.first) * m.weight_size;
        stencil.gather_bias(o.bias, 1, group, to);
        to += vector;
        for (const TapList* list = m.lists; list < m.lists + m.dx_taps.lists(); to += list++->count * vector)
          stencil.gather_weights(o.w, *list, group, to);
      }
    }

    void stage_dout(Index n, Index group, const GradientBand& band) const {
      const Index plane = s.OH * s.OW, multiplier = stencil.multiplier;
      const T* from = o.dout + (n * s.C + stencil.first_channel(group)) * multiplier * plane;
      for (Index f = 0; f < multiplier; ++f)
        m.dout_staged.stage(from + f * plane, stencil.channels_of(group), multiplier * plane, band.dout_first,
                            band.dout_rows(), staged_dout + f * m.dout_size);
    }

    // A band of dx: a stencil over staged dout for each phase of its rows and columns.
    void input_gradient(Index n, Index group, const GradientBand& band, const T* weight) const {
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
            sum_rows<T>({list,
                         weight,
                         bias,
                         vector,
                         s.stride_w * vector,
                         rows,
                         m.dout_staged.pitch,
                         s.stride_h * m.dx_row,
                         {}},
                        ceil_div(s.W - pw, s.stride_w), from, to + pw * vector);
      }
      unstage_channels(staged_dx, band.dx_rows() * s.W, stencil.channels_of(group), s.H * s.W,
                       o.dx + ((n * s.C + stencil.first_channel(group)) * s.H + band.dx_first) * s.W);
    }

    // Adds a band's products of dout and x to the sums of a group.
    void add_products(Index n, Index group, const GradientBand& band, T* sum) const {
      stencil.stage_x(m.x_staged, o.x, n, group, band.out_first, band.out_rows(), staged_x);
      const T* grad = staged_dout + (band.out_first - band.dout_first) * m.dout_staged.pitch;
      for (Index f = 0; f < stencil.multiplier; ++f, grad += m.dout_size, sum += m.sum_size)
        add_rows<T>({&stencil.x_taps, s.stride_w * vector, vector, band.out_rows(),
                     s.stride_h * m.x_staged.pitch, m.dout_staged.pitch},
                    s.OW, grad, staged_x, sum);
    }

    // Adds a group's sums to the totals, and starts again from zero.
    void flush_sums(Index group, T* sum, double* totals) const {
      const Index multiplier = stencil.multiplier;
      double* total = totals + stencil.first_channel(group) * multiplier * m.values;
      for (Index f = 0; f < multiplier; ++f, sum += m.sum_size, total += m.values) {
        for (Index c = 0; c < stencil.channels_of(group); ++c)
          for (Index t = 0; t < m.values; ++t)
            total[c * multiplier * m.values + t] += double(sum[t * vector + c]);
        std::fill_n(sum, m.sum_size, T(0));
      }
    }
  };

  ConvShape s;
  const Cut& cut;
  bool with_dx, with_sums;
  ChannelStencil<T> stencil{s};
  GradientTaps dx_taps{s};
  ScratchArray<Index> index_memory{2 * stencil.multiplier * stencil.taps};
  ScratchArray<TapList> list_memory{dx_taps.lists()};
  TapList* lists = list_memory.data();  // [row phase][column phase] of dx
  Index dx_row = s.W * vector;
  Index bands = cut.bands;
  BandRows most = BandRows::largest(s, bands);
  StagedChannels<T> x_staged = stencil.x_staging(most.out),
                    dout_staged = dx_taps.dout_staging<T>(s, most.dout);
  Index dout_size = round_up(dout_staged.size(), vector);  // of one filter
  Index values = stencil.taps + 1, total_size = s.F * values;
  Index blocks = s.N * bands, part_blocks = cut.part_bands(s.N, with_sums);
  Index parts = ceil_div(blocks, part_blocks);
  int threads = threads_for(depthwise_work(s) * (with_dx + with_sums));
  // Weights of dx of one group, and sums of one filter of each of its channels.
  Index weight_size = (stencil.multiplier * stencil.taps + 1) * vector, sum_size = values * vector;
};

}  // namespace cnnlib::CNNLIB_ISA
