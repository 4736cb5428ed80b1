// Any kernel as a 1x1 one, whose channels are the taps of the windows, gathered some images at a time
// (im2col); dx adds up what the taps of a position receive (col2im).
//
//   x (N, C, H, W)     points (N, C * KH * KW, OH, OW), zero outside the image
//   w (F, C, KH, KW)   as it lies (F, C * KH * KW, 1, 1)
#pragma once

#include "kernels/conv/cuts.hpp"
#include "kernels/conv/plan.hpp"
#include "kernels/conv/reshaped/windows.hpp"
#include "kernels/simd/sums.hpp"

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
  const double bytes = rows * double(s.OW) * sizeof(T);
  // The forward pass reads the points once for each panel of filters.
  const bool far = pass == Pass::forward && bytes > Rates::near_points_bytes;
  const bool split = windows_side_by_side<T>(s) && (s.KW > 2 || bytes <= Rates::near_bytes);
  const double rate = split ? (far ? Rates::far_split_points : Rates::split_points)
                      : dx  ? Rates::spread_points(s.stride_w)
                            : Rates::points(windows_transposed<T>(s) ? 1 : s.stride_w);
  return choose_method<T>(points, pass).cycles * Rates::fmas_per_cycle +
         rows * (rate * double(s.OW) / Simd<T>::size +
                 (dx && !split && s.KW > 1 ? Rates::spread_row : Rates::point_row)) +
         (dx ? Rates::spread_image * image : 0);
}

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
  Index images = gathered_images<T>(s.N, size);                    // at a time
};

}  // namespace cnnlib::CNNLIB_ISA
