// Any kernel as a 1x1 one, whose channels are the taps of the windows, gathered some images at a time
// (im2col); dx adds up what the taps of a position receive (col2im).
//
//   x (N, C, H, W)     points (N, C * KH * KW, OH, OW), zero outside the image
//   w (F, C, KH, KW)   as it lies (F, C * KH * KW, 1, 1)
#pragma once

#include "kernels/conv/bias_gradient.hpp"
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

inline ConvRequest request_of_points(const ConvRequest& r) {
  return {shape_of_points(r.shape), r.wish, r.weights};
}

template <class T>
double cost_gathered(const ConvRequest& r, Pass pass) {
  const ConvShape& s = r.shape;
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
  return choose_method<T>(request_of_points(r), pass).cycles * Rates::set.fmas_per_cycle +
         rows * (rate * double(s.OW) / Simd<T>::size +
                 (dx && !split && s.KW > 1 ? Rates::spread_row : Rates::point_row)) +
         (dx ? Rates::spread_image * image : 0);
}

// Images [first, first + count) of a batch at a time, and their points.
template <class T>
class GatheredBatch {
  using Column = typename Windows<T>::Column;

 public:
  GatheredBatch(const ConvShape& shape, Pass which) : s(shape), pass(which) {}

  Index in_size() const { return s.C * s.H * s.W; }  // of an image
  Index out_size() const { return s.F * s.OH * s.OW; }
  Index filters_size() const { return s.F * (s.C / s.groups) * s.KH * s.KW; }

  struct Memory {
    const GatheredBatch& m;
    Layout& layout;
    bool dx = m.pass == Pass::input_gradient, dw = m.pass == Pass::weight_gradient;
    Reserved<T> points{layout, checked_product(m.images, m.size)};
    Reserved<Column> columns{layout, m.s.KW};
    ThreadReserved<T> lines{layout, m.windows.spread_threads(m.images * m.s.C),
                            dx ? m.windows.line_size() : 0};
    Reserved<T> dw_of_block{layout, dw && m.images < m.s.N ? m.filters_size() : 0};
  };
  // By the plan of the points of a block.
  ConvExplanation explain(const ConvExplanation& inner) const {
    ConvExplanation to{};
    to.packed_bytes = inner.packed_bytes;
    to.scratch_bytes = bytes_of<Memory>(*this) + inner.scratch_bytes;
    fill_in(to, {inner.tile_rows, inner.tile_columns}, inner.threads, {{"images", images}});
    return to;
  }

  // body(scratch, first, count) for each block of images.
  template <class Body>
  void each_block(const Body& body) const {
    const ScratchOf<Memory> scratch(*this);
    windows.list(scratch->columns.data());
    for (Index n = 0; n < s.N; n += images) body(scratch, n, std::min(images, s.N - n));
  }
  void gather(const ScratchOf<Memory>& scratch, const T* x, Index n, Index count) const {
    windows.gather(x + n * in_size(), count * s.C, scratch->columns.data(), scratch->points.data());
  }
  void spread(const ScratchOf<Memory>& scratch, const T* bias, Index n, Index count, T* dx) const {
    windows.spread(scratch->points.data(), bias, count * s.C, scratch->columns.data(), scratch->lines,
                   dx + n * in_size());
  }

 private:
  ConvShape s;
  Pass pass;
  Windows<T> windows{s};
  Index size = checked_product(shape_of_points(s).C, s.OH* s.OW);  // of an image's points

 public:
  const Index images = gathered_images<T>(s.N, size);  // of a block
};

// The forward pass, or dx.
template <class T>
class GatheredPlan final : public ConvPlan<T> {
 public:
  explicit GatheredPlan(const ConvChoice& choice)
      : ConvPlan<T>(choice), points(make_plan<T>(request_of_points(choice.request), choice.pass)) {}

  void pack(const T* w, T* packed) const override { points->pack(w, packed); }

  void run(const ConvOperands<T>& o) const override {
    const GatheredBatch<T> batch = batch_of(o.N);
    batch.each_block([&](const auto& scratch, Index n, Index count) {
      ConvOperands<T> inner = o;
      inner.N = count;
      if (this->choice.pass == Pass::forward) {
        batch.gather(scratch, o.in, n, count);
        inner.in = scratch->points.data();
        inner.out = o.out + n * batch.out_size();
        return points->run(inner);
      }
      inner.in = o.in + n * batch.out_size();
      inner.out = scratch->points.data();
      inner.epilogue = {};
      points->run(inner);
      batch.spread(scratch, o.epilogue.bias, n, count, o.out);
    });
  }

  [[gnu::cold]] ConvExplanation explain(Index N) const override {
    const GatheredBatch<T> batch = batch_of(N);
    return batch.explain(points->explain(batch.images));
  }

 private:
  GatheredBatch<T> batch_of(Index N) const {
    return {with_images(this->choice.request.shape, N), this->choice.pass};
  }

  OwnedPlan<T> points;
};

// dw, a sum over the blocks of images.
template <class T>
class GatheredGradientPlan final : public GradientPlan<T> {
 public:
  explicit GatheredGradientPlan(const ConvChoice& choice)
      : GradientPlan<T>(choice), batch(choice.request.shape, choice.pass), points(plan_of(batch.images)) {
    const Index rest = choice.request.shape.N % batch.images;
    if (rest > 0) rest_points = plan_of(rest);
  }

  void run(const GradientOperands<T>& o) const override {
    if (o.dw != nullptr) add_up(o);
    bias_gradient(this->choice.request.shape, o);
  }

  [[gnu::cold]] ConvExplanation explain() const override {
    ConvExplanation to = batch.explain(points->explain());
    to.scratch_bytes = std::max(to.scratch_bytes, bias_gradient_bytes(this->choice.request.shape));
    return to;
  }

 private:
  void add_up(const GradientOperands<T>& o) const {
    batch.each_block([&](const auto& scratch, Index n, Index count) {
      batch.gather(scratch, o.x, n, count);
      GradientOperands<T> inner{};
      inner.x = scratch->points.data();
      inner.dout = o.dout + n * batch.out_size();
      inner.dw = n == 0 ? o.dw : scratch->dw_of_block.data();
      (count < batch.images ? rest_points : points)->run(inner);
      if (n > 0) add_to(o.dw, inner.dw, batch.filters_size());
    });
  }

  OwnedGradientPlan<T> plan_of(Index images) const {
    ConvRequest request = request_of_points(this->choice.request);
    request.shape.N = images;
    return make_gradient_plan<T>(request);
  }

  GatheredBatch<T> batch;
  OwnedGradientPlan<T> points, rest_points;
};

template <class T>
OwnedPlan<T> gathered(const ConvChoice& choice) {
  return OwnedPlan<T>(new GatheredPlan<T>(choice));
}
template <class T>
OwnedGradientPlan<T> gathered_weight_gradient(const ConvChoice& choice) {
  return OwnedGradientPlan<T>(new GatheredGradientPlan<T>(choice));
}

}  // namespace cnnlib::CNNLIB_ISA
