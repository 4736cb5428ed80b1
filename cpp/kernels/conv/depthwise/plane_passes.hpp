// The passes of depthwise convolution on planes as they lie, as tasks of threads.
#pragma once

#include "kernels/conv/depthwise/gradients.hpp"
#include "kernels/conv/depthwise/planes.hpp"
#include "kernels/simd/transpose.hpp"

namespace cnnlib::CNNLIB_ISA {

inline PoolBands depthwise_plane_bands(const ConvShape& s) {
  return s.stride_h == 2 ? PoolBands{windows_of(s), RowsOf::outputs}
                         : PoolBands{transposed_windows_of(s), RowsOf::inputs};
}

template <class T>
void describe_depthwise_planes(const ConvShape& s, ConvExplanation& to) {
  to.tile_rows = 1;
  to.tile_columns = Simd<T>::size;
  to.threads = depthwise_plane_bands(s).grid.threads;
}

// out, a task being planes or a band of rows of one.
template <class T>
void run_depthwise_planes(const ConvShape& s, const ConvOperands<T>& o) {
  const bool strided = s.stride_h == 2;
  depthwise_plane_bands(s).each([&](const PoolBand& band) {
    const PoolShape& p = band.shape;
    const T* x = o.in + (strided ? band.in : band.out);
    T* out = o.out + (strided ? band.out : band.in);
    const Index plane = s.H * s.W, out_plane = s.OH * s.OW;
    const T* end = out + (p.planes - 1) * out_plane + (strided ? p.OH * p.OW : p.H * p.W);
    Index c = band.first_plane % s.C;
    for (Index k = 0; k < p.planes; ++k) {
      const T bias = o.epilogue.bias != nullptr ? o.epilogue.bias[c] : T(0);
      const PlaneFilter<T> filter(o.w + 9 * c, !strided);
      const T* image = x + k * plane;
      T* to = out + k * out_plane;
      if (strided)
        correlate_strided_plane<T>(p, image, filter, bias, o.epilogue.activation, to, end);
      else
        gather_plane<T>(p, image, filter, bias, o.epilogue.activation, to, end);
      if (++c == s.C) c = 0;
    }
  });
}

// The gradients. A task has some channels of some images:
//
//   sums    [channel][tap, then db][lane]     in T, for some hundred vectors of dout
//   totals  [part of the images][channel][tap, then db]     in double
template <class T>
class DepthwisePlaneGradients {
  static constexpr Index lanes = Simd<T>::size, sums_of_channel = 10;

 public:
  using Cut = PlaneGradientCut;
  static Cut cut_of(const ConvShape& s) { return plane_gradient_cut(s); }

  DepthwisePlaneGradients(const ConvShape& shape, const Cut& own_cut, bool dx, bool sums)
      : s(shape), cut(own_cut), with_dx(dx), with_sums(sums), windows(windows_of(s)) {
    windows.planes = 1;
    threads = threads_for(depthwise_work(s) * (with_dx + with_sums));
  }

  void run(const GradientOperands<T>& o) {
    const ScratchOf<Memory> scratch(*this);
    double* totals = scratch->totals.data();
    parallel_grid({parts, groups}, threads, [&](Index part, Index group, int slot) {
      const Index first = group * channels;
      run_task(range_of(s.N, part, parts), first, std::min(channels, s.C - first), scratch->sums[slot],
               totals + part * s.C * sums_of_channel, o);
    });
    if (with_sums) finish_depthwise_sums(totals, parts, s.C, 9, nullptr, o);
  }

  void describe(ConvExplanation& to) const {
    fill_in(to, {1, lanes}, threads, {{"channels", channels}, {"partial sums", parts}});
    to.scratch_bytes = bytes_of<Memory>(*this);
  }

 private:
  struct Memory {
    const DepthwisePlaneGradients& m;
    Layout& layout;
    ThreadReserved<T> sums{layout, m.threads, m.with_sums ? m.channels * sums_of_channel * lanes : 0};
    Reserved<double> totals{layout, m.with_sums ? m.parts * m.s.C * sums_of_channel : 0};
  };

  // Some images of channels [c0, c0 + count).
  void run_task(Range images, Index c0, Index count, T* sums, double* totals,
                const GradientOperands<T>& o) const {
    if (with_sums) {
      std::fill_n(sums, count * sums_of_channel * lanes, T(0));
      std::fill_n(totals + c0 * sums_of_channel, count * sums_of_channel, 0.0);
    }
    const Index vectors = s.OH * ceil_div(s.OW, lanes);
    Index summed = 0;
    for (Index n = images.first; n < images.last; ++n) {
      for (Index c = c0; c < c0 + count; ++c) {
        const Index plane = n * s.C + c;
        if (with_dx) input_gradient(plane, c, o);
        if (with_sums) add_products(plane, sums + (c - c0) * sums_of_channel * lanes, o);
      }
      summed += vectors;
      if (!with_sums || (summed < depthwise_sum_vectors && n + 1 < images.last)) continue;
      summed = 0;
      flush(sums, count, totals + c0 * sums_of_channel);
    }
  }

  void input_gradient(Index plane, Index c, const GradientOperands<T>& o) const {
    const auto gather = s.stride_h == 1 ? &gather_plane<T> : &gather_strided_plane<T>;
    const PlaneFilter<T> filter(o.w + 9 * c, false);
    for (Index first = 0; first < s.H; first += dx_band) {
      const Index last = std::min(s.H, first + dx_band);
      const PoolBand band = band_of_rows(windows, RowsOf::inputs, {first, last});
      T* dx = o.dx + plane * s.H * s.W + band.in;
      gather(band.shape, o.dout + plane * s.OH * s.OW + band.out, filter,
             o.bias != nullptr ? o.bias[c] : T(0), {}, dx, dx + band.shape.H * s.W);
    }
  }

  void add_products(Index plane, T* sums, const GradientOperands<T>& o) const {
    const auto add = s.stride_h == 1 ? &add_plane_products<T, 1> : &add_plane_products<T, 2>;
    for (Index first = 0; first < s.OH; first += out_band) {
      const Index last = std::min(s.OH, first + out_band);
      const PoolBand band = band_of_rows(windows, RowsOf::outputs, {first, last});
      add(band.shape, o.x + plane * s.H * s.W + band.in, o.dout + plane * s.OH * s.OW + band.out, sums);
    }
  }

  // Adds the lanes of the sums to the totals, and clears them.
  static void flush(T* sums, Index count, double* totals) {
    const Index values = count * sums_of_channel;
    T lane_sums[PlaneGradientCut::most_channels * sums_of_channel];
    sum_each(sums, values, lane_sums);
    for (Index i = 0; i < values; ++i) totals[i] += double(lane_sums[i]);
    std::fill_n(sums, values * lanes, T(0));
  }

  ConvShape s;
  const Cut& cut;
  bool with_dx, with_sums;
  PoolShape windows;  // of a plane
  Index channels = cut.channels, groups = cut.groups, parts = std::min(cut.most_parts, s.N),
        dx_band = cut.dx_band, out_band = cut.out_band;
  int threads;
};

}  // namespace cnnlib::CNNLIB_ISA
