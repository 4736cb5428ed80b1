// dx, dw and db of depthwise convolution in one pass over dout, which is staged once for all three.
#pragma once

#include "kernels/conv/depthwise/forward.hpp"

namespace cnnlib::CNNLIB_ISA {

// The rows of dout, whose products with x are summed, and of dx in one band, and what of dout is staged.
struct GradientBand {
  Index out_first, out_last, dx_first, dx_last, dout_first, dout_last;

  GradientBand(const ConvShape& s, Index band, Index bands, bool dx)
      : out_first(band * s.OH / bands),
        out_last((band + 1) * s.OH / bands),
        dx_first(band * s.H / bands),
        dx_last((band + 1) * s.H / bands),
        dout_first(out_first),
        dout_last(out_last) {
    if (!dx) return;
    const Index reach = (s.KH - 1) * s.dilation_h;
    dout_first = std::min(out_first, floor_divide(dx_first + s.pad_top - reach, s.stride_h));
    dout_last = std::max(out_last, floor_divide(dx_last - 1 + s.pad_top, s.stride_h) + 1);
  }
  Index out_rows() const { return out_last - out_first; }
  Index dx_rows() const { return dx_last - dx_first; }
  Index dout_rows() const { return dout_last - dout_first; }
};

// The largest of every kind.
struct BandRows {
  Index out = 0, dx = 0, dout = 0;
  void add(const GradientBand& band) {
    out = std::max(out, band.out_rows());
    dx = std::max(dx, band.dx_rows());
    dout = std::max(dout, band.dout_rows());
  }
};

// The least number of bands, but for rounding, of which bytes(rows) of the largest are at most `most_bytes`.
// Every band has rows of dout, and as many as the window reaches, lest they are staged again and again.
template <class Bytes>
Index choose_bands(const ConvShape& s, bool with_dx, double most_bytes, const Bytes& bytes) {
  const Index reach = (s.KH - 1) * s.dilation_h;
  const Index most = std::clamp<Index>(s.OH * s.stride_h / std::max<Index>(1, reach), 1, s.OH);
  const auto largest = [&](Index bands) {  // dx and dout are furthest apart in the first or the last
    BandRows rows;
    rows.add(GradientBand(s, 0, bands, with_dx));
    rows.add(GradientBand(s, bands - 1, bands, with_dx));
    return bytes(rows);
  };
  Index bands = 1;
  while (bands < most && largest(bands) > most_bytes) bands = std::min(bands + divide_up(bands, 4), most);
  return bands;
}

// How dout is read: dx is a correlation of dout for every residue of its rows and columns modulo the
// stride, with the taps that reach it.
struct GradientTaps {
  Index left, right;  // how far these taps reach to either side
  Index row_phases, column_phases;
  static constexpr Index no_remainder = 0;

  explicit GradientTaps(const ConvShape& s)
      : left(std::max<Index>(0, divide_up((s.KW - 1) * s.dilation_w - s.pad_left, s.stride_w))),
        right((s.stride_w - 1 + s.pad_left) / s.stride_w),
        row_phases(std::min(s.stride_h, s.H)),
        column_phases(std::min(s.stride_w, s.W)) {}

  Index width(const ConvShape& s) const { return std::max(s.OW + left, divide_up(s.W, s.stride_w) + right); }
  Index lists() const { return row_phases * column_phases; }

