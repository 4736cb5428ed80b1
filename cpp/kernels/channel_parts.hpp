// Sums over the images and pixels of each channel of x (N, C, S).
#pragma once

#include "kernels/channel_cuts.hpp"
#include "kernels/plane_grid.hpp"

namespace cnnlib::CNNLIB_ISA {

// body(channel, the parts' sums partial[part][channel], added up in their order).
template <class Sums, class Body>
void add_parts_up(Index parts, Index C, Sums* partial, const Body& body) {
  constexpr Index grain = 16;
  constexpr double work = 16;  // of a sum, in the unit of threads_for
  parallel_ranges(C, grain, work * double(parts), [=](Index begin, Index end) {
    for (Index part = 1; part < parts; ++part)
      for (Index c = begin; c < end; ++c) partial[c].add(partial[part * C + c]);
  });
  for (Index c = 0; c < C; ++c) body(c, partial[c]);
}
// dbeta and dgamma (C,) from the parts' sums of them.
template <class T, class Sums>
void add_parts_up(Index parts, Index C, Sums* partial, T* dgamma, T* dbeta) {
  add_parts_up(parts, C, partial, [=](Index c, const Sums& total) {
    dbeta[c] = T(total.a);
    dgamma[c] = T(total.b);
  });
}

// partial (parts, C) = the sums of unit(channel, position, planes, values of each). Tasks go through their
// part in the order of memory: the planes of one channel alone lie a power of two apart, often, and then
// drive each other out of the cache.
template <class Sums, class Unit>
void sum_channels(const ChannelParts& cut, Sums* partial, const Unit& unit) {
  constexpr Index task_values = 8192;  // at least
  const BatchNormShape& s = cut.s;
  const Index parts = cut.parts, units = cut.units, planes = cut.planes, size = cut.size;
  const int threads = threads_for(2 * double(s.N * s.C) * double(s.S));
  const Index wanted = ceil_div(2 * PlaneGrid::tasks_per_thread * threads, parts);
  const Index most = std::max<Index>(1, s.N * s.C * s.S / (parts * task_values));
  const Index blocks = std::clamp<Index>(std::min(wanted, most), 1, s.C);
  parallel_grid({parts, blocks}, threads, [&](Index part, Index block, int) {
    const Range channels = range_of(s.C, block, blocks), own = range_of(units, part, parts);
    Sums* to = partial + part * s.C;
    std::fill(to + channels.first, to + channels.last, Sums{});
    const Index of_plane = ceil_div(s.S, size);  // units
    for (Index u = own.first; u < own.last; ++u) {
      const Index n = u / of_plane * planes, at = u % of_plane * size;
      for (Index c = channels.first; c < channels.last; ++c)
        to[c].add(unit(c, (n * s.C + c) * s.S + at, std::min(planes, s.N - n), std::min(size, s.S - at)));
    }
  });
}

}  // namespace cnnlib::CNNLIB_ISA
