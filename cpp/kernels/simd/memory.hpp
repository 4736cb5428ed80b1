// Hints about memory: prefetches, the end of non-temporal stores, addresses in a fixed order.
#pragma once

#if defined(__x86_64__)
#include <xmmintrin.h>
#endif

#include "shapes.hpp"

namespace cnnlib::CNNLIB_ISA {

constexpr Index cache_line_bytes = 64;
template <class T>
constexpr Index line_values = cache_line_bytes / Index(sizeof(T));

// Prefetches the cache lines of p[0], ..., p[n - 1]; a locality of 2 is for the second-level cache. All
// kernels prefetch by this.
template <int locality = 3, bool written = false, class T>
[[gnu::always_inline]] inline void prefetch(const T* p, Index n = 1) {
  for (Index i = 0; i < n; i += line_values<T>) __builtin_prefetch(p + i, written, locality);
}
// Prefetches the next n values of a stream, which p runs along.
template <Index n, bool written = false, class T>
[[gnu::always_inline]] inline void prefetch_next(const T*& p) {
  prefetch<3, written>(p, n);
  p += n;
}

// Orders a thread's non-temporal stores before whatever it stores next.
inline void store_fence() {
#if defined(__x86_64__)
  _mm_sfence();
#endif
}

// Loads that follow stay behind this: from an unrolled loop g++ would do all of them first, which takes more
// registers than there are.
inline void no_loads_before() {
#if defined(__GNUC__)
  asm volatile("" ::: "memory");
#endif
}

// p + step, in an order of steps that the compiler may not undo: from an unrolled loop g++ would work out
// every address beforehand, which takes more registers than there are.
template <class T>
inline T* next_row(T* p, Index step) {
  p += step;
#if defined(__GNUC__)
  asm("" : "+r"(p));
#endif
  return p;
}

}  // namespace cnnlib::CNNLIB_ISA
