// A team of OpenMP's threads, and what ThreadSanitizer has to be told of it.
#pragma once

#include <omp.h>

#ifdef __has_feature
#if __has_feature(thread_sanitizer)
#define CNNLIB_THREAD_SANITIZER
#endif
#endif
#ifdef __SANITIZE_THREAD__
#define CNNLIB_THREAD_SANITIZER
#endif

// The OpenMP runtime is not compiled with ThreadSanitizer, which therefore sees neither that a team begins
// after what its caller did before, nor that all of it has ended before the caller goes on. Both are told
// here; the compiler's own hand-over of variables to the team comes before that and stays unchecked.
#ifdef CNNLIB_THREAD_SANITIZER
#include <sanitizer/tsan_interface.h>
#define CNNLIB_TEAM_UNCHECKED __attribute__((no_sanitize("thread"), noinline))
#define CNNLIB_TEAM_PASSES_ON(place) __tsan_release(place)
#define CNNLIB_TEAM_TAKES_OVER(place) __tsan_acquire(place)
#else
#define CNNLIB_TEAM_UNCHECKED inline
#define CNNLIB_TEAM_PASSES_ON(place) static_cast<void>(place)
#define CNNLIB_TEAM_TAKES_OVER(place) static_cast<void>(place)
#endif

#ifdef CNNLIB_ISA
namespace cnnlib::CNNLIB_ISA {
#else
namespace cnnlib {
#endif

// body(slot, size) on each of `threads` threads, or of as many as there are (`size`); slot 0 is the caller.
template <class Body>
CNNLIB_TEAM_UNCHECKED void on_team(int threads, const Body& body) {
  char begin = 0, end = 0;
  CNNLIB_TEAM_PASSES_ON(&begin);
#pragma omp parallel num_threads(threads)
  {
    CNNLIB_TEAM_TAKES_OVER(&begin);
    body(omp_get_thread_num(), omp_get_num_threads());
    CNNLIB_TEAM_PASSES_ON(&end);
  }
  CNNLIB_TEAM_TAKES_OVER(&end);
}

#ifdef CNNLIB_ISA
}  // namespace cnnlib::CNNLIB_ISA
#else
}  // namespace cnnlib
#endif
