#include "parallel.hpp"

#include <pthread.h>
#include <strings.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <thread>

#include "../machine/cgroup.hpp"
#include "../machine/processor.hpp"
#include "../memory/scratch.hpp"
#include "missing_cores.hpp"
#include "standing_team.hpp"
#include "team.hpp"

namespace cnnlib {
namespace {

// Below this many operations a thread costs more to wake than it saves.
constexpr double work_per_thread = 40e3;
// The same of one that waits for it.
constexpr double work_of_standing_thread = 10e3;

std::atomic<bool> forked{false};
thread_local int single_thread = 0;
thread_local StandingTeam* standing_team = nullptr;  // of loops that this thread starts

// One for each core: two hyper-threads of a core share its arithmetic units, which one of them keeps busy.
int default_threads() {
  // The runtime has already read OMP_NUM_THREADS, which wins over every guess.
  if (std::getenv("OMP_NUM_THREADS") != nullptr) return omp_get_max_threads();
  const int cores = physical_cores(), quota = cgroup_cpus(own_cgroups, cgroup_mount);
  return quota > 0 ? std::min(cores, quota) : cores;
}

std::atomic<int>& limit() {
  static std::atomic<int> threads{default_threads()};
  return threads;
}

MissingCores missing_cores;
std::atomic<bool> noticing{true};

int cores() {
  static const int number = physical_cores();
  return number;
}

}  // namespace

void notice_missing_cores(bool notice) {
  noticing = notice;
  if (!notice) missing_cores.forget();
}

bool has_standing_team() { return standing_team != nullptr; }

// omp_get_max_threads carries what threadpoolctl and omp_set_num_threads asked of this thread.
int num_threads() {
  if (single_thread > 0) return 1;
  if (standing_team != nullptr) return standing_team->threads();
  return std::max(1, std::min(limit().load(), omp_get_max_threads()));
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

void run_tasks(Index tasks, int threads, Order order, void (*run)(const void* data, Index task, int slot),
               const void* data) {
  const Scratch scratch(checked_product(sizeof(TaskRange), static_cast<std::size_t>(threads)));
  auto* ranges = static_cast<TaskRange*>(scratch.data());
  const auto begin = Clock::now();
  for (Index t = 0; t < threads; ++t) ranges[t] = {tasks * t / threads, tasks * (t + 1) / threads, 0, begin};
  const Loop loop{threads, order, run, data, ranges};
  if (standing_team != nullptr)
    standing_team->run(loop);
  else
    on_team(threads, [&](int slot, int) { loop.work(slot); });
  const auto [first, last] = std::minmax_element(
      ranges, ranges + threads, [](const TaskRange& a, const TaskRange& b) { return a.done < b.done; });
  if (first->done > begin && noticing)
    missing_cores.note(num_threads(), cores(), begin, first->done, last->done);
}

void with_standing_team(int threads, void (*body)(const void* data), const void* data) {
  const char* policy = std::getenv("OMP_WAIT_POLICY");
  const bool may_spin = policy == nullptr || strcasecmp(policy, "passive") != 0;
  if (standing_team != nullptr || threads <= 1 || threads > cores() || !may_spin) return body(data);
  StandingTeam team(threads);
  CaughtError error;
  const auto begin = Clock::now();
  auto dismissed = begin;
  on_team(threads, [&](int slot, int) {
    if (slot > 0) return team.serve(slot);
    standing_team = &team;
    try {
      body(data);
    } catch (...) {
      error.keep();
    }
    standing_team = nullptr;
    team.dismiss();
    dismissed = Clock::now();
  });
  if (noticing) missing_cores.note(num_threads(), cores(), begin, dismissed, Clock::now());
  error.rethrow();
}

void set_num_threads(int n) {
  limit() = n;
  omp_set_num_threads(n);
}

int threads_for(double work) {
  const int most = missing_cores.left(num_threads());
  const double least = standing_team != nullptr ? work_of_standing_thread : work_per_thread;
  return work >= least * most ? most : std::max(1, static_cast<int>(work / least));
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
