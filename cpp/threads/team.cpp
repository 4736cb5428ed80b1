#include "team.hpp"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "parallel.hpp"

namespace cnnlib {
namespace {

// What a team of the pool runs, on the stack of its caller.
struct Job {
  TeamBody body;
  const void* data;
  int size;
  std::atomic<int> open;  // offers that are neither done nor taken back
};

struct alignas(128) Worker {
  std::atomic<Job*> offer{nullptr};
  int slot = 0;  // written before the offer
  std::atomic<bool> asleep{false};
  std::mutex access;
  std::condition_variable wake;

  void give(Job* job, int to_slot) {
    slot = to_slot;
    offer.store(job);
    if (!asleep.load()) return;
    {
      const std::lock_guard<std::mutex> lock(access);
    }  // it waits, or has not yet looked
    wake.notify_one();
  }

  [[noreturn]] void serve(bool may_spin) {
    for (;;) {
      await(may_spin);
      Job* job = offer.exchange(nullptr);
      if (job == nullptr) continue;  // taken back
      job->body(job->data, slot, job->size);
      job->open.fetch_sub(1, std::memory_order_release);
    }
  }

 private:
  void await(bool may_spin) {
    constexpr int most_spins = 1000;  // some 25 us: the next loop of a layer comes sooner
    for (int spins = 0; may_spin && spins < most_spins; ++spins) {
      if (offer.load(std::memory_order_relaxed) != nullptr) return;
      spin(spins);
    }
    std::unique_lock<std::mutex> lock(access);
    asleep.store(true);
    wake.wait(lock, [&] { return offer.load() != nullptr; });
    asleep.store(false);
  }
};

std::atomic<int> shortage{0};

void note_thread_shortage(int threads) {
  static std::atomic<bool> noted{false};
  if (!noted.exchange(true)) shortage = threads;
}

// The threads of a process, which its loops share: a loop takes those that are free. A thread that is slow to
// come is not waited for.
class ThreadPool {
 public:
  void run(int threads, TeamBody body, const void* data) {
    const std::vector<Worker*> workers = take(threads);
    const int count = static_cast<int>(workers.size());
    Job job{body, data, count + 1, {count}};
    for (int k = 0; k < count; ++k) workers[static_cast<std::size_t>(k)]->give(&job, k + 1);
    body(data, 0, count + 1);
    for (Worker* worker : workers) {
      Job* offered = &job;
      if (worker->offer.compare_exchange_strong(offered, nullptr)) job.open.fetch_sub(1);
    }
    for (int spins = 0; job.open.load(std::memory_order_acquire) > 0; ++spins) spin(spins);
    give_back(workers);
  }

 private:
  // Takes free threads, and starts more while there are fewer than a team of `threads` needs.
  std::vector<Worker*> take(int threads) {
    constexpr auto pause = std::chrono::milliseconds(100);
    const auto now = &std::chrono::steady_clock::now;
    const std::lock_guard<std::mutex> lock(access_);
    const auto wanted = static_cast<std::size_t>(threads - 1);
    free_.reserve(wanted);
    while (free_.size() < wanted && count_ < threads - 1 && now() >= start_again_at_) {
      auto worker = std::make_unique<Worker>();
      try {
        std::thread([w = worker.get(), spins = may_spin()] { w->serve(spins); }).detach();
      } catch (const std::system_error&) {
        note_thread_shortage(count_ + 1);
        start_again_at_ = now() + pause;
        break;
      }
      free_.push_back(worker.release());  // it lives as long as the process
      ++count_;
    }
    const auto first =
        free_.size() > wanted ? free_.end() - static_cast<std::ptrdiff_t>(wanted) : free_.begin();
    std::vector<Worker*> taken(first, free_.end());
    free_.erase(first, free_.end());
    return taken;
  }
  void give_back(const std::vector<Worker*>& workers) {
    const std::lock_guard<std::mutex> lock(access_);
    free_.insert(free_.end(), workers.rbegin(), workers.rend());
  }

  std::mutex access_;
  std::vector<Worker*> free_;
  int count_ = 0;
  std::chrono::steady_clock::time_point start_again_at_{};  // no sooner after the system refused a thread
};

std::atomic<bool> pooled{!has_openmp};

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

}  // namespace cnnlib
