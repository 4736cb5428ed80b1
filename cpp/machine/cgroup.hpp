// What this process may have: memory, and processors.
#pragma once

#ifdef CNNLIB_CUTS_ALONE
#error "a cut decides bits: it must follow from neither the threads nor the machine (kernels/cuts.cpp)"
#endif

#include <cstddef>
#include <string>

namespace cnnlib {

// The least of the machine's memory, the limits of this process's cgroup and of those around it, and
// RLIMIT_AS.
std::size_t memory_limit();

// The limits of the control groups that a process is in, and of those around them, where `membership`
// is a file like /proc/self/cgroup, `mount` a folder like /sys/fs/cgroup.
constexpr const char* own_cgroups = "/proc/self/cgroup";
constexpr const char* cgroup_mount = "/sys/fs/cgroup";

// The least limit of memory in bytes (v2's memory.max, v1's memory.limit_in_bytes); SIZE_MAX without any.
std::size_t cgroup_memory_limit(const std::string& membership, const std::string& mount);

// The processors that the least quota of their time is worth (v2's cpu.max, v1's cpu.cfs_quota_us over
// cpu.cfs_period_us), rounded up; 0 without any.
int cgroup_cpus(const std::string& membership, const std::string& mount);

}  // namespace cnnlib
