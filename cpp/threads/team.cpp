#include "team.hpp"

#include <atomic>

#include "openmp_team.hpp"
#include "thread_pool.hpp"

namespace cnnlib {
namespace {

std::atomic<bool> pooled{!has_openmp};
std::atomic<int> shortage{0};

// Never destroyed: its threads may wait for work until the process ends.
std::atomic<ThreadPool*> pool{nullptr};

ThreadPool& thread_pool() {
  ThreadPool* found = pool.load();
  if (found != nullptr) return *found;
  auto* made = new ThreadPool;
  if (pool.compare_exchange_strong(found, made)) return *made;
  delete made;
  return *found;
}

}  // namespace

void run_team(int threads, TeamBody body, const void* data) {
  if (threads <= 1) return body(data, 0, 1);
  if (!pooled && run_openmp_team(threads, body, data)) return;
  pooled = true;
  thread_pool().run(threads, body, data);
}

void use_thread_pool(bool use) { pooled = use || !has_openmp; }

void forget_teams_after_fork() {
  pooled = true;
  pool = nullptr;
}

int take_thread_shortage() {
  return shortage.load(std::memory_order_relaxed) == 0 ? 0 : shortage.exchange(0);
}
void note_thread_shortage(int threads) {
  static std::atomic<bool> noted{false};
  if (!noted.exchange(true)) shortage = threads;
}

}  // namespace cnnlib
