// db[f] = sum over n and positions of dout[n, f], dout (N, F, plane).
#pragma once

#include "kernels/simd/sums.hpp"
#include "threads/parallel.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
void bias_gradient(const T* dout, T* db, Index N, Index F, Index plane) {
  parallel_for(F, threads_for(double(N) * double(F * plane)), [&](Index f, int) {
    double total = 0;
    for (Index n = 0; n < N; ++n) total += sum(dout + (n * F + f) * plane, plane);
    db[f] = static_cast<T>(total);
  });
}

}  // namespace cnnlib::CNNLIB_ISA
