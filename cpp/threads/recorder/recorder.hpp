// A record of loops for bench/many_cores.py, in the module of CNNLIB_VIRTUAL_CORES alone. As many threads as
// asked for are pretended: the calling thread runs its own range of a loop's tasks, one other thread the
// ranges of all the rest, one after the other, with one scratch. So caches hold what they would hold on so
// many cores: the caller's what it needs between loops, the other's its scratch. Each task is timed by its
// thread's own clock, which stands while other processes run.
#pragma once

#include "../parallel.hpp"

namespace cnnlib {

// Of the calling thread's record; 0 where there is none.
int recorded_threads();
void record_tasks(Index tasks, int threads, bool standing,
                  void (*run)(const void* data, Index task, int slot), const void* data);

}  // namespace cnnlib
