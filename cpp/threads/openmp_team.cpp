#include "team.hpp"

#ifdef CNNLIB_OPENMP

#include <omp.h>

#include <algorithm>
#include <mutex>
#include <system_error>
#include <thread>
#include <vector>

#include "parallel.hpp"

#ifdef __has_feature
#if __has_feature(thread_sanitizer)
#define CNNLIB_THREAD_SANITIZER
#endif
#endif
#ifdef __SANITIZE_THREAD__
#define CNNLIB_THREAD_SANITIZER
#endif

// The OpenMP runtime is not compiled with ThreadSanitizer, which therefore sees neither that a team begins
// after what its caller did before, nor that all of it has ended before the caller goes on. Both are told
// here; the compiler's own hand-over of variables to the team comes before that and stays unchecked.
#ifdef CNNLIB_THREAD_SANITIZER
#include <sanitizer/tsan_interface.h>
#define CNNLIB_TEAM_UNCHECKED __attribute__((no_sanitize("thread"), noinline))
#define CNNLIB_TEAM_PASSES_ON(place) __tsan_release(place)
#define CNNLIB_TEAM_TAKES_OVER(place) __tsan_acquire(place)
#else
#define CNNLIB_TEAM_UNCHECKED
#define CNNLIB_TEAM_PASSES_ON(place) static_cast<void>(place)
#define CNNLIB_TEAM_TAKES_OVER(place) static_cast<void>(place)
#endif

namespace cnnlib {
namespace {

// How many threads OpenMP was asked for last. libgomp ends the threads that a smaller team leaves over and
// starts new ones for a larger team, which takes some 10 us each: a team keeps its size over loops that need
// fewer.
thread_local int team_size = 1;

// Tries to start so many threads at a time, and ends them.
bool can_start(int threads) {
  std::mutex end;
  std::unique_lock<std::mutex> not_yet(end);
  bool started = true;
  std::vector<std::thread> all;
  try {
    all.reserve(static_cast<std::size_t>(threads));
    for (int i = 0; i < threads; ++i) all.emplace_back([&] { const std::lock_guard<std::mutex> lock(end); });
  } catch (const std::exception&) {  // no thread, or no memory for what starts it
    started = false;
  }
  not_yet.unlock();
  for (std::thread& thread : all) thread.join();
  return started;
}

CNNLIB_TEAM_UNCHECKED void run_parallel(int started, int threads, TeamBody body, const void* data) {
  char begin = 0, end = 0;
  CNNLIB_TEAM_PASSES_ON(&begin);
#pragma omp parallel num_threads(started)
  {
    CNNLIB_TEAM_TAKES_OVER(&begin);
    const int slot = omp_get_thread_num();
    if (slot < threads) body(data, slot, std::min(threads, omp_get_num_threads()));
    CNNLIB_TEAM_PASSES_ON(&end);
  }
  CNNLIB_TEAM_TAKES_OVER(&end);
}

}  // namespace

bool run_openmp_team(int threads, TeamBody body, const void* data) {
  if (threads > team_size && !can_start(threads - team_size)) return false;
  team_size = std::max(threads, std::min(team_size, num_threads()));
  run_parallel(team_size, threads, body, data);
  return true;
}

int openmp_threads() { return omp_get_max_threads(); }

int openmp_initial_threads() {
  static const int threads = [] {
    int found = omp_get_max_threads();
    try {
      std::thread([&] { found = omp_get_max_threads(); }).join();
    } catch (const std::system_error&) {  // the calling thread's own, then
    }
    return found;
  }();
  return threads;
}

void set_openmp_threads(int threads) { omp_set_num_threads(threads); }

}  // namespace cnnlib

#else

#include <algorithm>
#include <cstdlib>
#include <thread>

namespace cnnlib {

bool run_openmp_team(int, TeamBody, const void*) { return false; }
// Nobody changes it: what the environment says, as OpenMP reads it, which takes all processors where that is
// no number.
int openmp_initial_threads() {
  static const int threads = [] {  // a call asks often, and Windows is slow to say
    constexpr long most = 1024;
    const char* text = std::getenv("OMP_NUM_THREADS");
    const long asked = text != nullptr ? std::strtol(text, nullptr, 10) : 0;
    const long wanted = asked > 0 ? asked : static_cast<long>(std::thread::hardware_concurrency());
    return static_cast<int>(std::clamp(wanted, 1L, most));
  }();
  return threads;
}
int openmp_threads() { return openmp_initial_threads(); }
void set_openmp_threads(int) {}

}  // namespace cnnlib

#endif
