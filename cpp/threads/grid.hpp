// How a pass is cut into tasks.
#pragma once

#include "parallel.hpp"

namespace cnnlib {

// The share of their time that threads are at work on so many equal tasks.
inline double busy_share(Index tasks, int threads) {
  return double(tasks) / double((tasks + threads - 1) / threads * threads);
}

// Whether that is nine tenths or more.
inline bool keep_busy(Index tasks, int threads) { return busy_share(tasks, threads) >= 0.9; }

// Into how many tasks each of `tasks` equal ones had better be split, from 1 to `most`, where a split is
// worth a factor `gain` of the time: the fewest that keep the threads busy, or nearly the best of those that
// give a thread up to four tasks.
inline Index splits_for(Index tasks, Index most, int threads, double gain = 1.05) {
  constexpr Index tasks_of_thread = 4;
  Index best = 1;
  for (Index n = 2;
       n <= most && (n - 1) * tasks < tasks_of_thread * threads && !keep_busy(best * tasks, threads); ++n)
    if (busy_share(n * tasks, threads) > (best == 1 ? gain : 1.05) * busy_share(best * tasks, threads))
      best = n;
  return best;
}

}  // namespace cnnlib
