// A loop that threads share, and a team of threads that stays while several loops follow each other.
#pragma once

#include <atomic>
#include <chrono>
#include <thread>

#include "parallel.hpp"

namespace cnnlib {

using Clock = std::chrono::steady_clock;

// The tasks that one thread takes first, and when it found none left; in a cache line of its own.
struct alignas(64) TaskRange {
  Index first, last, taken;
  Clock::time_point done;
};

struct Loop {
  int threads;
  Order order;
  void (*run)(const void* data, Index task, int slot);
  const void* data;
  TaskRange* ranges;  // one for each thread

  // The thread's own tasks, then what the others have left.
  void work(int slot) const {
    for (int k = 0; k < threads; ++k) {
      TaskRange& range = ranges[(slot + k) % threads];
      const Index count = range.last - range.first;
      for (Index i; (i = __atomic_fetch_add(&range.taken, 1, __ATOMIC_RELAXED)) < count;)
        run(data, order == Order::forward ? range.first + i : range.last - 1 - i, slot);
    }
    ranges[slot].done = Clock::now();
  }
};

// Its threads wait for the next loop at a cache line, and come to it when they see it; a loop waits for those
// alone that have come. One of OpenMP's teams for each loop takes 1.1 us where the cores share no cache, this
// one 0.4, and it waits for all of its threads.
class StandingTeam {
 public:
  explicit StandingTeam(int threads) : threads_(threads) {}
  int threads() const { return threads_; }

  // Of the thread in slot 0: a loop, until all of its tasks are done.
  void run(const Loop& loop) {
    loop_ = loop;
    call_.store(call_ + 1);
    loop.work(0);
    call_.store(call_ + 1);  // closed: who has not come yet no longer may
    for (int spins = 0; present_.load() > 0; ++spins) relax(spins);
  }
  void dismiss() { call_.store(dismissed); }

  // Of the other threads: every loop, until the team is dismissed.
  void serve(int slot) {
    for (int last = 0, spins = 0;; ++spins) {
      const int call = call_.load(std::memory_order_acquire);
      if (call == dismissed) return;
      if (call == last || call % 2 == 0) {
        relax(spins);
        continue;
      }
      present_.fetch_add(1);
      if (call_.load() == call && slot < loop_.threads) loop_.work(slot);
      present_.fetch_sub(1);
      last = call;
      spins = 0;
    }
  }

 private:
  static constexpr int dismissed = -1;
  static constexpr int most_spins = 2000;  // some 50 us, in which most of the steps between loops are done

  static void relax(int spins) {
    if (spins > most_spins) return std::this_thread::yield();
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
  }

  int threads_;
  alignas(128) std::atomic<int> call_{0};  // odd while a loop is open; the next, with the line, tells which
  Loop loop_{};
  alignas(128) std::atomic<int> present_{0};  // threads that are at the loop, but for slot 0
};

}  // namespace cnnlib
