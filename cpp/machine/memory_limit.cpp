#include "memory_limit.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>

#include "cgroup.hpp"

namespace cnnlib {

std::size_t memory_limit() {
  static const std::size_t fixed = [] {
    const long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    const std::size_t machine = pages > 0 && size > 0 ? std::size_t(pages) * std::size_t(size) : SIZE_MAX;
    return std::min(machine, cgroup_memory_limit(own_cgroups, cgroup_mount));
  }();
  rlimit address_space{};
  if (getrlimit(RLIMIT_AS, &address_space) != 0 || address_space.rlim_cur == RLIM_INFINITY) return fixed;
  return std::min<std::size_t>(fixed, address_space.rlim_cur);
}

}  // namespace cnnlib
