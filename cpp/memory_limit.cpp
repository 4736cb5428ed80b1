#include "memory_limit.hpp"

#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <fstream>

namespace cnnlib {
namespace {

// The number in a file, or SIZE_MAX where there is none: "max", or no such file.
std::size_t number_in(const std::string& path) {
  std::ifstream file(path);
  std::uint64_t number = 0;
  return file >> number ? static_cast<std::size_t>(number) : SIZE_MAX;
}

// The least limit of a group and of those around it. In a container its path may be seen from outside, where
// no such folder exists: then the folders around it are those to be found.
std::size_t least_limit(const std::string& root, std::string group, const std::string& file) {
  std::size_t least = SIZE_MAX;
  while (true) {
    least = std::min(least, number_in(root + group + "/" + file));
    const std::size_t slash = group.rfind('/');
    if (slash == std::string::npos) return least;
    group.erase(slash);
  }
}

}  // namespace

std::size_t cgroup_memory_limit(const std::string& membership, const std::string& mount) {
  std::size_t least = SIZE_MAX;
  std::ifstream groups(membership);
  for (std::string line; std::getline(groups, line);) {  // hierarchy:controllers:/group
    const std::size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    std::string group = line.substr(second + 1);
    if (group == "/") group.clear();
    if (controllers == ",,")
      least = std::min(least, least_limit(mount, group, "memory.max"));
    else if (controllers.find(",memory,") != std::string::npos)
      least = std::min(least, least_limit(mount + "/memory", group, "memory.limit_in_bytes"));
  }
  return least;
}

std::size_t memory_limit() {
  static const std::size_t fixed = [] {
    const long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    const std::size_t machine = pages > 0 && size > 0 ? std::size_t(pages) * std::size_t(size) : SIZE_MAX;
    return std::min(machine, cgroup_memory_limit("/proc/self/cgroup", "/sys/fs/cgroup"));
  }();
  rlimit address_space{};
  if (getrlimit(RLIMIT_AS, &address_space) != 0 || address_space.rlim_cur == RLIM_INFINITY) return fixed;
  return std::min<std::size_t>(fixed, address_space.rlim_cur);
}

}  // namespace cnnlib
