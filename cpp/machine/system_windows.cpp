#ifndef WIN32_LEAN_AND_MEAN  // without what the system's header defines beyond need
#define WIN32_LEAN_AND_MEAN
#endif
#ifndef NOMINMAX
#define NOMINMAX
#endif
#include <malloc.h>
#include <windows.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "system.hpp"

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

bool may_use_tile_registers() { return false; }

// The machine's, or what the job leaves that a container or a batch system put the process into.
std::size_t system_memory() {
  std::size_t least = SIZE_MAX;
  MEMORYSTATUSEX machine{};
  machine.dwLength = sizeof machine;
  if (GlobalMemoryStatusEx(&machine)) least = machine.ullTotalPhys;
  JOBOBJECT_EXTENDED_LIMIT_INFORMATION job{};
  if (QueryInformationJobObject(nullptr, JobObjectExtendedLimitInformation, &job, sizeof job, nullptr)) {
    const DWORD flags = job.BasicLimitInformation.LimitFlags;
    if (flags & JOB_OBJECT_LIMIT_PROCESS_MEMORY) least = std::min(least, job.ProcessMemoryLimit);
    if (flags & JOB_OBJECT_LIMIT_JOB_MEMORY) least = std::min(least, job.JobMemoryLimit);
  }
  return least;
}

std::size_t address_space_limit() { return SIZE_MAX; }

// Large pages need a privilege that users do not have, and the system's own begin at multiples of 64 KB. That
// is enough: a larger alignment only serves huge pages.
void* map_pages(std::size_t bytes, std::size_t) {
  return VirtualAlloc(nullptr, bytes, MEM_RESERVE | MEM_COMMIT, PAGE_READWRITE);
}

void unmap_pages(void* pages, std::size_t) noexcept { VirtualFree(pages, 0, MEM_RELEASE); }

void* allocate_aligned(std::size_t alignment, std::size_t bytes) { return _aligned_malloc(bytes, alignment); }
void free_aligned(void* block) noexcept { _aligned_free(block); }

void at_fork(void (*)(), void (*)(), void (*)()) {}

}  // namespace cnnlib
