// A record of loops for bench/many_cores.py, in builds with CNNLIB_VIRTUAL_CORES alone. As many threads as
// asked for are pretended: the calling thread runs its own range of a loop's tasks, one other thread the
// ranges of all the rest, one after the other, with one scratch. So caches hold what they would hold on so
// many cores: the caller's what it needs between loops, the other's its scratch. Each task is timed by its
// thread's own clock, which stands while other processes run.
#pragma once

#ifdef CNNLIB_VIRTUAL_CORES

#include <string>
#include <vector>

#include "parallel.hpp"

namespace cnnlib {

struct RecordedLoop {
  std::string body;  // the function that the loop stands in
  int threads;
  bool standing;          // its threads wait for it
  double caller_seconds;  // that the calling thread spent in it, waiting and the record's own time included
  std::vector<double> seconds;  // of each task
};

// Records the loops that the calling thread starts from now on, for so many threads; 0 ends the record.
void record_loops(int threads);
// The loops since then, or since the last call.
std::vector<RecordedLoop> take_recorded_loops();

// Of the calling thread's record; 0 where there is none.
int recorded_threads();
// Says what the calling thread's next loop computes.
void name_next_loop(const char* body);
void record_tasks(Index tasks, int threads, bool standing,
                  void (*run)(const void* data, Index task, int slot), const void* data);

}  // namespace cnnlib

#endif
