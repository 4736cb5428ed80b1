// Any kernel as a 1x1 one, whose channels are the taps of the windows, gathered some images at a time
// (im2col); dx adds up what the taps of a position receive (col2im).
//
//   x (N, C, H, W)     points (N, C * KH * KW, OH, OW), zero outside the image
//   w (F, C, KH, KW)   as it lies (F, C * KH * KW, 1, 1)
#pragma once

#include "kernels/conv/plan.hpp"
#include "kernels/conv/staging.hpp"
#include "kernels/simd/loops.hpp"
#include "kernels/simd/sums.hpp"
#include "kernels/simd/transpose.hpp"
#include "threads/parallel.hpp"

namespace cnnlib::CNNLIB_ISA {

// The convolution of the points. Throws std::bad_alloc where no memory holds an image's points: the costs
// count them.
inline ConvShape shape_of_points(ConvShape s) {
  s.C = checked_product(s.C, s.KH * s.KW);
  checked_product(s.C, checked_product(s.OH * s.OW, sizeof(double)));
  s.H = s.OH;
  s.W = s.OW;
  s.KH = s.KW = s.stride_h = s.stride_w = s.dilation_h = s.dilation_w = 1;
  s.pad_top = s.pad_left = 0;
  return s;
}

template <class T>
double cost_gathered(const ConvShape& s, Pass pass) {
  const bool dx = pass == Pass::input_gradient;
  const ConvShape points = shape_of_points(s);
  const double rows = double(points.C * s.OH), image = double(s.C * s.H * ceil_div(s.W, Simd<T>::size));
  const double rate = dx ? Rates::spread_points(s.stride_w) : Rates::points;
  return choose_method<T>(points, pass).cycles * Rates::fmas_per_cycle +
         rows * (rate * double(s.OW) / Simd<T>::size + Rates::point_row) +
         (dx ? Rates::spread_image * image : 0);
}

// Between images and their points.
template <class T>
class Windows {
  using S = Simd<T>;

 public:
  // Outputs [first, last) of a row of them read from inside the image by column b of a kernel; in dx these
  // are positions from `at` on of the image's columns that are congruent modulo the stride.
  struct Column {
    Index first, last, at;
  };

  explicit Windows(const ConvShape& shape) : s(shape) {}

  void list(Column* columns) const {
    for (Index b = 0; b < s.KW; ++b) {
      const Index start = b * s.dilation_w - s.pad_left;
      const Inside inside(start, s.stride_w, s.W, s.OW);
      const Index position = inside.first < inside.last ? start + inside.first * s.stride_w : 0;
      columns[b] = {inside.first, inside.last, position % s.stride_w * phase_pitch + position / s.stride_w};
    }
  }

  // Of `planes` channels of images, to points[plane][a][b][i][j].
  void gather(const T* x, Index planes, const Column* columns, T* points) const {
    const T* end = x + planes * s.H * s.W;
    parallel_for(planes, threads_for(3.0 * double(planes) * double(plane_size)), [&](Index plane, int) {
      T* to = points + plane * plane_size;
      for (Index a = 0; a < s.KH; ++a, to += s.KW * positions)
        for (Index i = 0; i < s.OH; ++i) {
          const Index line = i * s.stride_h + a * s.dilation_h - s.pad_top;
          const bool outside = line < 0 || line >= s.H;
          gather_row(outside ? nullptr : x + (plane * s.H + line) * s.W, end, columns, to + i * s.OW);
        }
    });
  }

  // Room that a thread needs to spread points.
  Index line_size() const { return s.stride_w > 1 ? phases * phase_pitch : 0; }

