// Many matrix products of one size.
#pragma once

#include "kernels/gemm/operands.hpp"

namespace cnnlib::CNNLIB_ISA {

// All threads on each product in turn or, where there are enough of them, a thread on each.
template <class T>
void matmul(const T* a, const T* b, T* c, const MatmulShape& s) {
  const auto multiply = [=, &s](Index i) {
    const T *left = a + i * s.M * s.K, *right = b + i * s.K * s.N;
    T* out = c + i * s.M * s.N;
    matrix_product<T>({{left, s.K, 1}, {right, s.N, 1}, nullptr, {}, out, s.M, s.N, s.K});
  };
  const int threads = threads_for(2.0 / 16 * double(s.count) * double(s.M) * double(s.N) * double(s.K));
  if (threads > 1 && s.count >= 2 * threads) return each_on_its_own(s.count, threads, multiply);
  for (Index i = 0; i < s.count; ++i) multiply(i);
}

}  // namespace cnnlib::CNNLIB_ISA
