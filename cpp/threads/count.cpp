// How many threads a kernel uses.
#include <strings.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>

#include "../machine/cgroup.hpp"
#include "../machine/processor.hpp"
#include "missing_cores.hpp"
#include "parallel.hpp"
#include "recorder/recorder.hpp"
#include "standing_team.hpp"
#include "team.hpp"

namespace cnnlib {
namespace {

// Below this many operations a thread costs more to wake than it saves.
constexpr double work_per_thread = 40e3;
// The same of one that waits for it.
constexpr double work_of_standing_thread = 10e3;

thread_local int of_call = 0;  // 0: none was fixed
// What OpenMP would use for the calling thread's loops if nobody but set_num_threads had said anything.
thread_local int own_openmp_threads = 0;  // 0: not yet known

// One for each core: two hyper-threads of a core share its arithmetic units, which one of them keeps busy.
int default_threads() {
  // The runtime has already read OMP_NUM_THREADS, which wins over every guess.
  if (std::getenv("OMP_NUM_THREADS") != nullptr) return openmp_initial_threads();
  const int cores = physical_cores(), quota = cgroup_cpus(own_cgroups, cgroup_mount);
  return quota > 0 ? std::min(cores, quota) : cores;
}

std::atomic<int>& limit() {
  static std::atomic<int> threads{default_threads()};
  return threads;
}

// The limit counts in every thread, unless somebody told OpenMP otherwise in this one.
int allowed_threads() {
#ifdef CNNLIB_VIRTUAL_CORES
  if (recorded_threads() > 0) return recorded_threads();
#endif
  if (own_openmp_threads == 0) own_openmp_threads = openmp_initial_threads();
  const int asked = openmp_threads(), most = limit().load();
  return std::max(1, asked == own_openmp_threads ? most : std::min(most, asked));
}

}  // namespace

int num_threads() { return of_call > 0 ? of_call : allowed_threads(); }

void set_num_threads(int n) {
  limit() = n;
  set_openmp_threads(n);
  own_openmp_threads = openmp_threads();
}

CallThreads::CallThreads(int threads) : before_(of_call) {
  if (threads > 0)
    of_call = threads;
  else if (of_call == 0)
    of_call = missing_cores().left(allowed_threads());
}
CallThreads::~CallThreads() { of_call = before_; }

int threads_for(double work) {
  const int most = num_threads();
  const double least = in_standing_team() ? work_of_standing_thread : work_per_thread;
  return work >= least * most ? most : std::max(1, static_cast<int>(work / least));
}

bool may_spin() {
  static const bool may = [] {
    const char* policy = std::getenv("OMP_WAIT_POLICY");
    return policy == nullptr || strcasecmp(policy, "passive") != 0;
  }();
  return may;
}

}  // namespace cnnlib
