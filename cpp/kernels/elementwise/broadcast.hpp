// A value for each plane, broadcast over it: what squeeze-and-excitation does to its images, and what turns
// the bytes of images into numbers.
#pragma once

#include "kernels/simd/loops.hpp"
#include "threads/parallel.hpp"

namespace cnnlib::CNNLIB_ISA {

// body(plane) for planes of S values.
template <class Body>
void each_plane_of(Index planes, Index S, const Body& body) {
  constexpr Index grain_values = 1 << 15;  // of a task: many times what starting it costs
  parallel_ranges(planes, std::max<Index>(1, grain_values / std::max<Index>(1, S)), double(S),
                  [=](Index begin, Index end) {
                    for (Index k = begin; k < end; ++k) body(k);
                  });
}

// out[k][i] = combine(x[k][i], y[k]) for planes k of S values.
template <class T, class Combine>
void broadcast(const T* x, const T* y, T* out, Index planes, Index S, const Combine& combine) {
  each_plane_of(planes, S, [=](Index k) {
    const auto value = Simd<T>::fill(y[k]);
    write_vectors(out + k * S, S, false,
                  [&](Index i, Index count) { return combine(load_first(x + k * S + i, count), value); });
  });
}

template <class T>
void broadcast_add(const T* x, const T* y, T* out, Index planes, Index S) {
  broadcast(x, y, out, planes, S, [](auto a, auto b) { return Simd<T>::add(a, b); });
}

template <class T>
void broadcast_multiply(const T* x, const T* y, T* out, Index planes, Index S) {
  broadcast(x, y, out, planes, S, [](auto a, auto b) { return Simd<T>::mul(a, b); });
}

// out[k][i] = (x[k][i] - mean[c]) / std[c] for the planes k of S pixels, of C channels c in turn.
template <class T>
void normalize_bytes(const std::uint8_t* x, const T* mean, const T* std, T* out, Index planes, Index C,
                     Index S) {
  each_plane_of(planes, S, [=](Index k) {
    const T m = mean[k % C], s = std[k % C];
#pragma omp simd
    for (Index i = k * S; i < (k + 1) * S; ++i) out[i] = (T(x[i]) - m) / s;
  });
}

}  // namespace cnnlib::CNNLIB_ISA
