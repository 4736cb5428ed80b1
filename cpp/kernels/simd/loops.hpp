// Loops over vectors: loads and stores with tails, and results that go past the caches.
#pragma once

#include "buffers.hpp"
#include "kernels/simd/packet.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
bool past_caches(Index n) {
  return n * Index(sizeof(T)) >= Index(past_caches_bytes());
}

// The vector at p, of which `count` lanes count and the others are `other`.
template <class T>
typename Simd<T>::Packet load_counted(const T* p, Index count, T other = T(0)) {
  return count == Simd<T>::size ? Simd<T>::load(p) : Simd<T>::load_lanes(p, 0, count, other);
}

template <class T>
void store_counted(T* p, Index count, typename Simd<T>::Packet v) {
  count == Simd<T>::size ? Simd<T>::store(p, v) : Simd<T>::store_lanes(p, v, 0, count);
}

// to[i], to[i + 1], ... = the first `count` lanes of value(i, count), for vectors that cover [0, n). Where
// they go past the caches, a fence has to follow.
template <class T, class Value>
[[gnu::always_inline]] inline void write_vectors(T* to, Index n, bool past, const Value& value) {
  using S = Simd<T>;
  Index i = 0;
  if (past) {
    constexpr Index bytes = S::size * sizeof(T);
    const Index ahead = (bytes - Index(reinterpret_cast<std::uintptr_t>(to)) % bytes) % bytes / sizeof(T);
    if (ahead > 0) S::store_lanes(to, value(i, std::min(ahead, n)), 0, std::min(ahead, n));
    for (i = ahead; i + S::size <= n; i += S::size) S::store_non_temporal(to + i, value(i, S::size));
  } else {
    for (; i + S::size <= n; i += S::size) S::store(to + i, value(i, S::size));
  }
  if (i < n) S::store_lanes(to + i, value(i, n - i), 0, n - i);
}

}  // namespace cnnlib::CNNLIB_ISA
