// A team of threads that stays while several loops follow each other.
#pragma once

#include <atomic>

#include "loop.hpp"
#include "team.hpp"

namespace cnnlib {

// Its threads wait for the next loop at a cache line, and come to it when they see it; a loop waits for those
// alone that have come. One of OpenMP's teams for each loop takes 1.1 us where the cores share no cache, this
// one 0.4, and it waits for all of its threads.
class StandingTeam {
 public:
  // Of the thread in slot 0: a loop, until all of its tasks are done.
  void run(const Loop& loop) {
    loop_ = loop;
    call_.store(call_ + 1);
    loop.work(0);
    call_.store(call_ + 1);  // closed: who has not come yet no longer may
    for (int spins = 0; present_.load() > 0; ++spins) spin(spins);
  }
  void dismiss() { call_.store(dismissed); }

  // Of the other threads: every loop, until the team is dismissed.
  void serve(int slot) {
    for (int last = 0, spins = 0;; ++spins) {
      const int call = call_.load(std::memory_order_acquire);
      if (call == dismissed) return;
      if (call == last || call % 2 == 0) {
        spin(spins);
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
  alignas(128) std::atomic<int> call_{0};  // odd while a loop is open; the next, with the line, tells which
  Loop loop_{};
  alignas(128) std::atomic<int> present_{0};  // threads that are at the loop, but for slot 0
};

// Whether the calling thread's loops find a team.
bool in_standing_team();

}  // namespace cnnlib
