// Loops over tasks, and teams that stand between them.
#include "parallel.hpp"

#include <algorithm>
#include <atomic>

#include "../machine/processor.hpp"
#include "../machine/system.hpp"
#include "../memory/scratch.hpp"
#include "missing_cores.hpp"
#include "recorder/recorder.hpp"
#include "standing_team.hpp"
#include "team.hpp"

namespace cnnlib {
namespace {

thread_local StandingTeam* standing_team = nullptr;  // of loops that this thread starts

std::atomic<bool> noticing{true};

int cores() {
  static const int number = physical_cores();
  return number;
}

}  // namespace

MissingCores& missing_cores() {
  static MissingCores all;
  return all;
}

void notice_missing_cores(bool notice) {
  noticing = notice;
  if (!notice) missing_cores().forget();
}

void indices_of(Index task, const Index* sizes, int n, Index* at) {
  for (int i = n - 1; i >= 0; task /= sizes[i--]) at[i] = task % sizes[i];
}

bool in_standing_team() { return standing_team != nullptr; }

void run_tasks(Index tasks, int threads, Order order, void (*run)(const void* data, Index task, int slot),
               const void* data) {
  threads = static_cast<int>(std::min<Index>(threads, tasks));
#ifdef CNNLIB_VIRTUAL_CORES
  if (tasks > 0 && recorded_threads() > 0)
    return record_tasks(tasks, threads, standing_team != nullptr, run, data);
#endif
  if (threads <= 1) {
    for (Index i = 0; i < tasks; ++i) run(data, order == Order::forward ? i : tasks - 1 - i, 0);
    return;
  }
  const Scratch scratch(checked_product(sizeof(TaskRange), static_cast<std::size_t>(threads)));
  auto* ranges = static_cast<TaskRange*>(scratch.data());
  const auto begin = Clock::now();
  for (Index t = 0; t < threads; ++t) {
    const Range own = range_of(tasks, t, threads);
    ranges[t] = {own.first, own.last, 0, begin};
  }
  CaughtError error;
  const Loop loop{threads, order, run, data, ranges, &error};
  if (standing_team != nullptr)
    standing_team->run(loop);
  else
    on_team(threads, [&](int slot, int) { loop.work(slot); });
  error.rethrow();
  if (!noticing) return;
  // Of the threads that had work: who found none was done at once, and tells nothing about cores.
  auto first = Clock::time_point::max(), last = begin;
  int worked = 0;
  for (int t = 0; t < threads; ++t)
    if (ranges[t].done > begin) {
      first = std::min(first, ranges[t].done);
      last = std::max(last, ranges[t].done);
      ++worked;
    }
  if (worked > 1) missing_cores().note(num_threads(), cores(), begin, first, last);
}

void with_standing_team(int threads, void (*body)(const void* data), const void* data) {
#ifdef CNNLIB_VIRTUAL_CORES
  if (recorded_threads() > 0 && standing_team == nullptr && threads > 1) {
    StandingTeam team;
    const CallThreads scope(threads);
    standing_team = &team;
    body(data);
    standing_team = nullptr;
    return;
  }
#endif
  if (standing_team != nullptr || threads <= 1 || threads > cores() || !may_spin()) return body(data);
  StandingTeam team;
  CaughtError error;
  const auto begin = Clock::now();
  auto dismissed = begin;
  on_team(threads, [&](int slot, int) {
    if (slot > 0) return team.serve(slot);
    const CallThreads scope(threads);
    standing_team = &team;
    error.keep_from([&] { body(data); });
    standing_team = nullptr;
    team.dismiss();
    dismissed = Clock::now();
  });
  if (noticing) missing_cores().note(num_threads(), cores(), begin, dismissed, Clock::now());
  error.rethrow();
}

void watch_for_fork() { at_fork(nullptr, nullptr, &forget_teams_after_fork); }

}  // namespace cnnlib
