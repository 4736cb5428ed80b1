// Copies of results that the backward pass alone reads.
#pragma once

#include "kernels/simd/loops.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
bool is_aligned(const T* p) {
  return reinterpret_cast<std::uintptr_t>(p) % Simd<T>::bytes == 0;
}

// Whether a copy of n values is written past the caches: where the layers in between push it out of them
// anyway, and its vectors are aligned.
template <class T>
bool copy_past_caches(const T* copy, Index n) {
  constexpr Index least_bytes = 8 << 20;
  return n * Index(sizeof(T)) >= least_bytes && is_aligned(copy);
}

// The first `count` lanes; past the caches if all are stored and it is `far`. p is aligned then, and a
// store_fence() has to follow.
template <class T>
void store_copy(T* p, Index count, typename Simd<T>::Packet v, bool far) {
  if (far && count == Simd<T>::size)
    Simd<T>::store_non_temporal(p, v);
  else
    store_first(p, count, v);
}

}  // namespace cnnlib::CNNLIB_ISA
