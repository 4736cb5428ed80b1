// Loops over vectors: the lanes at a loop's end, and results written around the caches.
#pragma once

#include "kernels/simd/packet.hpp"
#include "machine/processor.hpp"

namespace cnnlib::CNNLIB_ISA {

// Whether a result of n values, in rows that are written one by one, should be written with non-temporal
// stores.
template <class T>
bool use_non_temporal(Index n, Index row = Simd<T>::size) {
  return n * Index(sizeof(T)) >= Index(past_caches_bytes()) && row % Simd<T>::size == 0;
}

// The first `count` lanes of the vector at p, and 0 or `other` in the rest.
template <class T, class... Other>
Packet<T> load_first(const T* p, Index count, Other... other) {
  return count == Simd<T>::size ? Simd<T>::load(p) : Simd<T>::load_lanes(p, 0, count, other...);
}

template <class T>
void store_first(T* p, Index count, Packet<T> v) {
  count == Simd<T>::size ? Simd<T>::store(p, v) : Simd<T>::store_lanes(p, v, 0, count);
}

// body(i, lanes) for the vectors of [begin, end), of which the last may have fewer lanes.
template <class T, class Body>
[[gnu::always_inline]] inline void each_vector(Index begin, Index end, const Body& body) {
  constexpr Index size = Simd<T>::size;
  Index i = begin;
  for (; i + size <= end; i += size) body(i, size);
  if (i < end) body(i, end - i);
}

// to[i], to[i + 1], ... = the first `count` lanes of value(i, count), for vectors that cover [0, n). After
// non-temporal stores a store_fence() has to follow.
template <class T, class Value>
[[gnu::always_inline]] inline void write_vectors(T* to, Index n, bool non_temporal, const Value& value) {
  using S = Simd<T>;
  Index i = 0;
  if (non_temporal) {
    const Index misaligned = Index(reinterpret_cast<std::uintptr_t>(to)) % S::bytes;
    const Index head = (S::bytes - misaligned) % S::bytes / Index(sizeof(T));  // values before whole vectors
    if (head > 0) S::store_lanes(to, value(i, std::min(head, n)), 0, std::min(head, n));
    for (i = head; i + S::size <= n; i += S::size) S::store_non_temporal(to + i, value(i, S::size));
  } else {
    for (; i + S::size <= n; i += S::size) S::store(to + i, value(i, S::size));
  }
  if (i < n) S::store_lanes(to + i, value(i, n - i), 0, n - i);
}

template <class T>
void fill_vectors(T* to, Index n, T value) {
  write_vectors(to, n, false, [v = Simd<T>::fill(value)](Index, Index) { return v; });
}

template <class T>
bool is_aligned(const T* p) {
  return reinterpret_cast<std::uintptr_t>(p) % Simd<T>::bytes == 0;
}

// Whether a copy of n values for the backward pass is written past the caches: where the layers in between
// push it out of them anyway, and its vectors are aligned.
template <class T>
bool copy_past_caches(const T* copy, Index n) {
  constexpr Index least_bytes = 8 << 20;
  return n * Index(sizeof(T)) >= least_bytes && is_aligned(copy);
}

// The first `count` lanes; past the caches if all are stored and it is `far`. p is aligned then, and a
// store_fence() has to follow.
template <class T>
void store_copy(T* p, Index count, Packet<T> v, bool far) {
  if (far && count == Simd<T>::size)
    Simd<T>::store_non_temporal(p, v);
  else
    store_first(p, count, v);
}

}  // namespace cnnlib::CNNLIB_ISA
