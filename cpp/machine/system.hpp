// What the operating system is asked for. Each answers in its own file: system_windows.cpp; system_posix.cpp
// with, for the processor, processor_linux.cpp or processor_macos.cpp.
#pragma once

#ifdef CNNLIB_CUTS_ALONE
#error "a cut decides bits: it must follow from neither the threads nor the machine (kernels/cuts.cpp)"
#endif

#include <cstddef>

#include "processor.hpp"

namespace cnnlib {

// The machine's memory in bytes, or what the process may have of it for good; SIZE_MAX where nothing says.
std::size_t system_memory();
// A limit that the process may change: RLIMIT_AS, else SIZE_MAX.
std::size_t address_space_limit();

// Fresh pages from the system, zero, at a multiple of `alignment`, 4 KB or 2 MB; null without memory. Huge
// pages where that is 2 MB and the system has them.
void* map_pages(std::size_t bytes, std::size_t alignment);
void unmap_pages(void* pages, std::size_t bytes) noexcept;

// A block of the heap at a multiple of `alignment`, which divides `bytes`; null without memory.
void* allocate_aligned(std::size_t alignment, std::size_t bytes);
void free_aligned(void* block) noexcept;

// Calls these around each fork from now on, where the system has fork; each may be null.
void at_fork(void (*before)(), void (*in_parent)(), void (*in_child)());

// Whether this process may use the tile registers of AMX, which a system grants on request.
bool may_use_tile_registers();

// The least shares of the caches that a system counts up, or a usual processor's where it says nothing.
class LeastCaches {
 public:
  // A cache of a level, from 1 on, that so many cores share.
  void add(int level, Index bytes, Index sharers);
  Caches sizes() const;

 private:
  Index least_[3] = {};
};

// The caches of the cores that this process may run on; a usual processor's where the system says nothing.
Caches found_caches();
// How many cores those are; 0 where the system says nothing.
int found_cores();

}  // namespace cnnlib
