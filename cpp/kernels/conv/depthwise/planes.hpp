// The planes of outputs of a depthwise 3x3 that reads images where they lie, as tasks of threads.
#pragma once

#include "kernels/conv/method.hpp"
#include "threads/parallel.hpp"

namespace cnnlib::CNNLIB_ISA {

inline int planes_threads(const ConvShape& s) { return threads_for(double(s.N * s.F * s.H * s.W)); }

// correlate(thread's slot, image, weights, bias, out) for the plane of each filter of each image.
template <class T, class Correlate>
void each_plane(const ConvShape& s, const ConvOperands<T>& o, const Correlate& correlate) {
  constexpr Index slice_values = 4096;  // of a task: many times what starting it costs
  const Index plane = s.H * s.W, out_plane = s.OH * s.OW, multiplier = s.F / s.C, planes = s.N * s.F;
  const Index grain = std::max<Index>(1, slice_values / plane);
  parallel_for(ceil_div(planes, grain), planes_threads(s), [&](Index slice, int slot) {
    const Index first = slice * grain, last = std::min(planes, first + grain);
    Index f = first % s.F, channel = first / multiplier, next_channel = (channel + 1) * multiplier;
    for (Index k = first; k < last; ++k) {
      if (k == next_channel) ++channel, next_channel += multiplier;
      if (f == s.F) f = 0;
      const T bias = o.epilogue.bias != nullptr ? o.epilogue.bias[f] : T(0);
      correlate(slot, o.in + channel * plane, o.w + 9 * f, bias, o.out + k * out_plane);
      ++f;
    }
  });
}

}  // namespace cnnlib::CNNLIB_ISA
