// How much memory this process may have.
#pragma once

#include <cstddef>

namespace cnnlib {

// The least of the machine's memory, the limits of this process's cgroup and of those around it, and
// RLIMIT_AS.
std::size_t memory_limit();

}  // namespace cnnlib
