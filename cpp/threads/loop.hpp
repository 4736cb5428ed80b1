// A loop over tasks that threads share.
#pragma once

#include <chrono>
#include <exception>
#include <mutex>

#include "parallel.hpp"

namespace cnnlib {

using Clock = std::chrono::steady_clock;

// The tasks that one thread takes first, and when it had done the last of those it took from anywhere. In a
// cache line of its own.
struct alignas(64) TaskRange {
  Index first, last, taken;
  Clock::time_point done;  // the loop's begin where the thread found no task

  Index left() const { return last - first - __atomic_load_n(&taken, __ATOMIC_RELAXED); }
};

// Carries an exception from the threads of a loop to the one that started it.
class CaughtError {
 public:
  template <class Body>
  void keep_from(const Body& body) {
    try {
      body();
    } catch (...) {
      const std::lock_guard<std::mutex> lock(access_);
      error_ = std::current_exception();
    }
  }
  void rethrow() const {  // if there was one
    if (error_) std::rethrow_exception(error_);
  }

 private:
  std::exception_ptr error_;
  std::mutex access_;
};

struct Loop {
  int threads;
  Order order;
  void (*run)(const void* data, Index task, int slot);
  const void* data;
  TaskRange* ranges;   // one for each thread
  CaughtError* error;  // what a task throws

  // The thread's own tasks, then those of whoever has most left; no more of them where one throws. OpenMP
  // would end the process, and a standing team lose its loop.
  void work(int slot) const {
    error->keep_from([&] {
      bool found = take_all(ranges[slot], slot);
      while (TaskRange* range = fullest()) found = take_all(*range, slot) || found;
      if (found) ranges[slot].done = Clock::now();
    });
  }

 private:
  bool take_all(TaskRange& range, int slot) const {
    const Index count = range.last - range.first;
    bool found = false;
    for (Index i; range.left() > 0 && (i = __atomic_fetch_add(&range.taken, 1, __ATOMIC_RELAXED)) < count;
         found = true)
      run(data, order == Order::forward ? range.first + i : range.last - 1 - i, slot);
    return found;
  }
  TaskRange* fullest() const {
    TaskRange* found = nullptr;
    Index most = 0;
    for (int k = 0; k < threads; ++k)
      if (const Index left = ranges[k].left(); left > most) {
        most = left;
        found = &ranges[k];
      }
    return found;
  }
};

}  // namespace cnnlib
