// OpenMP's threads, where the build has OpenMP.
#pragma once

#include "team.hpp"

namespace cnnlib {

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

}  // namespace cnnlib
