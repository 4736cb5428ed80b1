// How much memory this process may have.
#pragma once

#include <cstddef>
#include <string>

namespace cnnlib {

// The least of the machine's memory, the limits of this process's cgroup and of those around it, and
// RLIMIT_AS.
std::size_t memory_limit();

// The least limit in `mount` (cgroup v2's memory.max, v1's memory/.../memory.limit_in_bytes) of the groups
// that `membership`, a file like /proc/self/cgroup, names, and of those around them; SIZE_MAX without any.
std::size_t cgroup_memory_limit(const std::string& membership, const std::string& mount);

}  // namespace cnnlib
