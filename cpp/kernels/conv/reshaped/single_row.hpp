// A kernel as high or as wide as the image, as a convolution of a single row with more channels.
//
//   as high, as they lie   x (N, C, H, W) is (N, C * H, 1, W)
//                          w (F, C, H, KW) is (F, C * H, 1, KW)
//   as wide, transposed    x (N, C, H, W) becomes (N, C * W, 1, H)
//                          w (F, C, KH, W) becomes (F, C * W, 1, KH)
#pragma once

#include "kernels/conv/plan.hpp"
#include "kernels/simd/transpose.hpp"
#include "threads/parallel.hpp"

namespace cnnlib::CNNLIB_ISA {

// Whether images and filters have to be transposed.
inline bool is_turned(const ConvShape& s) { return !covers_rows(s); }

// The convolution of a single row.
inline ConvShape shape_of_row(const ConvShape& s) {
  ConvShape row = s;
  row.H = row.KH = row.OH = row.stride_h = row.dilation_h = 1;
  row.pad_top = 0;
  if (covers_rows(s)) row.C *= s.H;
  if (covers_columns(s)) row.C *= s.W;
  if (is_turned(s)) {
    row.W = s.H;
    row.KW = s.KH;
    row.OW = s.OH;
    row.stride_w = s.stride_h;
    row.dilation_w = s.dilation_h;
    row.pad_left = s.pad_top;
  } else if (covers_columns(s)) {
    row.W = row.KW = row.stride_w = row.dilation_w = 1;
  }
  if (s.algorithm != Method::direct) row.algorithm = Method::automatic;
  return row;
}

template <class T>
double cost_single_row(const ConvShape& s, Pass pass) {
  const double row = choose_method<T>(shape_of_row(s), pass).cycles * Rates::fmas_per_cycle;
  if (!is_turned(s)) return row;
  const GroupSizes<T> g(s);
  return row + Rates::stage_channels * double(s.C * g.vectors(s.H * s.W)) +
         Rates::pack * double(s.F * g.vectors(g.C * g.taps)) / Rates::reference_batch;
}

// to (count, cols, rows) = from (count, rows, cols), transposed. Returns it.
template <class T>
const T* transpose_planes(const T* from, Index count, Index rows, Index cols, T* to) {
  const Index plane = rows * cols;
  parallel_for(count, threads_for(3.0 * double(count) * double(plane)),
               [&](Index i, int) { transpose(from + i * plane, cols, rows, cols, to + i * plane, rows); });
  return to;
}

template <class T>
class SingleRow {
 public:
  explicit SingleRow(const ConvPlan& whole) : plan(whole), s(whole.shape) {}

  void describe(ConvPlan& to) const {
    const ConvPlan row = describe_conv<T>(row_plan);
    const Index copies = turned ? image_size + filter_size : 0;
    fill_in(to, {row.tile_rows, row.tile_columns}, row.threads, {{"channels of a row", row.shape.C}});
    to.packed_bytes = row.packed_bytes;
    to.scratch_bytes = row.scratch_bytes + static_cast<std::size_t>(copies) * sizeof(T);
  }

  void pack(const T* w, T* packed) const {
    const ScratchArray<T> memory(turned ? filter_size : 0);
    if (turned) w = transpose_planes(w, s.F * channels, s.KH, s.W, memory.data());
    pack_conv(row_plan, w, packed);
  }

  void run(const ConvOperands<T>& o) const {
    const bool dx = plan.pass == Pass::input_gradient, turns_filters = turned && o.packed == nullptr;
    const ScratchArray<T> images(turned ? image_size : 0), filters(turns_filters ? filter_size : 0),
        bias(dx ? row_plan.shape.C : 0);
    ConvOperands<T> row = o;
    if (turns_filters) row.w = transpose_planes(o.w, s.F * channels, s.KH, s.W, filters.data());
    if (turned && dx) row.out = images.data();
    if (turned && !dx) row.in = transpose_planes(o.in, s.N * s.C, s.H, s.W, images.data());
    if (dx && o.epilogue.bias != nullptr) {  // of a channel, for each of its rows
      const Index rows = row_plan.shape.C / s.C;
      for (Index c = 0; c < s.C; ++c) std::fill_n(bias.data() + c * rows, rows, o.epilogue.bias[c]);
      row.epilogue.bias = bias.data();
    }
    run_conv(row_plan, row);
    if (turned && dx) transpose_planes(row.out, s.N * s.C, s.W, s.H, o.out);
  }

  void run(const WeightGradientOperands<T>& o) const {
    if (!turned) return run_weight_gradient(row_plan, o);
    const ScratchArray<T> images(image_size), filters(filter_size);
    WeightGradientOperands<T> row = o;
    if (o.dw != nullptr) {
      row.x = transpose_planes(o.x, s.N * s.C, s.H, s.W, images.data());
      row.dw = filters.data();
    }
    run_weight_gradient(row_plan, row);
    if (o.dw != nullptr) transpose_planes(row.dw, s.F * channels, s.W, s.KH, o.dw);
  }

 private:
  const ConvPlan& plan;
  const ConvShape& s;
  ConvPlan row_plan = plan_inner<T>(plan, shape_of_row(s));
  bool turned = is_turned(s);
  Index channels = s.C / s.groups, image_size = checked_product(s.N * s.C, s.H* s.W),
        filter_size = checked_product(s.F * channels, s.KH* s.KW);
};

}  // namespace cnnlib::CNNLIB_ISA
