// Threads: how many, who runs what, and what happens after fork. team.hpp has the threads themselves.
#pragma once

#ifdef CNNLIB_CUTS_ALONE
#error "a cut decides bits: it must follow from neither the threads nor the machine (kernels/cuts.cpp)"
#endif

#include "../shapes.hpp"

namespace cnnlib {

// The number of threads that the calling thread's next kernel may use, and the process-wide limit.
int num_threads();
void set_num_threads(int n);

// Fixes the number of threads for all that its thread calls while it exists: what a plan, its scratch and its
// loops say must be one number, whatever other threads set meanwhile and whichever cores come back.
class CallThreads {
 public:
  explicit CallThreads(int threads = 0);  // 0: those of the call around it or, where there is none, now
  ~CallThreads();
  CallThreads(const CallThreads&) = delete;
  CallThreads& operator=(const CallThreads&) = delete;

 private:
  int before_;
};

// Whether threads that wait may spin for a while: not with OMP_WAIT_POLICY=passive.
bool may_spin();

// Threads worth starting for `work`, counted in scalar operations (1 when it is small).
int threads_for(double work);

// Whether loops use fewer threads while other processes keep cores busy (missing_cores.hpp); they do unless
// this is switched off, by tests of what threads do together.
void notice_missing_cores(bool notice);

// Registers the fork handler; called once when the module is loaded.
void watch_for_fork();

enum class Order { forward, backward };

// run(data, task, slot) for every task in [0, tasks); slot < threads tells which scratch to use. No more
// threads start than there are tasks. Each thread starts with a range of its own, the same for every loop
// over as many tasks, so that it finds in its caches what it left there before, most of all if it goes
// backward; then it helps the others. Which slot computes a task is not certain, and a result must not depend
// on it.
void run_tasks(Index tasks, int threads, Order order, void (*run)(const void* data, Index task, int slot),
               const void* data);

// body(data), whose loops find a team of so many threads that waits for them, spinning: for many short loops
// after each other. Not where there are more threads than cores, or with OMP_WAIT_POLICY=passive.
void with_standing_team(int threads, void (*body)(const void* data), const void* data);

template <class Body>
void with_standing_team(int threads, const Body& body) {
  with_standing_team(threads, [](const void* data) { (*static_cast<const Body*>(data))(); }, &body);
}

// body(task, slot) for every task. Its code stands once in the module, since run_tasks alone calls it.
template <class Body>
void parallel_for(Index tasks, int threads, const Body& body, Order order = Order::forward) {
  const auto run = [](const void* data, Index task, int slot) {
    (*static_cast<const Body*>(data))(task, slot);
  };
  run_tasks(tasks, threads, order, run, &body);
}

// The place of a task in a grid of n sizes.
void indices_of(Index task, const Index* sizes, int n, Index* at);

// body(i, j, slot), or with a third and a fourth index, for every task of a grid, whose last index runs
// fastest.
template <int n, class Body>
void parallel_grid(const Index (&sizes)[n], int threads, const Body& body) {
  Index tasks = 1;
  for (const Index size : sizes) tasks *= size;
  parallel_for(tasks, threads, [&](Index task, int slot) {
    Index at[n];
    indices_of(task, sizes, n, at);
    if constexpr (n == 2) body(at[0], at[1], slot);
    if constexpr (n == 3) body(at[0], at[1], at[2], slot);
    if constexpr (n == 4) body(at[0], at[1], at[2], at[3], slot);
  });
}

// body(task) for every task, on one thread each; kernels that it calls start no others, and may run out of
// memory.
template <class Body>
void each_on_its_own(Index tasks, int threads, const Body& body) {
  parallel_for(tasks, threads, [&](Index task, int) {
    const CallThreads alone(1);
    body(task);
  });
}

#ifdef CNNLIB_ISA
namespace CNNLIB_ISA {

// body(begin, end) for ranges of [0, n) whose bounds are multiples of `grain`. Each range has a copy of the
// body, which no store can change: what it captured by value stays in registers.
template <class Body>
void parallel_ranges(Index n, Index grain, double work_per_item, const Body& body,
                     Order order = Order::forward) {
  const Index ranges = (n + grain - 1) / grain;
  const auto range = [&](Index i, int) {
    const Index begin = i * grain;
    const Body own = body;
    own(begin, begin + grain < n ? begin + grain : n);
  };
  parallel_for(ranges, threads_for(work_per_item * static_cast<double>(n)), range, order);
}

}  // namespace CNNLIB_ISA
#endif

}  // namespace cnnlib
