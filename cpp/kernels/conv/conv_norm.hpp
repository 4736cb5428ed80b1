// Convolution, batch norm and ReLU in a row. In the backward pass the batch is cut into slices, each of which
// a thread takes through batch norm's gradient and the convolution's while it lies in that thread's cache.
#pragma once

#include "kernels.hpp"
#include "kernels/conv/conv.hpp"
#include "kernels/norm/batch_norm.hpp"
#include "kernels/partial_sums.hpp"

namespace cnnlib::CNNLIB_ISA {

// Scalar multiply-adds of a pass, in the unit of threads_for.
inline double conv_work(const ConvShape& s) {
  return 2.0 / 16 * double(s.N * s.F) * double(s.C / s.groups * s.KH * s.KW) * double(s.OH * s.OW);
}

// A batch in slices that a thread takes through several steps, and these in parts, each of which adds up what
// becomes of its slices, in their order. Both depend on the shape alone; a single slice where they do not
// pay.
template <class T>
struct NormSlices {
  static constexpr Index fewest = 16, most_parts = 64;
  ConvShape s;
  Index count = 1, parts = 1;

  explicit NormSlices(const ConvShape& shape) : s(shape) {
    constexpr double smallest_batch = 8 << 20, largest_slice = 1 << 20, most_weights = 256 << 10;
    const double batch = double(s.N) * std::max(s.C * s.H * s.W, s.F * s.OH * s.OW) * sizeof(T);
    // Large weights would have to be packed for each slice, and added up.
    const double weights = double(weight_count()) * sizeof(T);
    if (s.OH * s.OW == 1 || batch < smallest_batch || weights > most_weights || s.N < fewest) return;
    count = std::min(fewest * (Index(batch / (fewest * largest_slice)) + 1), s.N);
    parts = std::min(count, most_parts);
  }

  Index weight_count() const { return s.F * (s.C / s.groups) * s.KH * s.KW; }
  Index first_image(Index slice) const { return s.N * slice / count; }
  Index most_images() const { return ceil_div(s.N, count); }
  int threads(double work) const { return int(std::min<Index>(parts, threads_for(work))); }

  // body(part, first image, shape of the slice, whether it is the part's first one), a part on one thread.
  template <class Body>
  void each(double work, const Body& body) const {
    each_on_its_own(parts, threads(work), [&](Index part) {
      const Index begin = count * part / parts;
      for (Index slice = begin; slice < count * (part + 1) / parts; ++slice) {
        ConvShape images = s;
        images.N = first_image(slice + 1) - first_image(slice);
        body(part, first_image(slice), images, slice == begin);
      }
    });
  }
};

// With the batch's own statistics.
template <class T>
void conv_bn_relu_train(const ConvNormTraining<T>& c, const ConvShape& s) {
  conv_forward<T>(c.x, c.w, c.b, c.a, s, false);
  batchnorm_train(c.a, c.gamma, c.beta, c.eps, c.y, c.mean, c.var, c.inv_std, {s.N, s.F, s.OH * s.OW}, true);
}

// A gradient of the weights or the bias: the sum of a part's slices, the first of which is computed in place,
// the others in a thread's scratch.
template <class T>
struct PartSums {
  T* sums;  // null: not wanted
  T* own;
  Index size;
  T* target(Index part, bool first) const {
    return sums == nullptr ? nullptr : first ? sums + part * size : own;
  }
  void add(Index part, bool first) const {
    if (sums != nullptr && !first) add_to(sums + part * size, own, size);
  }
};

// Scratch of the backward pass in slices: for all of them, and for one.
template <class T>
struct NormGradientMemory {
  Layout all, slice;
  Reserved<NormGradient<T>> gradient;
  Reserved<T> dw, db, da, own_dw, own_db;

