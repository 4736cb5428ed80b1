// A pool of threads of our own.
#pragma once

#include <chrono>
#include <mutex>
#include <vector>

#include "team.hpp"

namespace cnnlib {

// The threads of a process, which its loops share: a loop takes those that are free. A thread that is slow to
// come is not waited for.
class ThreadPool {
 public:
  void run(int threads, TeamBody body, const void* data);

 private:
  struct Job;
  struct Worker;

  // Takes free threads, and starts more while there are fewer than a team of `threads` needs.
  std::vector<Worker*> take(int threads);
  void give_back(const std::vector<Worker*>& workers);

  std::mutex access_;
  std::vector<Worker*> free_;
  int count_ = 0;
  std::chrono::steady_clock::time_point start_again_at_{};  // no sooner after the system refused a thread
};

}  // namespace cnnlib
