#include "memory_limit.hpp"

#include <algorithm>

#include "cgroup.hpp"
#include "system.hpp"

namespace cnnlib {

std::size_t memory_limit() {
  static const std::size_t fixed = std::min(system_memory(), cgroup_memory_limit(own_cgroups, cgroup_mount));
  return std::min(fixed, address_space_limit());
}

}  // namespace cnnlib
