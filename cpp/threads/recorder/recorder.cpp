#include "recorder.hpp"

#include <time.h>

#include <algorithm>
#include <memory>
#include <vector>

#include "../loop.hpp"
#include "../team.hpp"

namespace cnnlib {
namespace {

// As bench/support/virtual_cores.py reads it.
struct RecordedLoop {
  void (*run)(const void* data, Index task, int slot);
  int threads;
  int standing;           // its threads wait for it
  double caller_seconds;  // that the calling thread spent in it, waiting and the record's own time included
  Index tasks;
  const double* seconds;  // of each task
};

struct Record {
  int threads = 0;
  bool in_task = false;  // whose loops are a part of it
  std::vector<RecordedLoop> loops;
  std::vector<std::unique_ptr<double[]>> seconds;
};
thread_local Record record;

double thread_seconds() {
  timespec now;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  return double(now.tv_sec) + 1e-9 * double(now.tv_nsec);
}

}  // namespace

int recorded_threads() { return record.in_task ? 0 : record.threads; }

void record_tasks(Index tasks, int threads, bool standing,
                  void (*run)(const void* data, Index task, int slot), const void* data) {
  const double begin = thread_seconds();
  auto seconds = std::make_unique<double[]>(static_cast<std::size_t>(tasks));
  const auto run_slots = [&](int first_slot, int last_slot) {
    const CallThreads alone(1);
    double last = thread_seconds();
    for (int slot = first_slot; slot < last_slot; ++slot) {
      const Range own = range_of(tasks, slot, threads);
      for (Index task = own.first; task < own.last; ++task) {
        run(data, task, std::min(slot, 1));
        const double now = thread_seconds();
        seconds[static_cast<std::size_t>(task)] = now - last;
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
  record.loops.push_back({run, threads, standing, thread_seconds() - begin, tasks, seconds.get()});
  record.seconds.push_back(std::move(seconds));
}

}  // namespace cnnlib

#define EXPORTED extern "C" __attribute__((visibility("default")))

// Records the loops that the calling thread starts from now on, for so many threads; 0 ends the record.
EXPORTED void record_loops(int threads) { cnnlib::record = {threads, false, {}, {}}; }

// The first of the loops since then, and how many there are.
EXPORTED const cnnlib::RecordedLoop* recorded_loops(cnnlib::Index* number) {
  *number = static_cast<cnnlib::Index>(cnnlib::record.loops.size());
  return cnnlib::record.loops.data();
}
