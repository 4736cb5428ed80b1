// Runs of values by their phases: every count-th value from the q-th on, `count` a power of two.
//
//   run     a0 b0 c0 d0 a1 b1 c1 d1 ..        phases   a0 a1 .. | b0 b1 .. | c0 c1 .. | d0 d1 ..
#pragma once

#include "kernels/simd/packet.hpp"

namespace cnnlib::CNNLIB_ISA {

// The phases of `count` vectors of a run, to store(q, packet).
template <class T, int count, class Store>
[[gnu::always_inline]] inline void split_phases(const Packet<T>* v, const Store& store) {
  if constexpr (count == 1) {
    store(0, v[0]);
  } else {
    Packet<T> even[count / 2], odd[count / 2];
#pragma GCC unroll 8
    for (int i = 0; i < count / 2; ++i) Simd<T>::split_pairs(v[2 * i], v[2 * i + 1], even[i], odd[i]);
    split_phases<T, count / 2>(even, [&](int q, auto packet) { store(2 * q, packet); });
    split_phases<T, count / 2>(odd, [&](int q, auto packet) { store(2 * q + 1, packet); });
  }
}
// The same of a run in memory.
template <class T, int count, class Store>
[[gnu::always_inline]] inline void split_run(const T* run, const Store& store) {
  Packet<T> v[count];
#pragma GCC unroll 16
  for (int i = 0; i < count; ++i) v[i] = Simd<T>::load(run + i * Simd<T>::size);
  split_phases<T, count>(v, store);
}

// A run of `count` vectors from its phases, load(q).
template <class T, int count, class Load>
[[gnu::always_inline]] inline void join_run(const Load& load, T* run) {
  using S = Simd<T>;
  if constexpr (count == 2) {
    S::store_pairs(run, load(0), load(1));
  } else {
    constexpr Index half = count / 2 * S::size;
    T even[half], odd[half];
    join_run<T, count / 2>([&](int q) { return load(2 * q); }, even);
    join_run<T, count / 2>([&](int q) { return load(2 * q + 1); }, odd);
#pragma GCC unroll 4
    for (Index at = 0; at < half; at += S::size)
      S::store_pairs(run + 2 * at, S::load(even + at), S::load(odd + at));
  }
}

}  // namespace cnnlib::CNNLIB_ISA
