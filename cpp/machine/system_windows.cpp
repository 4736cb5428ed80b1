#include <malloc.h>

#include <algorithm>
#include <cstdint>

#include "system.hpp"
#include "windows.hpp"

namespace cnnlib {

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
