#include "recorder.hpp"

#ifdef CNNLIB_VIRTUAL_CORES

#include <time.h>

#include <utility>

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
  RecordedLoop loop{record.next, threads, standing, {}};
  loop.seconds.reserve(static_cast<std::size_t>(tasks));
  record.in_task = true;
  const SingleThread scope;
  double last = thread_seconds();
  for (int slot = 0; slot < threads; ++slot) {
    for (Index task = tasks * slot / threads; task < tasks * (slot + 1) / threads; ++task) {
      run(data, task, slot);
      const double now = thread_seconds();
      loop.seconds.push_back(now - last);
      last = now;
    }
  }
  record.in_task = false;
  record.loops.push_back(std::move(loop));
}

}  // namespace cnnlib

#endif