  // Fills lists(); `memory` has room for two indices for each weight of a channel. Kernel position k reads
  // dout position (i + pad - k * dilation) / stride; the planes of a channel's filters lie `plane` apart.
  template <class L>
  void list(const ConvShape& s, Index pitch, Index plane, TapList* list, Index* memory) const {
    for (Index ph = 0; ph < row_phases; ++ph)
      for (Index pw = 0; pw < column_phases; ++pw, ++list) {
        const auto each = [&](const auto& tap) {
          for (Index f = 0; f < s.F / s.C; ++f)
            each_tap<L>(s, [&](Index a, Index k) {  // backwards, so that dout is read forwards
              const Index kh = s.KH - 1 - a, kw = s.KW - 1 - k;
              const Index row = ph + s.pad_top - kh * s.dilation_h,
                          column = pw + s.pad_left - kw * s.dilation_w;
              if (row % s.stride_h == 0 && column % s.stride_w == 0)
                tap(f * plane + row / s.stride_h * pitch + column / s.stride_w * L::column,
                    (f * s.KH + kh) * s.KW + kw);
            });
        };
        *list = {0, memory, memory};
        each([&](Index, Index) { ++list->weight; });
        each([&](Index offset, Index weight) { list->add(offset, weight); });
        memory += 2 * list->count;
      }
  }
};

// Any of dx, dw and db may be null: not wanted. dx starts from `bias` (C,) unless that is null.
template <class T, class L>
void gradients_depthwise(const T* x, const T* w, const T* dout, const T* bias, T* dx, T* dw, T* db,
                         const ConvShape& s) {
  constexpr Index vector = Simd<T>::size, short_run = 256;
  const bool sums = dw != nullptr || db != nullptr;
  const GradientTaps g(s);
  Layout axes;
  const auto axis_piece = axes.array<Index>(Depthwise<T, L>::indices(s) + 2 * s.F / s.C * s.KH * s.KW);
  const auto list_piece = axes.array<TapList>(g.lists());
  const Scratch axis_scratch(axes.bytes());
  Index* indices = axis_piece.in(axis_scratch.data());
  Depthwise<T, L> d(s, indices);
  const Index multiplier = d.multiplier, values = d.taps + 1;

  // dx is computed in rows of one part for each phase of the columns, or where vectors run across channels
  // in its place.
  const Index phases = L::split_columns ? g.column_phases : 1;
  const Index dx_pitch = L::pitch(L::split_columns ? divide_up(s.W, s.stride_w) : s.W);
  const auto bytes = [&](const BandRows& rows) {
    return double(sizeof(T)) *
           (double(d.x_rows(rows.out)) * d.columns.phases * L::pitch(d.x_width()) +
            double(rows.dout) * multiplier * L::pitch(g.width(s)) + double(rows.dx) * phases * dx_pitch);
  };
  const Index bands = choose_bands(s, dx != nullptr, L::staged_bytes, bytes);
  BandRows most;
  for (Index i = 0; i < bands; ++i) most.add(GradientBand(s, i, bands, dx != nullptr));
  typename L::Staged x_staged(d.x_shape(most.out));
  typename L::Staged dout_staged({s.OH, s.OW, 1, 1, &g.no_remainder, g.width(s), g.left, most.dout});
  d.list_x_taps(x_staged.pitch, x_staged.phase_size);
  const Index dout_size = divide_up(dout_staged.size(), vector) * vector;
  TapList* lists = list_piece.in(axis_scratch.data());
  g.list<L>(s, dout_staged.pitch, dout_size, lists, indices + Depthwise<T, L>::indices(s));

  // The sums' parts depend on the shape alone; without sums every band may go its own way.
  const Index blocks = s.N * bands, most_parts = sums ? std::max<Index>(1, 24 / d.tasks) : blocks;
  const Index per_part = divide_up(blocks, most_parts), parts = divide_up(blocks, per_part);
  const int threads = threads_for(depthwise_work(s) * ((dx != nullptr) + sums));
  const Index weight_size = (multiplier * d.taps + 1) * vector, sum_size = L::sum_parts * values * vector;
  Layout layout;
  const auto x_place_piece = layout.array<Index>(L::Staged::places(x_staged.rows, s.W));
  const auto dout_place_piece = layout.array<Index>(L::Staged::places(dout_staged.rows, s.OW));
  const auto x_piece = layout.per_thread<T>(threads, sums ? x_staged.size() : 0);
  const auto dout_piece = layout.per_thread<T>(threads, checked_product(multiplier, dout_size));
  const auto dx_piece =
      layout.per_thread<T>(threads, dx != nullptr ? checked_product(most.dx * phases, dx_pitch) : 0);
  const auto weight_piece = layout.per_thread<T>(threads, dx != nullptr ? d.per_task * weight_size : 0);
  const auto sum_piece = layout.per_thread<T>(threads, sums ? d.per_task * multiplier * sum_size : 0);
  const auto total_piece = layout.array<double>(sums ? parts * s.F * values : 0);
  const Scratch scratch(layout.bytes());
  double* totals = total_piece.in(scratch.data());
  x_staged.set_places(x_place_piece.in(scratch.data()));
  dout_staged.set_places(dout_place_piece.in(scratch.data()));
  for (int slot = 0; slot < threads; ++slot) {
    if (sums) std::fill_n(x_piece.of(scratch.data(), slot), x_staged.size(), T(0));
    std::fill_n(dout_piece.of(scratch.data(), slot), multiplier * dout_size, T(0));
  }
  if (sums) std::fill_n(totals, parts * s.F * values, 0.0);

  parallel_for(parts * d.tasks, threads, [&](Index task, int slot) {
    const Index part = task / d.tasks, first_group = task % d.tasks * d.per_task;
    const Index last_group = std::min(first_group + d.per_task, d.groups);
    T* rows_x = x_piece.of(scratch.data(), slot) + x_staged.margin;
    T* rows_dout = dout_piece.of(scratch.data(), slot) + dout_staged.margin;
    T* rows_dx = dx_piece.of(scratch.data(), slot);
    T* weights = weight_piece.of(scratch.data(), slot);
    T* part_sums = sum_piece.of(scratch.data(), slot);
    if (sums) std::fill_n(part_sums, d.per_task * multiplier * sum_size, T(0));
    for (Index group = first_group; dx != nullptr && group < last_group; ++group) {
      T* to = weights + (group - first_group) * weight_size;
      d.spread_bias(bias, 1, group, to);
      to += vector;
      for (const TapList* list = lists; list < lists + g.lists(); to += list++->count * vector)
        d.spread(w, multiplier * d.taps, list->weight, list->count, group, to);
    }

    const auto input_rows = [&](const GradientBand& band, const T* weight) {
      const T* start = weight;
      weight += vector;
      const TapList* list = lists;
      for (Index ph = 0; ph < g.row_phases; ++ph) {
        const Index first = std::max<Index>(0, divide_up(band.dx_first - ph, s.stride_h));
        const Index rows = divide_up(band.dx_last - ph, s.stride_h) - first;
        const T* from = rows_dout + (first - band.dout_first) * dout_staged.pitch;
        T* to = rows_dx + (first * s.stride_h + ph - band.dx_first) * phases * dx_pitch;
        for (Index pw = 0; pw < g.column_phases; weight += list++->count * vector, ++pw)
          if (rows > 0)
            L::sum(*list, weight, start, false, rows, divide_up(s.W - pw, s.stride_w), from,
                   dout_staged.pitch, 1, to + pw * (L::split_columns ? dx_pitch : L::column),
                   s.stride_h * phases * dx_pitch, s.stride_w);
      }
    };

    Index run = 0;
    const Index last = std::min((part + 1) * per_part, blocks);
    for (Index block = part * per_part; block < last; ++block) {
      const Index n = block / bands, plane = s.OH * s.OW;
      const GradientBand band(s, block % bands, bands, dx != nullptr);
      run += band.out_rows() * L::pitch(s.OW) / vector;
      const bool close = run > short_run || block == last - 1;
      if (close) run = 0;
      for (Index group = first_group; group < last_group; ++group) {
        const Index channel = n * s.C + group * L::channels, planes = d.planes(group);
        for (Index f = 0; f < multiplier; ++f)
          dout_staged.stage(dout + (channel * multiplier + f) * plane, dout + s.N * s.F * plane, planes,
                            multiplier * plane, band.dout_first, band.dout_rows(), rows_dout + f * dout_size);
        if (dx != nullptr) {
          input_rows(band, weights + (group - first_group) * weight_size);
          L::unstage(rows_dx, dx_pitch, phases, band.dx_rows(), s.W, planes, s.H * s.W,
                     dx + (channel * s.H + band.dx_first) * s.W);
        }
        if (!sums) continue;
        x_staged.stage(x + channel * s.H * s.W, x + s.N * s.C * s.H * s.W, planes, s.H * s.W,
                       band.out_first * s.stride_h - s.pad_top, d.x_rows(band.out_rows()), rows_x);
        for (Index f = 0; f < multiplier; ++f) {
          T* sum = part_sums + ((group - first_group) * multiplier + f) * sum_size;
          L::add(d.x_taps, band.out_rows(), s.OW,
                 rows_dout + f * dout_size + (band.out_first - band.dout_first) * dout_staged.pitch,
                 dout_staged.pitch, rows_x, s.stride_h * x_staged.pitch, d.column_step, sum);
          if (!close) continue;
          L::close(sum, values, s.OW, planes, multiplier * values,
                   totals + (part * s.F + group * L::channels * multiplier + f) * values);
          std::fill_n(sum, sum_size, T(0));
        }
      }
    }
  });

  if (!sums) return;
  for (Index f = 0; f < s.F; ++f) {
    double* total = totals + f * values;
    for (Index part = 1; part < parts; ++part)
      for (Index t = 0; t < values; ++t) total[t] += total[part * s.F * values + t];
    if (dw != nullptr)
      for (Index t = 0; t < d.taps; ++t) dw[f * d.taps + d.x_taps.weight[t]] = T(total[t]);
    if (db != nullptr) db[f] = T(total[d.taps]);
  }
}

}  // namespace cnnlib::CNNLIB_ISA
