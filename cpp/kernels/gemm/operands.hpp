// The operands of a matrix product c = a * b + bias, and the order of its sums.
#pragma once

#include "kernels/clamp.hpp"
#include "kernels/gemm/cuts.hpp"
#include "kernels/scratch_layout.hpp"
#include "kernels/simd/loops.hpp"
#include "threads/parallel.hpp"

namespace cnnlib::CNNLIB_ISA {

// An operand: element (i, j) at data[i * row + j * col]; one of the steps is 1.
template <class T>
struct MatrixView {
  const T* data;
  Index row, col;
};

// c (M, N) = a (M, K) * b (K, N) + bias (N,), then through the activation.
//
// Every element is a sum over K in chunks, each added up in order, and the chunks' sums in
// their order (product_cut), whichever way the work is cut: neither the number of threads nor the other rows
// or columns change its bits.
template <class T>
struct MatrixProduct {
  MatrixView<T> a, b;
  const T* bias;  // or null
  Clamp<T> activation;
  T* c;
  Index M, N, K;

  SumCut sum = product_cut(K);

  static constexpr Index lanes = NR<T>;  // of a panel of b
  Index panels() const { return ceil_div(N, lanes); }
  Index panel_size() const { return lanes * sum.most(); }
  // Panels that are packed together: one, which stays in a near cache, or of a b that comes from memory,
  // where pieces of a panel's width, pages apart, take long, half a kilobyte of each row.
  Index strip() const {
    constexpr double far_bytes = 8 << 20;
    constexpr Index strip_bytes = 512, panel_bytes = lanes * Index(sizeof(T));
    return double(K) * double(N) * sizeof(T) > far_bytes ? std::max<Index>(1, strip_bytes / panel_bytes) : 1;
  }
  // Values of `rows` packed rows of a chunk; the last vector may be written beyond them.
  Index packed_rows(Index rows) const { return rows * sum.most() + Simd<T>::size; }
  // Two operations a term, and 16 of them at a time.
  int threads() const { return threads_for(2.0 / 16 * M * N * K); }

  // Where a chunk of a and of b begins.
  const T* a_chunk(Index chunk) const { return a.data + sum.first(chunk) * a.col; }
  const T* b_chunk(Index chunk) const { return b.data + sum.first(chunk) * b.row; }

  // What becomes of `count` columns from n on: the first chunk's sum gets the bias, the last one goes through
  // the activation.
  Packet<T> begun(Packet<T> sum, Index n, Index count) const {
    return bias != nullptr ? Simd<T>::add(sum, load_first(bias + n, count)) : sum;
  }
  Packet<T> finished(Packet<T> sum) const { return clamp(activation, sum); }
};

// c = a * b + bias, and the bytes of scratch that it takes, which is all where there is no c. Compiled in a
// unit of its own (gemm.cpp).
template <class T>
std::size_t matrix_product(const MatrixProduct<T>&);

}  // namespace cnnlib::CNNLIB_ISA
