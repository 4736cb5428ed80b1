#include <sched.h>

#include <vector>

#include "system.hpp"

namespace cnnlib {
namespace {

constexpr const char* system_folder = "/sys/devices/system/cpu";

// The logical processors that this thread may run on; none where the system does not say.
std::vector<int> allowed_processors() {
  std::vector<int> processors;
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0)
    for (int i = 0; i < CPU_SETSIZE; ++i)
      if (CPU_ISSET(i, &set)) processors.push_back(i);
  return processors;
}

}  // namespace

Caches found_caches() {
  std::vector<int> processors = allowed_processors();
  // Cores of several kinds are numbered kind by kind.
  if (processors.size() > 2) processors = {processors.front(), processors.back()};
  return system_caches(system_folder, processors);
}

int found_cores() { return system_cores(system_folder, allowed_processors()); }

}  // namespace cnnlib
