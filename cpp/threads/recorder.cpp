#include "recorder.hpp"

#include <algorithm>
#include <utility>

#include "../machine/system.hpp"
#include "loop.hpp"
#include "team.hpp"

namespace cnnlib {
namespace {

// Of loops that this thread starts; 0 in a task, whose loops are a part of it. By itself: each loop reads it.
thread_local int threads_to_record = 0;
thread_local std::vector<RecordedLoop> record;

}  // namespace

void record_loops(int threads) {
  threads_to_record = threads;
  record.clear();
}
std::vector<RecordedLoop> take_recorded_loops() { return std::exchange(record, {}); }
int recorded_threads() { return threads_to_record; }

void record_tasks(Index tasks, int threads, bool standing,
                  void (*run)(const void* data, Index task, int slot), const void* data, Place place) {
  const double begin = thread_seconds();
  RecordedLoop loop{place, threads, standing, 0, std::vector<double>(static_cast<std::size_t>(tasks))};
  const auto run_slots = [&](int first_slot, int last_slot) {
    const SingleThread scope;
    double last = thread_seconds();
    for (int slot = first_slot; slot < last_slot; ++slot) {
      const Range own = range_of(tasks, slot, threads);
      for (Index task = own.first; task < own.last; ++task) {
        run(data, task, std::min(slot, 1));
        const double now = thread_seconds();
        loop.seconds[static_cast<std::size_t>(task)] = now - last;
        last = now;
      }
    }
  };
  CaughtError error;
  const int recorded = std::exchange(threads_to_record, 0);
  if (threads == 1)
    run_slots(0, 1);
  else
    on_team(2, [&](int slot, int team) {
      error.keep_from([&] { run_slots(slot == 0 ? 0 : 1, slot == 0 && team == 2 ? 1 : threads); });
    });
  threads_to_record = recorded;
  error.rethrow();
  loop.caller_seconds = thread_seconds() - begin;
  record.push_back(std::move(loop));
}

}  // namespace cnnlib
