// Threads: how many, who runs what, and what happens after fork. The only place that uses OpenMP.
#pragma once

#include <omp.h>

#include "shapes.hpp"

namespace cnnlib {

// The number of threads that the calling thread's next kernel may use, and the process-wide limit.
int num_threads();
void set_num_threads(int n);

// Threads worth starting for `work`, counted in scalar operations (1 when it is small).
int threads_for(double work);

// Calls f(data) so that OpenMP works: directly, or from a fresh thread in a forked child, where the
// calling thread's OpenMP pool died with the parent.
void run_after_fork_check(void (*f)(void*), void* data);

// Registers the fork handler; called once when the module is loaded.
void watch_for_fork();

#ifdef CNNLIB_ISA
namespace CNNLIB_ISA {

// body(task, slot) for every task in [0, tasks); slot < threads tells which scratch to use. Tasks are
// handed out dynamically, so a result must not depend on the slot that computes it.
template <class Body>
void parallel_for(Index tasks, int threads, const Body& body) {
  if (threads <= 1 || tasks <= 1) {
    for (Index task = 0; task < tasks; ++task) body(task, 0);
    return;
  }
#pragma omp parallel for num_threads(threads) schedule(dynamic, 1)
  for (Index task = 0; task < tasks; ++task) body(task, omp_get_thread_num());
}

// body(begin, end) for slices of [0, n) whose bounds are multiples of `grain`.
template <class Body>
void parallel_ranges(Index n, Index grain, double work_per_item, const Body& body) {
  const Index slices = (n + grain - 1) / grain;
  parallel_for(slices, threads_for(work_per_item * static_cast<double>(n)), [&](Index slice, int) {
    const Index begin = slice * grain;
    body(begin, begin + grain < n ? begin + grain : n);
  });
}

}  // namespace CNNLIB_ISA
#endif

}  // namespace cnnlib
