// The gradients of convolution, batch norm and ReLU in a row: batch norm's goes to the convolution a few
// images at a time, while it lies in the caches.
#pragma once

#include "batch_norm.hpp"
#include "conv.hpp"

namespace cnnlib::CNNLIB_ISA {

// The images of a slice. It depends on the shape alone, since the slices' parts of dw are added up; large
// weights would have to be packed and added for each.
template <class T>
Index images_of_slice(const ConvShape& s) {
  constexpr double smallest = 2 << 20, largest = 4 << 20, most_weights = 256 << 10;
  const double image = double(s.F) * s.OH * s.OW * sizeof(T), all = s.N * image;
  const double weights = double(s.F) * (s.C / s.groups) * s.KH * s.KW * sizeof(T);
  if (s.OH * s.OW == 1 || all < 2 * smallest || weights > most_weights) return s.N;
  return even_part(s.N, std::max<Index>(1, Index(std::clamp(all / 4, smallest, largest) / image)));
}

// dx, dw and db may be null: not wanted. c.a is the convolution's output.
template <class T>
void conv_bn_relu_backward(const ConvNormGradients<T>& c, const ConvShape& s) {
  const Index image = s.F * s.OH * s.OW, images = images_of_slice<T>(s);
  const Index weights = s.F * (s.C / s.groups) * s.KH * s.KW;
  const bool slices = images < s.N;
  Layout layout;
  const auto gradient_piece = layout.array<NormGradient<T>>(s.F);
  const auto da_piece = layout.array<T>(checked_product(images, image));
  const auto dw_piece = layout.array<T>(slices ? weights : 0);
  const auto db_piece = layout.array<T>(slices ? s.F : 0);
  const Scratch scratch(layout.bytes());
  T* da = da_piece.in(scratch.data());
  const BatchNormShape n{s.N, s.F, s.OH * s.OW};
  if (!slices) {
    batchnorm_backward(c.dout, c.a, c.mean, c.inv_std, c.gamma, c.beta, da, c.dgamma, c.dbeta, n,
                       c.from_batch);
    return conv_backward<T>(c.x, c.w, da, nullptr, c.dx, c.dw, c.db, s);
  }
  auto* gradient = gradient_piece.in(scratch.data());
  T *dw = dw_piece.in(scratch.data()), *db = db_piece.in(scratch.data());
  with_through(c.mean, c.inv_std, c.gamma, c.beta, s.F, [&](const auto& through) {
    plane_sums(c.dout, c.a, c.mean, c.inv_std, c.gamma, c.dgamma, c.dbeta, n, c.from_batch, through,
               gradient);
    for (Index first = 0; first < s.N; first += images) {
      ConvShape slice = s;
      slice.N = std::min(images, s.N - first);
      plane_input_gradient(c.dout + first * image, c.a + first * image, gradient, da, {slice.N, n.C, n.S},
                           through);
      T* slice_dx = c.dx != nullptr ? c.dx + first * s.C * s.H * s.W : nullptr;
      T* slice_dw = c.dw != nullptr && first > 0 ? dw : c.dw;
      T* slice_db = c.db != nullptr && first > 0 ? db : c.db;
      conv_backward<T>(c.x + first * s.C * s.H * s.W, c.w, da, nullptr, slice_dx, slice_dw, slice_db, slice);
      if (slice_dw != c.dw) add_to(c.dw, dw, weights);
      if (slice_db != c.db) add_to(c.db, db, s.F);
    }
  });
}

}  // namespace cnnlib::CNNLIB_ISA