  // The opposite, added up on top of the bias (C,), or zero where it is null.
  int spread_threads(Index planes) const {
    return threads_for(3.0 * double(planes) * double(plane_size + s.H * s.W));
  }
  template <class Lines>
  void spread(const T* points, const T* bias, Index planes, const Column* columns, const Lines& lines,
              T* x) const {
    parallel_for(planes, spread_threads(planes), [&](Index plane, int slot) {
      const T *from = points + plane * plane_size, background = bias != nullptr ? bias[plane % s.C] : T(0);
      T* to = x + plane * s.H * s.W;
      for (Index h = 0; h < s.H; ++h, to += s.W) {
        T* line = alternates || s.stride_w == 1 ? to : lines[slot];
        if (!alternates) fill_vectors(line, line == to ? s.W : line_size(), background);
        bool reached = false;
        for (Index a = 0; a < s.KH; ++a) {
          const Index down = h + s.pad_top - a * s.dilation_h;
          const Index row = s.stride_h == 1 ? down : down / s.stride_h;
          if (down < 0 || row * s.stride_h != down || row >= s.OH) continue;
          const T* terms = from + a * s.KW * positions + row * s.OW;
          alternates ? alternate(terms, background, columns, to) : add_row(terms, columns, line);
          reached = true;
        }
        if (alternates && !reached) fill_vectors(to, s.W, background);
        if (line != to) join_phases(line, to);
      }
    });
  }

 private:
  // `row` null: outside the image.
  void gather_row(const T* row, const T* end, const Column* columns, T* to) const {
    if (row != nullptr && transposes) return transpose(row, s.stride_w, s.OW, s.KW, to, positions);
    for (Index b = 0; b < s.KW; ++b, to += positions) {
      const Index first = row != nullptr ? columns[b].first : s.OW,
                  last = row != nullptr ? columns[b].last : s.OW;
      std::fill_n(to, first, T(0));
      std::fill_n(to + last, s.OW - last, T(0));
      if (first == last) continue;
      const T* from = row + b * s.dilation_w - s.pad_left + first * s.stride_w;
      if (s.stride_w == 1)
        std::copy_n(from, last - first, to + first);
      else
        copy_strided(from, last - first, s.stride_w, end, to + first);
    }
  }

  void add_row(const T* from, const Column* columns, T* line) const {
    for (Index b = 0; b < s.KW; ++b, from += positions)
      add_to(line + columns[b].at, from + columns[b].first, columns[b].last - columns[b].first);
  }

  // A row of windows of one or two columns, at stride 2.
  void alternate(const T* from, T background, const Column* columns, T* to) const {
    const auto none = S::fill(background);
    const Index even = columns[0].last, odd = s.KW == 2 ? columns[1].last : 0;
    Index j = 0;
    for (; j + S::size <= (s.KW == 2 ? odd : even) && 2 * (j + S::size) <= s.W; j += S::size)
      S::store_pairs(to + 2 * j, S::add(S::load(from + j), none),
                     s.KW == 2 ? S::add(S::load(from + positions + j), none) : none);
    std::fill(to + 2 * j, to + s.W, background);
    for (Index k = j; k < even; ++k) to[2 * k] += from[k];
    for (Index k = j; k < odd; ++k) to[2 * k + 1] += from[positions + k];
  }

  // Columns of each phase modulo the stride, one after the other, to a row of the image.
  void join_phases(const T* line, T* to) const {
    const Index whole = s.W / s.stride_w;
    Index q = 0;
    if (s.stride_w == 2)
      for (; q + S::size <= whole; q += S::size)
        S::store_pairs(to + 2 * q, S::load(line + q), S::load(line + phase_pitch + q));
    transpose(line + q, phase_pitch, phases, whole - q, to + q * s.stride_w, s.stride_w);
    for (Index phase = 0; whole * s.stride_w + phase < s.W; ++phase)
      to[whole * s.stride_w + phase] = line[phase * phase_pitch + whole];
  }

  const ConvShape& s;
  Index positions = s.OH * s.OW, plane_size = s.KH * s.KW * positions;
  Index phases = std::min(s.stride_w, s.W), phase_pitch = round_up(ceil_div(s.W, s.stride_w), S::size);
  // Windows side by side: columns of a row of them change places with those of the kernel.
  bool transposes =
      s.KW >= S::size && s.dilation_w == 1 && s.pad_left == 0 && (s.OW - 1) * s.stride_w + s.KW <= s.W;
  // No two windows, at stride 2, that share a position.
  bool alternates = s.stride_w == 2 && s.KW <= 2 && s.dilation_w == 1 && s.pad_left == 0 &&
                    s.KH <= s.stride_h && (s.KH == 1 || s.dilation_h == 1);
};

template <class T>
class Gathered {
  using Column = typename Windows<T>::Column;

 public:
  explicit Gathered(const ConvPlan& whole) : plan(whole), s(whole.shape) {}

