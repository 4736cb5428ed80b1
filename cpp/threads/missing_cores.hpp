// Cores that other processes keep busy. A thread that has to wait for its turn keeps its whole team waiting,
// which spins meanwhile: fewer threads are then faster. Told from how long the threads of a loop wait for
// each other; no bit of a result depends on it.
#pragma once

#ifdef CNNLIB_CUTS_ALONE
#error "a cut decides bits: it must follow from neither the threads nor the machine (kernels/cuts.cpp)"
#endif

#include <algorithm>
#include <atomic>
#include <chrono>

namespace cnnlib {

class MissingCores {
 public:
  using Clock = std::chrono::steady_clock;
  using Time = Clock::time_point;

  // How many of `threads` to use now.
  int left(int threads) {
    return few_.load(std::memory_order_relaxed) == 0 ? threads : left(threads, Clock::now());
  }
  int left(int threads, Time now) {
    const int few = few_.load(std::memory_order_relaxed);
    if (few == 0 || few >= threads) return threads;
    if (now.time_since_epoch().count() < until_.load(std::memory_order_relaxed)) return few;
    few_.store(0, std::memory_order_relaxed);  // all are tried again
    return threads;
  }

  void forget() { few_.store(0, std::memory_order_relaxed); }

  // A loop began, and the first and the last of its threads were done at these times, where `threads` may
  // work on a machine of `cores`.
  void note(int threads, int cores, Time begin, Time first, Time last) {
    const auto wait = last - first;
    if (wait > turn && wait > most_uneven * (first - begin)) {
      const int few = few_.load(std::memory_order_relaxed), now = few > 0 ? std::min(few, threads) : threads;
      const int doublings = doublings_.load(std::memory_order_relaxed);
      few_.store(now > cores ? cores : std::max(1, now - 1), std::memory_order_relaxed);
      until_.store((last + pause * (1 << doublings)).time_since_epoch().count(), std::memory_order_relaxed);
      doublings_.store(std::min(doublings + 1, most_doublings), std::memory_order_relaxed);
    } else if (doublings_.load(std::memory_order_relaxed) > 0 &&
               last.time_since_epoch().count() > until_.load(std::memory_order_relaxed) + pause.count()) {
      doublings_.store(0, std::memory_order_relaxed);  // all have worked for a while
    }
  }

 private:
  // Shorter waits are not for a processor: a scheduler's turn takes milliseconds.
  static constexpr Clock::duration turn = std::chrono::milliseconds(1);
  // Times the work of the first: longer than the last of some tasks keeps one thread at work beside the
  // others, even where the tasks are not alike.
  static constexpr int most_uneven = 3;
  static constexpr Clock::duration pause = std::chrono::milliseconds(20);
  static constexpr int most_doublings = 5;  // then a look at what the others do costs 1 % of the time

  std::atomic<int> few_{0}, doublings_{0};  // 0: no need to have fewer
  std::atomic<Clock::rep> until_{0};
};

// What all loops of the process note.
MissingCores& missing_cores();

}  // namespace cnnlib
