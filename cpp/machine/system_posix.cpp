// Linux and macOS.
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/syscall.h>
#endif

#include <cstdint>
#include <cstdlib>

#include "system.hpp"

namespace cnnlib {

bool may_use_tile_registers() {
#if defined(__linux__) && defined(__x86_64__)
  constexpr int request = 0x1023, tile_data = 18;  // ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA: Linux 5.16
  return syscall(SYS_arch_prctl, request, tile_data) == 0;
#else
  return false;
#endif
}

std::size_t system_memory() {
  const long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
  return pages > 0 && size > 0 ? std::size_t(pages) * std::size_t(size) : SIZE_MAX;
}

std::size_t address_space_limit() {
  rlimit limit{};
  return getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY ? limit.rlim_cur : SIZE_MAX;
}

void* map_pages(std::size_t bytes, std::size_t alignment) {
  constexpr std::size_t page = 4096;  // at least: mappings begin at a multiple of it
  const std::size_t extra = alignment > page ? alignment : 0;
  void* mapping = mmap(nullptr, bytes + extra, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (mapping == MAP_FAILED) return nullptr;
  if (extra == 0) return mapping;
  char* start = static_cast<char*>(mapping);
  const std::size_t before = (alignment - reinterpret_cast<std::uintptr_t>(start) % alignment) % alignment;
  if (before > 0) munmap(start, before);
  if (extra > before) munmap(start + before + bytes, extra - before);
#ifdef MADV_HUGEPAGE
  madvise(start + before, bytes, MADV_HUGEPAGE);
#endif
  return start + before;
}

void unmap_pages(void* pages, std::size_t bytes) noexcept { munmap(pages, bytes); }

void* allocate_aligned(std::size_t alignment, std::size_t bytes) {
  return std::aligned_alloc(alignment, bytes);
}
void free_aligned(void* block) noexcept { std::free(block); }

void at_fork(void (*before)(), void (*in_parent)(), void (*in_child)()) {
  pthread_atfork(before, in_parent, in_child);
}

}  // namespace cnnlib
