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
inline ConvRequest request_of_row(const ConvRequest& r) {
  const ConvShape& s = r.shape;
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
  return {row, r.wish == Method::direct ? Method::direct : Method::automatic, r.weights};
}

template <class T>
double cost_single_row(const ConvRequest& r, Pass pass) {
  const ConvShape& s = r.shape;
  const double row = choose_method<T>(request_of_row(r), pass).cycles * Rates::set.fmas_per_cycle;
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

// Images and filters of a batch, transposed where that has to be.
template <class T>
struct TurnedArrays {
  ConvShape s;
  bool turned = is_turned(s);
  Index channels = s.C / s.groups, image_size = checked_product(s.N * s.C, s.H* s.W),
        filter_size = checked_product(s.F * channels, s.KH* s.KW);

  const T* turn_images(const T* x, T* to) const { return transpose_planes(x, s.N * s.C, s.H, s.W, to); }
  const T* turn_filters(const T* w, T* to) const {
    return transpose_planes(w, s.F * channels, s.KH, s.W, to);
  }
  ConvExplanation explain(const ConvExplanation& row, Index row_channels) const {
    ConvExplanation to{};
    const Index copies = turned ? image_size + filter_size : 0;
    fill_in(to, {row.tile_rows, row.tile_columns}, row.threads, {{"channels of a row", row_channels}});
    to.packed_bytes = row.packed_bytes;
    to.scratch_bytes = row.scratch_bytes + static_cast<std::size_t>(copies) * sizeof(T);
    return to;
  }
};

// The forward pass, or dx.
template <class T>
class SingleRowPlan final : public ConvPlan<T> {
 public:
  explicit SingleRowPlan(const ConvChoice& choice)
      : ConvPlan<T>(choice), row(make_plan<T>(request_of_row(choice.request), choice.pass)) {}

  void pack(const T* w, T* packed) const override {
    const TurnedArrays<T> a = arrays(1);
    const ScratchArray<T> memory(a.turned ? a.filter_size : 0);
    row->pack(a.turned ? a.turn_filters(w, memory.data()) : w, packed);
  }

  void run(const ConvOperands<T>& o) const override {
    const TurnedArrays<T> a = arrays(o.N);
    const bool dx = this->choice.pass == Pass::input_gradient,
               turns_filters = a.turned && o.packed == nullptr;
    const Index row_channels = row->choice.request.shape.C, rows = row_channels / a.s.C;
    const ScratchArray<T> images(a.turned ? a.image_size : 0), filters(turns_filters ? a.filter_size : 0),
        bias(dx ? row_channels : 0);
    ConvOperands<T> of_row = o;
    if (turns_filters) of_row.w = a.turn_filters(o.w, filters.data());
    if (a.turned && dx) of_row.out = images.data();
    if (a.turned && !dx) of_row.in = a.turn_images(o.in, images.data());
    if (dx && o.epilogue.bias != nullptr) {  // of a channel, for each of its rows
      for (Index c = 0; c < a.s.C; ++c) std::fill_n(bias.data() + c * rows, rows, o.epilogue.bias[c]);
      of_row.epilogue.bias = bias.data();
    }
    row->run(of_row);
    if (a.turned && dx) transpose_planes<T>(of_row.out, a.s.N * a.s.C, a.s.W, a.s.H, o.out);
  }

  [[gnu::cold]] ConvExplanation explain(Index N) const override {
    return arrays(N).explain(row->explain(N), row->choice.request.shape.C);
  }

 private:
  TurnedArrays<T> arrays(Index N) const { return {with_images(this->choice.request.shape, N)}; }

  OwnedPlan<T> row;
};

template <class T>
class SingleRowGradientPlan final : public GradientPlan<T> {
 public:
  explicit SingleRowGradientPlan(const ConvChoice& choice)
      : GradientPlan<T>(choice),
        a{choice.request.shape},
        row(make_gradient_plan<T>(request_of_row(choice.request))) {}

  void run(const GradientOperands<T>& o) const override {
    if (!a.turned) return row->run(o);
    const ScratchArray<T> images(a.image_size), filters(a.filter_size);
    GradientOperands<T> of_row = o;
    if (o.dw != nullptr) {
      of_row.x = a.turn_images(o.x, images.data());
      of_row.dw = filters.data();
    }
    row->run(of_row);
    if (o.dw != nullptr) transpose_planes<T>(of_row.dw, a.s.F * a.channels, a.s.W, a.s.KH, o.dw);
  }

  [[gnu::cold]] ConvExplanation explain() const override {
    return a.explain(row->explain(), row->choice.request.shape.C);
  }

 private:
  TurnedArrays<T> a;
  OwnedGradientPlan<T> row;
};

template <class T>
OwnedPlan<T> single_row(const ConvChoice& choice) {
  return OwnedPlan<T>(new SingleRowPlan<T>(choice));
}
template <class T>
OwnedGradientPlan<T> single_row_gradient(const ConvChoice& choice) {
  return OwnedGradientPlan<T>(new SingleRowGradientPlan<T>(choice));
}

}  // namespace cnnlib::CNNLIB_ISA