  void describe(ConvPlan& to) const {
    const ConvPlan inner = describe_conv<T>(plan_of_points(images));
    to.packed_bytes = inner.packed_bytes;
    to.scratch_bytes = bytes_of<Memory>(*this) + inner.scratch_bytes;
    fill_in(to, {inner.tile_rows, inner.tile_columns}, inner.threads, {{"images", images}});
  }

  void pack(const T* w, T* packed) const { pack_conv(plan_of_points(s.N), w, packed); }

  void run(const ConvOperands<T>& o) const {
    each_part([&](const ScratchOf<Memory>& scratch, Index n, Index count) {
      T* points = scratch->points.data();
      ConvOperands<T> inner = o;
      if (!is_dx) {
        gather(scratch, o.in, n, count);
        inner.in = points;
        inner.out = o.out + n * out_size;
        return run_conv(plan_of_points(count), inner);
      }
      inner.in = o.in + n * out_size;
      inner.out = points;
      inner.epilogue = {};
      run_conv(plan_of_points(count), inner);
      windows.spread(points, o.epilogue.bias, count * s.C, scratch->columns.data(), scratch->lines,
                     o.out + n * in_size);
    });
  }

  // dw, a sum over the parts.
  void run(const WeightGradientOperands<T>& o) const {
    if (o.dw == nullptr) return;
    each_part([&](const ScratchOf<Memory>& scratch, Index n, Index count) {
      gather(scratch, o.x, n, count);
      T* dw = n == 0 ? o.dw : scratch->dw.data();
      run_weight_gradient(
          plan_of_points(count),
          WeightGradientOperands<T>{scratch->points.data(), o.dout + n * out_size, dw, nullptr});
      if (n > 0) add_to(o.dw, dw, filters_size);
    });
  }

 private:
  struct Memory {
    const Gathered& m;
    Layout& layout;
    Reserved<T> points{layout, checked_product(m.images, m.size)};
    Reserved<Column> columns{layout, m.s.KW};
    ThreadReserved<T> lines{layout, m.windows.spread_threads(m.images * m.s.C),
                            m.is_dx ? m.windows.line_size() : 0};
    Reserved<T> dw{layout, m.plan.pass == Pass::weight_gradient && m.images < m.s.N ? m.filters_size : 0};
  };

  template <class Body>
  void each_part(const Body& body) const {
    const ScratchOf<Memory> scratch(*this);
    windows.list(scratch->columns.data());
    for (Index n = 0; n < s.N; n += images) body(scratch, n, std::min(images, s.N - n));
  }
  void gather(const ScratchOf<Memory>& scratch, const T* x, Index n, Index count) const {
    windows.gather(x + n * in_size, count * s.C, scratch->columns.data(), scratch->points.data());
  }
  ConvPlan plan_of_points(Index N) const {
    ConvShape points = shape_of_points(s);
    points.N = N;
    return plan_inner<T>(plan, points);
  }

  const ConvPlan& plan;
  const ConvShape& s;
  Windows<T> windows{s};
  bool is_dx = plan.pass == Pass::input_gradient;
  Index in_size = s.C * s.H * s.W, out_size = s.F * s.OH * s.OW;
  Index filters_size = s.F * (s.C / s.groups) * s.KH * s.KW;
  Index size = checked_product(shape_of_points(s).C, s.OH* s.OW);  // of an image's points
  Index images = std::clamp<Index>(most_gathered_bytes / Index(sizeof(T)) / size, 1, s.N);  // at a time
};

template <class T>
CorrelationSteps<T> gathered() {
  return {[](ConvPlan& plan) { Gathered<T>(plan).describe(plan); },
          [](const ConvPlan& plan, const T* w, T* packed) { Gathered<T>(plan).pack(w, packed); },
          [](const ConvPlan& plan, const ConvOperands<T>& o) { Gathered<T>(plan).run(o); }};
}
template <class T>
WeightGradientSteps<T> gathered_gradient() {
  return {[](ConvPlan& plan) { Gathered<T>(plan).describe(plan); },
          [](const ConvPlan& plan, const WeightGradientOperands<T>& o) { Gathered<T>(plan).run(o); }};
}

}  // namespace cnnlib::CNNLIB_ISA
