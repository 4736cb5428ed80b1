// The forward pass of depthwise convolution. With M = F / C filters a channel, and the tap (a, k) of output
// (oh, ow) at h = oh * stride_h + a * dilation_h - pad_top, v = ow * stride_w + k * dilation_w - pad_left:
//
//   out[n, f, oh, ow] = relu(b[f] + sum over a, k of w[f, 0, a, k] * x[n, f / M, h, v])
//
//   x (N, C, H, W)   w (F, 1, KH, KW)   b (F,)   out (N, F, OH, OW)
//
// Nothing is summed over channels, so that most time goes into reading and writing images: bands of output
// rows are staged and computed in the caches.
#pragma once

#include "kernels/conv/depthwise/channel_stencil.hpp"
#include "kernels/conv/method.hpp"
#include "machine/processor.hpp"
#include "threads/parallel.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
class DepthwiseForwardPass {
  static constexpr Index vector = Simd<T>::size;

 public:
  explicit DepthwiseForwardPass(const ConvShape& shape) : s(shape) { stencil.list_x_taps(staged.pitch); }

  void run(const ConvOperands<T>& o) {
    const ScratchOf<Memory> scratch(*this);
    staged.set_pixel_offsets(scratch->pixels.data());
    scratch->first_use.reset();
    const auto run_task = [&](Index some, Index task, Index band, int slot) {
      if (scratch->first_use(slot))  // the halo stays zero
        std::fill_n(scratch->staged[slot], staged.size(), T(0));
      const Work work{scratch->staged[slot] + staged.margin, scratch->out[slot], scratch->weights[slot]};
      const Range groups = stencil.groups_of(task);
      gather_weights(work, groups, o);
      for (Index n = some * images; n < std::min((some + 1) * images, s.N); ++n)
        for (Index group = groups.first; group < groups.last; ++group)
          correlate(work, n, group, band, work.weights + (group - groups.first) * group_weights, o);
    };
    parallel_grid({ceil_div(s.N, images), stencil.tasks, bands}, threads, run_task);
  }

  void describe(ConvExplanation& to) const {
    fill_in(to, {stencil_rows, vector}, threads, {{"output rows", band_rows}, {"channels", vector}});
    to.scratch_bytes = bytes_of<Memory>(*this);
  }

 private:
  struct Memory {
    const DepthwiseForwardPass& m;
    Layout& layout;
    FirstUse first_use{m.threads, layout};
    Reserved<Index> pixels{layout, m.staged.pixels()};
    ThreadReserved<T> staged{layout, m.threads, m.staged.size()};
    ThreadReserved<T> out{layout, m.threads, checked_product(m.band_rows, m.out_pitch)};
    ThreadReserved<T> weights{layout, m.threads, m.stencil.task_groups * m.group_weights};
  };
  // A thread's staged rows of x, rows of out, and weights [group][filter of a channel][tap, then bias][lane].
  struct Work {
    T *staged, *out, *weights;
  };

  void gather_weights(const Work& work, Range groups, const ConvOperands<T>& o) const {
    const T* bias = o.epilogue.bias;
    T* to = work.weights;
    for (Index group = groups.first; group < groups.last; ++group)
      for (Index m = 0; m < stencil.multiplier; ++m, to += filter_weights) {
        stencil.gather_weights(o.w + m * stencil.taps, stencil.x_taps, group, to);
        stencil.gather_bias(bias != nullptr ? bias + m : bias, stencil.multiplier, group,
                            to + stencil.taps * vector);
      }
  }

  // A band of the outputs of one image and one group of channels.
  void correlate(const Work& work, Index n, Index group, Index band, const T* weight,
                 const ConvOperands<T>& o) const {
    const Index oh = band * band_rows, rows = std::min(band_rows, s.OH - oh), plane = s.OH * s.OW;
    T* out = o.out + (n * s.C + stencil.first_channel(group)) * stencil.multiplier * plane + oh * s.OW;
    stencil.stage_x(staged, o.in, n, group, oh, rows, work.staged);
    for (Index m = 0; m < stencil.multiplier; ++m, weight += filter_weights, out += plane) {
      sum_rows<T>({&stencil.x_taps, weight, weight + stencil.taps * vector, s.stride_w * vector, vector, rows,
                   s.stride_h * staged.pitch, out_pitch, o.epilogue.activation},
                  s.OW, work.staged, work.out);
      unstage_channels(work.out, rows * s.OW, stencil.channels_of(group), stencil.multiplier * plane, out);
    }
  }

  // Bytes of staged x and of out for one output row.
  double row_bytes() const {
    return sizeof(T) * (double(s.stride_h) * double(stencil.x_width() * vector) + double(out_pitch));
  }

  ConvShape s;
  ChannelStencil<T> stencil{s};
  Index out_pitch = s.OW * vector;
  // Whole images where possible, so that no halo of a band is staged twice.
  Index bands = ceil_div(s.OH, std::max<Index>(1, caches().l2 / 4 / row_bytes()));
  Index band_rows = ceil_div(s.OH, bands);
  StagedChannels<T> staged = stencil.x_staging(band_rows);
  int threads = threads_for(depthwise_work(s));
  Index filter_weights = (stencil.taps + 1) * vector, group_weights = stencil.multiplier * filter_weights;
  // Images of a task, which gathers its weights once, as long as there are tasks enough for the threads.
  Index images = std::clamp<Index>(s.N * stencil.tasks * bands / (8 * threads), 1, s.N);
};

}  // namespace cnnlib::CNNLIB_ISA
