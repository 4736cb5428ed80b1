#include <algorithm>
#include <vector>

#include "system.hpp"
#include "windows.hpp"

namespace cnnlib {
namespace {

// Calls visit(entry) for all that the system says of one kind: cores, or caches.
template <class Visit>
void for_each_entry(LOGICAL_PROCESSOR_RELATIONSHIP kind, const Visit& visit) {
  using Entry = SYSTEM_LOGICAL_PROCESSOR_INFORMATION_EX;
  DWORD bytes = 0;
  GetLogicalProcessorInformationEx(kind, nullptr, &bytes);
  std::vector<char> entries(bytes);
  if (!GetLogicalProcessorInformationEx(kind, reinterpret_cast<Entry*>(entries.data()), &bytes)) return;
  for (DWORD at = 0; at < bytes;) {
    const auto* entry = reinterpret_cast<const Entry*>(entries.data() + at);
    visit(*entry);
    at += entry->Size;
  }
}

// Whether this process may run on one of these. Only a process in one group of processors, of 64 at most, has
// an affinity; one in several may run on all.
bool is_allowed(const GROUP_AFFINITY& processors) {
  USHORT group = 0, groups = 1;
  DWORD_PTR own = 0, all = 0;
  if (!GetProcessGroupAffinity(GetCurrentProcess(), &groups, &group) ||
      !GetProcessAffinityMask(GetCurrentProcess(), &own, &all))
    return true;
  return processors.Group == group && (processors.Mask & own) != 0;
}

// The logical processors of each of the machine's cores.
std::vector<GROUP_AFFINITY> all_cores() {
  std::vector<GROUP_AFFINITY> cores;
  for_each_entry(RelationProcessorCore,
                 [&](const auto& entry) { cores.push_back(entry.Processor.GroupMask[0]); });
  return cores;
}

}  // namespace

Caches found_caches() {
  const std::vector<GROUP_AFFINITY> cores = all_cores();  // not all of them have two hyper-threads
  LeastCaches least;
  for_each_entry(RelationCache, [&](const auto& entry) {
    const auto& cache = entry.Cache;
    if (cache.Type == CacheInstruction || !is_allowed(cache.GroupMask)) return;
    const auto serves = [&](const GROUP_AFFINITY& core) {
      return core.Group == cache.GroupMask.Group && (core.Mask & cache.GroupMask.Mask) != 0;
    };
    least.add(cache.Level, cache.CacheSize, std::count_if(cores.begin(), cores.end(), serves));
  });
  return least.sizes();
}

int found_cores() {
  const std::vector<GROUP_AFFINITY> cores = all_cores();
  return static_cast<int>(std::count_if(cores.begin(), cores.end(), is_allowed));
}

}  // namespace cnnlib
