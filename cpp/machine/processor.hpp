// The processor at hand: the caches that blocks of work are cut for, and the cores that threads are counted
// by. No bit of a result depends on either.
#pragma once

#ifdef CNNLIB_CUTS_ALONE
#error "a cut decides bits: it must follow from neither the threads nor the machine (kernels/cuts.cpp)"
#endif

#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

#include "../shapes.hpp"

namespace cnnlib {

// Bytes of each level of data caches that one thread may count on: the share of one of the cores that a cache
// serves.
struct Caches {
  Index l1, l2, l3;
};

// CNNLIB_CACHES ("32K,512K,4M") if that is set, else what the system says. Throws std::invalid_argument.
const Caches& caches();

// What blocks for the second level are cut for: a larger one than 1 MB gained nothing (bench/NOTES.md).
inline Index l2_for_blocks() { return std::min<Index>(caches().l2, 1 << 20); }

// A result of so many bytes is written past the caches, which saves reading its old contents, where those are
// too small, or too slow, to have it ready for whoever uses it.
std::size_t past_caches_bytes();

// The least shares of some logical processors by a folder like /sys/devices/system/cpu; a usual
// processor's where it says nothing.
Caches system_caches(const std::string& folder, const std::vector<int>& processors);

// Cores by such a folder: logical processors that share one count once.
int system_cores(const std::string& folder, const std::vector<int>& processors);

// The cores that this process may run on.
int physical_cores();

}  // namespace cnnlib
