#include "parallel.hpp"

#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <fstream>
#include <string>
#include <thread>

namespace cnnlib {
namespace {

// Below this many operations a thread costs more to wake than it saves.
constexpr double work_per_thread = 40e3;

std::atomic<bool> forked{false};
thread_local int single_thread = 0;

// CPUs that a cgroup quota grants (rounded up), or 0 without one.
int cgroup_cpus() {
  double quota = 0, period = 0;
  std::string text;
  std::ifstream v2("/sys/fs/cgroup/cpu.max");
  if (v2 >> text >> period && text != "max") quota = std::atof(text.c_str());
  if (quota <= 0) {
    std::ifstream v1_quota("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"),
        v1_period("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
    if (!(v1_quota >> quota) || !(v1_period >> period)) return 0;
  }
  return quota > 0 && period > 0 ? std::max(1, static_cast<int>((quota + period - 1) / period)) : 0;
}

int default_threads() {
  // The runtime has already read OMP_NUM_THREADS, which wins over every guess.
  if (std::getenv("OMP_NUM_THREADS") != nullptr) return omp_get_max_threads();
  int n = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
#ifdef __linux__
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) n = std::min(n, CPU_COUNT(&set));
#endif
  const int quota = cgroup_cpus();
  return quota > 0 ? std::min(n, quota) : n;
}

std::atomic<int>& limit() {
  static std::atomic<int> threads{default_threads()};
  return threads;
}

using Clock = std::chrono::steady_clock;

std::atomic<bool> sharing_expensive{false};
std::atomic<Clock::rep> measure_sharing_at{1};  // 0: never

// The least time that a cache line takes from the first thread to the last one and back.
Clock::duration round_trip(int threads) {
  constexpr int trips = 12;
  alignas(128) std::atomic<int> line{0};
  auto least = Clock::duration::zero();
#pragma omp parallel num_threads(threads)
  {
    const int slot = omp_get_thread_num(), last = omp_get_num_threads() - 1;
    if (last > 0 && slot == last)
      for (int i = 0; i < trips; ++i) {
        while (line.load(std::memory_order_acquire) != 2 * i + 1) {
        }
        line.store(2 * i + 2, std::memory_order_release);
      }
    if (last > 0 && slot == 0)
      for (int i = 0; i < trips; ++i) {
        const auto start = Clock::now();
        line.store(2 * i + 1, std::memory_order_release);
        while (line.load(std::memory_order_acquire) != 2 * i + 2) {
        }
        const auto trip = Clock::now() - start;
        least = i > 0 ? std::min(least, trip) : trip;
      }
  }
  return least;
}

}  // namespace

bool sharing_is_expensive(int threads) {
  constexpr Clock::duration expensive = std::chrono::nanoseconds(180), valid = std::chrono::milliseconds(100);
  if (measure_sharing_at > 0 && Clock::now().time_since_epoch().count() >= measure_sharing_at) {
    sharing_expensive = round_trip(threads) > expensive;
    measure_sharing_at = (Clock::now().time_since_epoch() + valid).count();
  }
  return sharing_expensive;
}

void assume_sharing(std::optional<bool> expensive) {
  measure_sharing_at = expensive ? 0 : 1;
  sharing_expensive = expensive.value_or(false);
}

// omp_get_max_threads carries what threadpoolctl and omp_set_num_threads asked of this thread.
int num_threads() {
  return single_thread > 0 ? 1 : std::max(1, std::min(limit().load(), omp_get_max_threads()));
}

CaughtError::CaughtError() = default;
CaughtError::~CaughtError() = default;
void CaughtError::keep() {
  const std::lock_guard<std::mutex> lock(access_);
  error_ = std::current_exception();
}
void CaughtError::rethrow() {
  if (error_) std::rethrow_exception(error_);
}

SingleThread::SingleThread() { ++single_thread; }
SingleThread::~SingleThread() { --single_thread; }

void set_num_threads(int n) {
  limit() = n;
  omp_set_num_threads(n);
}

int threads_for(double work) {
  const int most = num_threads();
  return work >= work_per_thread * most ? most : std::max(1, static_cast<int>(work / work_per_thread));
}

void watch_for_fork() {
  pthread_atfork(nullptr, nullptr, [] { forked = true; });
}

void run_after_fork_check(void (*f)(void*), void* data) {
  if (!forked) return f(data);
  const int threads = omp_get_max_threads();
  std::exception_ptr error;
  std::thread helper([&] {
    omp_set_num_threads(threads);
    try {
      f(data);
    } catch (...) {
      error = std::current_exception();
    }
  });
  helper.join();
  if (error) std::rethrow_exception(error);
}

}  // namespace cnnlib