  NormGradientMemory(const NormSlices<T>& slices, bool want_dw, bool want_db) {
    const ConvShape& s = slices.s;
    const Index weights = want_dw ? slices.weight_count() : 0, filters = want_db ? s.F : 0;
    gradient = all.array<NormGradient<T>>(s.F);
    dw = all.array<T>(slices.parts * weights);
    db = all.array<T>(slices.parts * filters);
    da = slice.array<T>(checked_product(slices.most_images() * s.F, s.OH * s.OW));
    own_dw = slice.array<T>(weights);
    own_db = slice.array<T>(filters);
  }
};

// What all threads take beside the arrays, in the forward pass and in the backward pass.
template <class T>
ConvNormScratch conv_bn_relu_scratch(const ConvShape& s) {
  const NormSlices<T> slices(s);
  const NormGradientMemory<T> memory(slices, true, true);
  const ChannelParts norm({s.N, s.F, s.OH * s.OW});
  Layout layout;
  layout.array<Deviations>((norm.parts + 1) * s.F);  // and their totals
  const std::size_t sums = layout.bytes(), forward = std::max(conv_scratch_bytes<T>(s, Pass::forward), sums);
  if (slices.count == 1)
    return {forward, memory.slice.bytes() + std::max(gradient_scratch_bytes<T>(s), sums)};
  const auto threads = std::size_t(slices.threads(2 * conv_work(s)));
  const SingleThread scope;
  ConvShape images = s;
  images.N = slices.most_images();
  const std::size_t slice = memory.slice.bytes() + gradient_scratch_bytes<T>(images);
  return {forward, memory.all.bytes() + std::max(sums, threads * slice)};
}

// dx, dw and db may be null: not wanted. c.a is the convolution's output.
template <class T>
void conv_bn_relu_backward(const ConvNormGradients<T>& c, const ConvShape& s) {
  const NormSlices<T> slices(s);
  const BatchNormShape n{s.N, s.F, s.OH * s.OW};
  const NormGradientMemory<T> memory(slices, c.dw != nullptr, c.db != nullptr);
  if (slices.count == 1) {
    const Scratch scratch(memory.slice.bytes());
    T* da = memory.da.in(scratch.data());
    batchnorm_backward(c.dout, c.a, c.mean, c.inv_std, c.gamma, c.beta, da, c.dgamma, c.dbeta, n,
                       c.from_batch);
    return conv_backward<T>(c.x, c.w, da, nullptr, c.dx, c.dw, c.db, s);
  }
  const Scratch scratch(memory.all.bytes());
  auto* gradient = memory.gradient.in(scratch.data());
  T *dw = memory.dw.in(scratch.data()), *db = memory.db.in(scratch.data());
  with_through(c.mean, c.inv_std, c.gamma, c.beta, s.F, [&](const auto& through) {
    plane_sums(c.dout, c.a, c.mean, c.inv_std, c.gamma, c.dgamma, c.dbeta, n, c.from_batch, through,
               gradient);
    slices.each(2 * conv_work(s), [&](Index part, Index first, const ConvShape& images, bool is_first) {
      const Scratch own(memory.slice.bytes());
      T* da = memory.da.in(own.data());
      const PartSums<T> weights{c.dw != nullptr ? dw : nullptr, memory.own_dw.in(own.data()),
                                slices.weight_count()};
      const PartSums<T> bias{c.db != nullptr ? db : nullptr, memory.own_db.in(own.data()), s.F};
      plane_input_gradient<T>(c.dout + first * n.C * n.S, c.a + first * n.C * n.S, gradient, da,
                              {images.N, n.C, n.S}, through);
      conv_backward<T>(c.x + first * s.C * s.H * s.W, c.w, da, nullptr,
                       c.dx != nullptr ? c.dx + first * s.C * s.H * s.W : nullptr,
                       weights.target(part, is_first), bias.target(part, is_first), images);
      weights.add(part, is_first);
      bias.add(part, is_first);
    });
  });
  if (c.dw != nullptr) sum_parts(dw, slices.parts, slices.weight_count(), c.dw);
  if (c.db != nullptr) sum_parts(db, slices.parts, s.F, c.db);
}

}  // namespace cnnlib::CNNLIB_ISA
