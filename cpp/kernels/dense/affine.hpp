// The affine layer: out = x * w + b and its gradients, by the matrix product.
#pragma once

#include "kernels/gemm/operands.hpp"

namespace cnnlib::CNNLIB_ISA {

// w, or its transpose, as it lies.
template <class T>
MatrixView<T> weights_view(const T* w, const DenseShape& s, bool transpose) {
  return s.transposed == transpose ? MatrixView<T>{w, transpose ? s.D : s.M, 1}
                                   : MatrixView<T>{w, 1, transpose ? s.M : s.D};
}

// out (N, M) = x (N, D) * w (D, M) + b.
template <class T>
void affine_forward(const T* x, const T* w, const T* b, T* out, const DenseShape& s,
                    const Clamp<T>& activation) {
  matrix_product<T>({{x, s.D, 1}, weights_view(w, s, false), b, activation, out, s.N, s.M, s.D});
}

// to[j] = sum over i of x[i, j], x (rows, columns): short runs of rows in T, their sums in double.
template <class T>
void column_sums(const T* x, Index rows, Index columns, T* to) {
  using S = Simd<T>;
  constexpr Index run = 64;  // rows
  parallel_ranges(columns, S::size, double(rows) / 8, [&](Index begin, Index end) {
    double totals[S::size] = {};
    for (Index first = 0; first < rows; first += run) {
      auto sum = S::zero();
      for (Index i = first; i < std::min(rows, first + run); ++i)
        sum = S::add(sum, load_first(x + i * columns + begin, end - begin));
      T part[S::size];
      S::store(part, sum);
      for (Index j = 0; j < S::size; ++j) totals[j] += double(part[j]);
    }
    for (Index j = begin; j < end; ++j) to[j] = T(totals[j - begin]);
  });
}

// dx (N, D) = dout (N, M) * w', dw (D, M) = x' * dout, db (M,) = column sums of dout; null = not wanted.
template <class T>
void affine_backward(const T* dout, const T* x, const T* w, T* dx, T* dw, T* db, const DenseShape& s) {
  if (dx != nullptr)
    matrix_product<T>({{dout, s.M, 1}, weights_view(w, s, true), nullptr, {}, dx, s.N, s.D, s.M});
  if (dw != nullptr) matrix_product<T>({{x, 1, s.D}, {dout, s.M, 1}, nullptr, {}, dw, s.D, s.M, s.N});
  if (db == nullptr) return;
  column_sums(dout, s.N, s.M, db);
}

}  // namespace cnnlib::CNNLIB_ISA
