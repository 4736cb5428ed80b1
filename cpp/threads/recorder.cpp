#include "recorder.hpp"

#ifdef CNNLIB_VIRTUAL_CORES

#include <time.h>

#include <algorithm>
#include <utility>

#include "loop.hpp"
#include "team.hpp"

namespace cnnlib {
namespace {

struct Record {
  int threads = 0;
  const char* next = "";
  bool in_task = false;  // whose loops are a part of it
  std::vector<RecordedLoop> loops;
};
thread_local Record record;

double thread_seconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return double(now.tv_sec) + 1e-9 * double(now.tv_nsec);
}

}  // namespace

void record_loops(int threads) { record = {threads, "", false, {}}; }
std::vector<RecordedLoop> take_recorded_loops() { return std::exchange(record.loops, {}); }
int recorded_threads() { return record.in_task ? 0 : record.threads; }
void name_next_loop(const char* body) { record.next = body; }

void record_tasks(Index tasks, int threads, bool standing,
                  void (*run)(const void* data, Index task, int slot), const void* data) {
  const double begin = thread_seconds();
  RecordedLoop loop{record.next, threads, standing, 0, std::vector<double>(static_cast<std::size_t>(tasks))};
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
  record.in_task = true;
  if (threads == 1)
    run_slots(0, 1);
  else
    on_team(2, [&](int slot, int team) {
      error.keep_from([&] { run_slots(slot == 0 ? 0 : 1, slot == 0 && team == 2 ? 1 : threads); });
    });
  record.in_task = false;
  error.rethrow();
  loop.caller_seconds = thread_seconds() - begin;
  record.loops.push_back(std::move(loop));
}

}  // namespace cnnlib

#endif
