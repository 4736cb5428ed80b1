#include <sys/sysctl.h>

#include <algorithm>
#include <cstdint>

#include "system.hpp"

namespace cnnlib {
namespace {

Index sysctl_number(const char* name) {
  std::int64_t value = 0;
  std::size_t size = sizeof value;
  return sysctlbyname(name, &value, &size, nullptr, 0) == 0 ? static_cast<Index>(value) : 0;
}

}  // namespace

// Those of the fast cores, whose second level several share; there is no third.
Caches found_caches() {
  LeastCaches least;
  least.add(1, sysctl_number("hw.perflevel0.l1dcachesize"), 1);
  least.add(2, sysctl_number("hw.perflevel0.l2cachesize"), sysctl_number("hw.perflevel0.cpusperl2"));
  return least.sizes();
}

// The fast ones alone, as for PyTorch: a loop would wait for the others' last tasks.
int found_cores() {
  const Index fast = sysctl_number("hw.perflevel0.physicalcpu");
  return static_cast<int>(fast > 0 ? fast : sysctl_number("hw.physicalcpu"));
}

}  // namespace cnnlib
