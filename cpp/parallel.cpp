#include "parallel.hpp"

#include <pthread.h>
#include <strings.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <exception>
#include <thread>

#include "cgroup.hpp"
#include "machine.hpp"
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

std::atomic<bool> sharing_expensive{false};
std::atomic<Clock::rep> measure_sharing_at{1};  // 0: never
std::atomic<int> failed_measurements{0};        // since the last one that came to an end

// A cache line that two threads hand back and forth. Neither waits long for the other, which need not run at
// all: when one gives up so does the other.
class Exchange {
 public:
  // The number is seen, or awaited in vain.
  bool await(int number, int most_spins, bool yield) {
    for (int spin = 0; spin < most_spins; ++spin) {
      const int seen = line_.load(std::memory_order_acquire);
      if (seen == number) return true;
      if (seen == given_up) return false;
      if (yield) std::this_thread::yield();
    }
    line_.store(given_up, std::memory_order_release);
    return false;
  }
  // False where the other has given up.
  bool hand_over(int number) {
    int seen = number - 1;
    return line_.compare_exchange_strong(seen, number, std::memory_order_acq_rel);
  }

 private:
  static constexpr int given_up = -1;
  alignas(128) std::atomic<int> line_{0};
};

}  // namespace

std::optional<double> sharing_round_trip(int threads) {
  constexpr int trips = 12, meeting_spins = 1000, spins = 4000;
  Exchange exchange;
  auto least = Clock::duration::zero();
  int made = 0;
  on_team(threads, [&](int slot, int size) {
    const int last = size - 1;
    // They meet in trip 0, which is not measured, yielding: one of them may still have to wake up.
    if (last > 0 && slot == last)
      for (int i = 0; i < trips; ++i)
        if (!exchange.await(2 * i + 1, i == 0 ? meeting_spins : spins, i == 0) ||
            !exchange.hand_over(2 * i + 2))
          break;
    if (last > 0 && slot == 0)
      for (; made < trips; ++made) {
        const auto start = Clock::now();
        if (!exchange.hand_over(2 * made + 1) ||
            !exchange.await(2 * made + 2, made == 0 ? meeting_spins : spins, made == 0))
          break;
        const auto trip = Clock::now() - start;
        least = made > 1 ? std::min(least, trip) : trip;
      }
  });
  if (made < trips) return std::nullopt;
  return std::chrono::duration<double, std::nano>(least).count();
}

bool sharing_is_expensive(int threads) {
  constexpr double expensive = 180;  // nanoseconds
  constexpr int most_doublings = 7;
  const auto now = [] { return Clock::now().time_since_epoch(); };
  const auto later = [&](int doublings) {
    return Clock::duration(now() + (std::chrono::milliseconds(100) * (1 << doublings))).count();
  };
  auto due = measure_sharing_at.load();
  // The threads of a standing team wait for loops, and would not answer: that is measured between its calls.
  if (standing_team == nullptr && due > 0 && now().count() >= due &&
      measure_sharing_at.compare_exchange_strong(due, later(0))) {
    const auto trip = sharing_round_trip(threads);
    const int failures = trip ? 0 : std::min(failed_measurements + 1, most_doublings);
    failed_measurements = failures;
    if (trip) sharing_expensive = *trip > expensive;
    auto next = measure_sharing_at.load();
    if (next > 0) measure_sharing_at.compare_exchange_strong(next, later(failures));
  }
  return sharing_expensive;
}

void assume_sharing(std::optional<bool> expensive) {
  measure_sharing_at = expensive ? 0 : 1;
  sharing_expensive = expensive.value_or(false);
}

void notice_missing_cores(bool notice) {
  noticing = notice;
  if (!notice) missing_cores.forget();
}

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
