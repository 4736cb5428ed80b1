#include "sharing.hpp"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <thread>

#include "parallel.hpp"
#include "team.hpp"

namespace cnnlib {
namespace {

using Clock = std::chrono::steady_clock;

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
  if (!has_standing_team() && due > 0 && now().count() >= due &&
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

}  // namespace cnnlib
