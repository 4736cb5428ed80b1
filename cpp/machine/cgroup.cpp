#include "cgroup.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <fstream>
#include <limits>

#include "system.hpp"

namespace cnnlib {
namespace {

// The number in a file, or SIZE_MAX where there is none: "max", or no such file.
std::size_t number_in(const std::string& path) {
  std::ifstream file(path);
  std::uint64_t number = 0;
  return file >> number ? static_cast<std::size_t>(number) : SIZE_MAX;
}

// Time per period, or infinity where nothing limits it: "max", -1, or no such file.
double share(std::istream& quota, std::istream& period) {
  std::string time;
  double length = 0;
  if (!(quota >> time) || !(period >> length) || length <= 0) return std::numeric_limits<double>::infinity();
  const double granted = std::atof(time.c_str());  // 0 for "max"
  return granted > 0 ? granted / length : std::numeric_limits<double>::infinity();
}

// Calls visit(folder, whether it is v2's) for the groups of `controller` and those around them. In a
// container a group's path may be seen from outside, where no such folder exists: then the folders around it
// are those to be found.
template <typename Visit>
void for_each_group(const std::string& membership, const std::string& mount, const std::string& controller,
                    const Visit& visit) {
  std::ifstream groups(membership);
  for (std::string line; std::getline(groups, line);) {  // hierarchy:controllers:/group
    const std::size_t first = line.find(':'), second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = "," + line.substr(first + 1, second - first - 1) + ",";
    const bool v2 = controllers == ",,";
    if (!v2 && controllers.find("," + controller + ",") == std::string::npos) continue;
    const std::string root = v2 ? mount : mount + "/" + controller;
    std::string group = line.substr(second + 1);
    if (group == "/") group.clear();
    while (true) {
      visit(root + group + "/", v2);
      const std::size_t slash = group.rfind('/');
      if (slash == std::string::npos) break;
      group.erase(slash);
    }
  }
}

}  // namespace

std::size_t cgroup_memory_limit(const std::string& membership, const std::string& mount) {
  std::size_t least = SIZE_MAX;
  for_each_group(membership, mount, "memory", [&](const std::string& folder, bool v2) {
    least = std::min(least, number_in(folder + (v2 ? "memory.max" : "memory.limit_in_bytes")));
  });
  return least;
}

int cgroup_cpus(const std::string& membership, const std::string& mount) {
  double least = std::numeric_limits<double>::infinity();
  for_each_group(membership, mount, "cpu", [&](const std::string& folder, bool v2) {
    std::ifstream quota(folder + (v2 ? "cpu.max" : "cpu.cfs_quota_us")), period(folder + "cpu.cfs_period_us");
    least = std::min(least, v2 ? share(quota, quota) : share(quota, period));
  });
  return least < std::numeric_limits<int>::max() ? static_cast<int>(std::ceil(least)) : 0;
}

std::size_t memory_limit() {
  static const std::size_t fixed = std::min(system_memory(), cgroup_memory_limit(own_cgroups, cgroup_mount));
  return std::min(fixed, address_space_limit());
}

}  // namespace cnnlib
