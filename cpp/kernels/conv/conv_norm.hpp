// Convolution, batch norm and ReLU in a row. The batch is cut into slices, each of which a thread takes
// through the convolution and batch norm's sums, or through batch norm's gradient and the convolution's,
// while it lies in that thread's cache.
#pragma once

#include "kernels.hpp"
#include "kernels/conv/conv.hpp"
#include "kernels/norm/batch_norm.hpp"

namespace cnnlib::CNNLIB_ISA {

// A single slice where they do not pay. They depend on the shape alone, since their parts of dw are added up;
// large weights would have to be packed and added for each.
template <class T>
BatchSlices choose_slices(const ConvShape& s) {
  constexpr Index fewest = 16;
  constexpr double smallest_batch = 8 << 20, largest_slice = 1 << 20, most_weights = 256 << 10;
  const double batch = double(s.N) * std::max(s.C * s.H * s.W, s.F * s.OH * s.OW) * sizeof(T);
  const double weights = double(s.F) * (s.C / s.groups) * s.KH * s.KW * sizeof(T);
  if (s.OH * s.OW == 1 || batch < smallest_batch || weights > most_weights || s.N < fewest) return {s.N, 1};
  const Index rounds = Index(batch / (fewest * largest_slice)) + 1;
  return {s.N, std::min(fewest * rounds, s.N)};
}

// With the batch's own statistics.
template <class T>
void conv_bn_relu_train(const ConvNormTraining<T>& c, const ConvShape& s) {
  const auto slices = choose_slices<T>(s);
  const BatchNormShape n{s.N, s.F, s.OH * s.OW};
  if (slices.count == 1) {
    conv_forward<T>(c.x, c.w, c.b, c.a, s, false);
    return batchnorm_train(c.a, c.gamma, c.beta, c.eps, c.y, c.mean, c.var, c.inv_std, n, true);
  }
  Layout layout;
  const auto piece = layout.array<Deviations>(slices.count * s.F);
  const Scratch scratch(layout.bytes());
  Deviations* parts = piece.in(scratch.data());
  std::fill_n(parts, slices.count * s.F, Deviations{});
  slices.each(s, conv_work(s), [&](Index slice, Index first, const ConvShape& part) {
    T* a = c.a + first * n.C * n.S;
    conv_forward<T>(c.x + first * s.C * s.H * s.W, c.w, c.b, a, part, false);
    add_deviations<T>(a, {part.N, n.C, n.S}, parts + slice * s.F);
  });
  plane_moments(s.F, c.mean, c.var, [&](Deviations* total) {
    for (Index i = 0; i < slices.count * s.F; ++i) total[i % s.F].add(parts[i]);
  });
  normalize_batch<T>(c.a, c.gamma, c.beta, c.eps, c.y, c.mean, c.var, c.inv_std, n, true);
}

// total = the sum of `count` parts that lie one after the other, in this order; `total` may be null.
template <class T>
void add_parts(const T* parts, Index count, Index size, T* total) {
  if (total == nullptr) return;
  std::copy_n(parts, size, total);
  for (Index i = 1; i < count; ++i) add_to(total, parts + i * size, size);
}

// dx, dw and db may be null: not wanted. c.a is the convolution's output.
template <class T>
void conv_bn_relu_backward(const ConvNormGradients<T>& c, const ConvShape& s) {
  const auto slices = choose_slices<T>(s);
  const BatchNormShape n{s.N, s.F, s.OH * s.OW};
  const Index weights = s.F * (s.C / s.groups) * s.KH * s.KW, parts = slices.count > 1 ? slices.count : 0;
  Layout layout;
  const auto gradient_piece = layout.array<NormGradient<T>>(s.F);
  const auto dw_piece = layout.array<T>(c.dw != nullptr ? parts * weights : 0);
  const auto db_piece = layout.array<T>(c.db != nullptr ? parts * s.F : 0);
  const auto da_piece = layout.array<T>(slices.count == 1 ? checked_product(s.N * s.F, n.S) : 0);
  const Scratch scratch(layout.bytes());
  if (slices.count == 1) {
    T* da = da_piece.in(scratch.data());
    batchnorm_backward(c.dout, c.a, c.mean, c.inv_std, c.gamma, c.beta, da, c.dgamma, c.dbeta, n,
                       c.from_batch);
    return conv_backward<T>(c.x, c.w, da, nullptr, c.dx, c.dw, c.db, s);
  }
  auto* gradient = gradient_piece.in(scratch.data());
  T *dw = dw_piece.in(scratch.data()), *db = db_piece.in(scratch.data());
  with_through(c.mean, c.inv_std, c.gamma, c.beta, s.F, [&](const auto& through) {
    plane_sums(c.dout, c.a, c.mean, c.inv_std, c.gamma, c.dgamma, c.dbeta, n, c.from_batch, through,
               gradient);
    slices.each(s, 2 * conv_work(s), [&](Index slice, Index first, const ConvShape& part) {
      Layout own;
      const auto piece = own.array<T>(slices.most_images() * n.C * n.S);
      const Scratch own_scratch(own.bytes());
      T* da = piece.in(own_scratch.data());
      plane_input_gradient<T>(c.dout + first * n.C * n.S, c.a + first * n.C * n.S, gradient, da,
                              {part.N, n.C, n.S}, through);
      conv_backward<T>(c.x + first * s.C * s.H * s.W, c.w, da, nullptr,
                       c.dx != nullptr ? c.dx + first * s.C * s.H * s.W : nullptr,
                       c.dw != nullptr ? dw + slice * weights : nullptr,
                       c.db != nullptr ? db + slice * s.F : nullptr, part);
    });
  });
  add_parts(dw, parts, weights, c.dw);
  add_parts(db, parts, s.F, c.db);
}

}  // namespace cnnlib::CNNLIB_ISA
