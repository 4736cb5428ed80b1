// A value for each plane, spread over it: what squeeze-and-excitation does to its images.
#pragma once

#include "kernels/simd/loops.hpp"
#include "threads/parallel.hpp"

namespace cnnlib::CNNLIB_ISA {

// out[k][i] = combine(x[k][i], y[k]) for planes k of S values.
template <class T, class Combine>
void spread(const T* x, const T* y, T* out, Index planes, Index S, const Combine& combine) {
  constexpr Index grain_values = 1 << 15;  // of a task: many times what starting it costs
  parallel_ranges(planes, std::max<Index>(1, grain_values / std::max<Index>(1, S)), double(S),
                  [=](Index begin, Index end) {
                    for (Index k = begin; k < end; ++k) {
                      const auto value = Simd<T>::fill(y[k]);
                      write_vectors(out + k * S, S, false, [&](Index i, Index count) {
                        return combine(load_first(x + k * S + i, count), value);
                      });
                    }
                  });
}

template <class T>
void spread_add(const T* x, const T* y, T* out, Index planes, Index S) {
  spread(x, y, out, planes, S, [](auto a, auto b) { return Simd<T>::add(a, b); });
}

template <class T>
void spread_multiply(const T* x, const T* y, T* out, Index planes, Index S) {
  spread(x, y, out, planes, S, [](auto a, auto b) { return Simd<T>::mul(a, b); });
}

}  // namespace cnnlib::CNNLIB_ISA
