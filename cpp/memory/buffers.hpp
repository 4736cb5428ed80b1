// Memory for large results and scratch: 64-byte aligned, recycled through a bounded pool, since
// fresh pages from the system cost a page fault each. The pool keeps no more than recent calls held at a
// time, and a share of the memory that the process may have.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>

namespace cnnlib {

constexpr std::size_t buffer_alignment = 64;
// Buffers of this size, in bytes, and above lie on huge pages, where the system has them.
constexpr std::size_t least_huge_buffer = std::size_t{4} << 20;

// A buffer of at least `bytes`, with unspecified contents; throws std::bad_alloc.
void* acquire_buffer(std::size_t bytes);
void release_buffer(void* buffer) noexcept;

struct ReleaseBuffer {
  void operator()(void* buffer) const noexcept { release_buffer(buffer); }
};
using OwnedBuffer = std::unique_ptr<void, ReleaseBuffer>;

// Gives all that the pool keeps back to the system.
void release_buffers() noexcept;

// Of the whole process so far: how many buffers were acquired, and how many of them the system had to give
// because the pool had none of the size.
struct BufferCounts {
  std::size_t acquired = 0, fresh = 0;
};
BufferCounts buffer_counts();

// Bytes of the whole process now: those in use, and free ones that the pool keeps.
struct BufferBytes {
  std::size_t used = 0, kept = 0;
};
BufferBytes buffer_bytes();

[[noreturn]] void throw_bad_alloc();

// a * b as a size, or std::bad_alloc when no machine could hold it.
[[gnu::always_inline]] inline std::size_t checked_product(std::size_t a, std::size_t b) {
  std::size_t product;
  if (__builtin_mul_overflow(a, b, &product) || product > static_cast<std::size_t>(PTRDIFF_MAX) / 2)
    throw_bad_alloc();
  return product;
}

}  // namespace cnnlib
