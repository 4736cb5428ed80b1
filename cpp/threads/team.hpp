// Teams of threads. Two engines run them: OpenMP, and a pool of our own where OpenMP is not built in, in a
// forked child, and where the system refuses to start as many threads as OpenMP would.
#pragma once

#ifdef CNNLIB_CUTS_ALONE
#error "a cut decides bits: it must follow from neither the threads nor the machine (kernels/cuts.cpp)"
#endif

#include <thread>

namespace cnnlib {

// body(data, slot, size): slot 0 is the caller, and size is how many threads may come.
using TeamBody = void (*)(const void* data, int slot, int size);

// Runs a body on up to `threads` threads and waits for those that came. A body has to finish the work whoever
// comes.
void run_team(int threads, TeamBody body, const void* data);

template <class Body>
void on_team(int threads, const Body& body) {
  run_team(
      threads, [](const void* data, int slot, int size) { (*static_cast<const Body*>(data))(slot, size); },
      &body);
}

// Makes every team from now on one of the pool, or of OpenMP again where it is built in. Tests try both.
void use_thread_pool(bool pool);

// Forgets the threads that did not survive a fork. Called in the child.
void forget_teams_after_fork();

// One step of waiting for another thread. After some 50 us the processor is offered to others.
inline void spin(int spins) {
  constexpr int most_spins = 2000;
  if (spins > most_spins) return std::this_thread::yield();
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("isb");  // as long as x86's pause; most processors skip `yield`
#endif
}

// OpenMP's threads, where the build has OpenMP.
#ifdef CNNLIB_OPENMP
constexpr bool has_openmp = true;
#else
constexpr bool has_openmp = false;
#endif

// Runs a team, or returns false where the system does not start as many threads. libgomp would end the
// process.
bool run_openmp_team(int threads, TeamBody body, const void* data);

// What omp_set_num_threads or threadpoolctl asked of the calling thread, and what a new thread starts with.
int openmp_threads();
int openmp_initial_threads();
void set_openmp_threads(int threads);

// How many threads a team got when the system first refused more: once after that, otherwise 0.
int take_thread_shortage();

}  // namespace cnnlib
