// Convolution, batch norm and ReLU in a row.
#pragma once

#include "kernels.hpp"
#include "kernels/conv/conv.hpp"
#include "kernels/norm/batch_norm.hpp"

namespace cnnlib::CNNLIB_ISA {

inline BatchNormShape norm_shape(const ConvShape& s) { return {s.N, s.F, s.OH * s.OW}; }

// With the batch's own statistics.
template <class T>
void conv_bn_relu_train(const ConvNormTraining<T>& c, const ConvShape& s) {
  conv_forward<T>(c.x, c.w, c.b, c.a, s, false);
  batchnorm_train(c.a, c.gamma, c.beta, c.eps, c.y, c.mean, c.var, c.inv_std, norm_shape(s), true);
}

// The backward pass, block by block of images, so that the gradient of the convolution's output takes no more
// memory for a larger batch.
template <class T>
class ConvNormBackward {
 public:
  ConvNormBackward(const ConvShape& shape, bool want_dw, bool want_db) : s(shape) {
    // A block packs the weights anew, and adds up gradients of their size.
    constexpr Index most_bytes = 8 << 20, most_weights = 16;
    const Index weights = s.F * (s.C / s.groups) * s.KH * s.KW;
    const Index most = std::max(most_bytes / Index(sizeof(T)), most_weights * weights);
    const Index image = s.F * s.OH * s.OW;
    // Gradients of images of one value, a column each, are made for the whole batch at once.
    if (s.N > 0 && image > s.F) images = even_part(s.N, std::max<Index>(1, most / image));
    const bool cut = images < s.N;
    dw_size = cut && want_dw ? weights : 0;
    db_size = cut && want_db ? s.F : 0;
    gradient = layout.array<NormGradient<T>>(cut ? s.F : 0);
    da = layout.array<T>(checked_product(images, image));
    dw = layout.array<T>(dw_size);
    db = layout.array<T>(db_size);
  }

  void run(const ConvNormGradients<T>& c) const {
    const Scratch scratch(layout.bytes());
    T* a_gradient = da.in(scratch.data());
    if (images >= s.N) {
      batchnorm_backward(c.dout, c.a, c.mean, c.inv_std, c.gamma, c.beta, a_gradient, c.dgamma, c.dbeta,
                         norm_shape(s), c.from_batch);
      return conv_backward<T>(c.x, c.w, a_gradient, nullptr, c.dx, c.dw, c.db, s);
    }
    auto* normed = gradient.in(scratch.data());
    with_through(c.mean, c.inv_std, c.gamma, c.beta, s.F, [&](const auto& through) {
      plane_sums(c.dout, c.a, c.mean, c.inv_std, c.gamma, c.dgamma, c.dbeta, norm_shape(s), c.from_batch,
                 through, normed);
      for (Index first = 0; first < s.N; first += images) {
        ConvShape block = s;
        block.N = std::min(images, s.N - first);
        const Index in = first * s.C * s.H * s.W, out = first * s.F * s.OH * s.OW;
        plane_input_gradient<T>(c.dout + out, c.a + out, normed, a_gradient, norm_shape(block), through);
        T *more_dw = first > 0 && c.dw != nullptr ? dw.in(scratch.data()) : c.dw,
          *more_db = first > 0 && c.db != nullptr ? db.in(scratch.data()) : c.db;
        conv_backward<T>(c.x + in, c.w, a_gradient, nullptr, c.dx != nullptr ? c.dx + in : nullptr, more_dw,
                         more_db, block);
        if (more_dw != c.dw) add(more_dw, dw_size, c.dw);
        if (more_db != c.db) add(more_db, db_size, c.db);
      }
    });
  }

  // What all threads take beside the arrays.
  std::size_t scratch_bytes() const {
    ConvShape block = s, rest = s;  // which may be planned otherwise, and take more
    block.N = std::min(images, s.N);
    rest.N = s.N > 0 ? s.N - (s.N - 1) / images * images : 0;
    const std::size_t conv = std::max(gradient_scratch_bytes<T>(block), gradient_scratch_bytes<T>(rest));
    Layout factors;  // of dx, and of ReLU, which blocks keep meanwhile
    factors.array<NormGradient<T>>(s.F);
    factors.array<Affine<T>>(s.F);
    return layout.bytes() + factors.bytes() + std::max(conv, sums_bytes(s));
  }
  // Of batch norm.
  static std::size_t sums_bytes(const ConvShape& s) {
    const ChannelParts norm(norm_shape(s));
    Layout layout;
    layout.array<Deviations>(norm.parts * s.F);
    if (norm.s.S == 1) {  // columns of a matrix
      layout.array<TwoSums>(column_parts(s.N) * s.F);
      layout.array<T>(4 * s.F);
    }
    return layout.bytes();
  }

 private:
  static void add(const T* more, Index size, T* total) {
    constexpr Index grain = 1024;
    parallel_ranges(size, grain, 1,
                    [=](Index begin, Index end) { add_to(total + begin, more + begin, end - begin); });
  }

  ConvShape s;
  Index images = s.N;  // of a block
  Index dw_size, db_size;
  Layout layout;
  Reserved<NormGradient<T>> gradient;
  Reserved<T> da, dw, db;
};

// dx, dw and db may be null: not wanted. c.a is the convolution's output.
template <class T>
void conv_bn_relu_backward(const ConvNormGradients<T>& c, const ConvShape& s) {
  ConvNormBackward<T>(s, c.dw != nullptr, c.db != nullptr).run(c);
}

template <class T>
ConvNormScratch conv_bn_relu_scratch(const ConvShape& s) {
  const ConvNormBackward<T> backward(s, true, true);
  return {std::max(conv_scratch_bytes<T>(s, Pass::forward), backward.sums_bytes(s)),
          backward.scratch_bytes()};
}

}  // namespace cnnlib::CNNLIB_ISA
