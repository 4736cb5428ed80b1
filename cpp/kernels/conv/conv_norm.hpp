// Convolution, batch norm and ReLU in a row.
#pragma once

#include "kernels.hpp"
#include "kernels/conv/conv.hpp"
#include "kernels/conv/cuts.hpp"
#include "kernels/norm/batch_norm.hpp"

namespace cnnlib::CNNLIB_ISA {

inline BatchNormShape norm_shape(const ConvShape& s) { return {s.N, s.F, s.OH * s.OW}; }

// The backward pass, block by block of images, so that the gradient of the convolution's output takes no more
// memory for a larger batch.
template <class T>
class ConvNormBackward {
 public:
  ConvNormBackward(const ConvRequest& request, bool want_dw, bool want_db)
      : r(request), dw_size(cut && want_dw ? weights : 0), db_size(cut && want_db ? s.F : 0) {}

  void run(const ConvNormGradients<T>& c) {
    const LayoutMemory memory(layout);
    T* a_gradient = da.data();
    if (!cut) {
      batchnorm_backward(c.dout, c.a, c.mean, c.inv_std, c.gamma, c.beta, a_gradient, c.dgamma, c.dbeta,
                         norm_shape(s), c.from_batch);
      return conv_backward<T>({c.x, c.w, a_gradient, nullptr, c.dx, c.dw, c.db}, r);
    }
    auto* normed = gradient.data();
    with_through(c.mean, c.inv_std, c.gamma, c.beta, s.F, [&](const auto& through) {
      plane_sums(c.dout, c.a, c.mean, c.inv_std, c.gamma, c.dgamma, c.dbeta, norm_shape(s), c.from_batch,
                 through, normed);
      for (Index first = 0; first < s.N; first += images) {
        ConvRequest block = r;
        block.shape.N = std::min(images, s.N - first);
        const Index in = first * s.C * s.H * s.W, out = first * s.F * s.OH * s.OW;
        plane_input_gradient<T>(c.dout + out, c.a + out, normed, a_gradient, norm_shape(block.shape),
                                through);
        T *more_dw = first > 0 && c.dw != nullptr ? dw.data() : c.dw,
          *more_db = first > 0 && c.db != nullptr ? db.data() : c.db;
        conv_backward<T>(
            {c.x + in, c.w, a_gradient, nullptr, c.dx != nullptr ? c.dx + in : nullptr, more_dw, more_db},
            block);
        if (more_dw != c.dw) add(more_dw, dw_size, c.dw);
        if (more_db != c.db) add(more_db, db_size, c.db);
      }
    });
  }

  // What all threads take beside the arrays.
  std::size_t scratch_bytes() const {
    ConvRequest block = r, rest = r;  // which may be planned otherwise, and take more
    block.shape.N = std::min(images, s.N);
    rest.shape.N = s.N > 0 ? s.N - (s.N - 1) / images * images : 0;
    const std::size_t conv = std::max(gradient_scratch_bytes<T>(block), gradient_scratch_bytes<T>(rest));
    // The factors of dx, and of ReLU, which blocks keep meanwhile.
    const std::size_t factors =
        ScratchArray<NormGradient<T>>::bytes(s.F) + ScratchArray<Affine<T>>::bytes(s.F);
    return layout.bytes() + factors + std::max(conv, batchnorm_sums_bytes<T>(norm_shape(s)));
  }

 private:
  static void add(const T* more, Index size, T* total) {
    constexpr Index grain = 1024;
    parallel_ranges(size, grain, 1,
                    [=](Index begin, Index end) { add_to(total + begin, more + begin, end - begin); });
  }

  ConvRequest r;
  const ConvShape& s = r.shape;
  Index weights = s.F * (s.C / s.groups) * s.KH * s.KW, image = s.F * s.OH * s.OW;  // values
  Index images = conv_norm_images<T>(s);
  bool cut = images < s.N;
  Index dw_size, db_size;
  Layout layout;
  Reserved<NormGradient<T>> gradient{layout, cut ? s.F : 0};
  Reserved<T> da{layout, checked_product(images, image)}, dw{layout, dw_size}, db{layout, db_size};
};

// dx, dw and db may be null: not wanted. c.a is the convolution's output.
template <class T>
void conv_bn_relu_backward(const ConvNormGradients<T>& c, const ConvRequest& r) {
  ConvNormBackward<T>(r, c.dw != nullptr, c.db != nullptr).run(c);
}

template <class T>
ConvNormScratch conv_bn_relu_scratch(const ConvRequest& r) {
  const ConvNormBackward<T> backward(r, true, true);
  return {std::max(conv_scratch_bytes<T>(r, Pass::forward), batchnorm_sums_bytes<T>(norm_shape(r.shape))),
          backward.scratch_bytes()};
}

}  // namespace cnnlib::CNNLIB_ISA
