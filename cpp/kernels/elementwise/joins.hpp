// Two values joined, of one shape or one of them with a value for each plane, as squeeze-and-excitation's;
// and what turns the bytes of images into numbers.
#pragma once

#include "kernels/elementwise/activations.hpp"

namespace cnnlib::CNNLIB_ISA {

// use(op), where op(a, b) joins two vectors.
template <class T, class Use>
void with_join(Join kind, const Use& use) {
  using S = Simd<T>;
  switch (kind) {
    case Join::add: return use([](Packet<T> a, Packet<T> b) { return S::add(a, b); });
    case Join::add_relu: return use([](Packet<T> a, Packet<T> b) { return S::relu(S::add(a, b)); });
    case Join::multiply: return use([](Packet<T> a, Packet<T> b) { return S::mul(a, b); });
  }
}

template <class T>
void join(Join kind, const T* a, const T* b, T* out, Index n) {
  with_join<T>(kind, [=](auto op) {
    elementwise(out, n, 1,
                [=](Index i, Index count) { return op(load_first(a + i, count), load_first(b + i, count)); });
  });
}

// body(plane) for planes of S values.
template <class Body>
void each_plane_of(Index planes, Index S, const Body& body) {
  parallel_ranges(planes, std::max<Index>(1, elementwise_grain / std::max<Index>(1, S)), double(S),
                  [=](Index begin, Index end) {
                    for (Index k = begin; k < end; ++k) body(k);
                  });
}

// out[k][i] is a[k][i] joined with b[k], for planes k of S values.
template <class T>
void join_planes(Join kind, const T* a, const T* b, T* out, Index planes, Index S) {
  with_join<T>(kind, [=](auto op) {
    each_plane_of(planes, S, [=](Index k) {
      const auto value = Simd<T>::fill(b[k]);
      write_vectors(out + k * S, S, false,
                    [&](Index i, Index count) { return op(load_first(a + k * S + i, count), value); });
    });
  });
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
