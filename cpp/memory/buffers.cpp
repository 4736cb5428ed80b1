#include "buffers.hpp"

#include <algorithm>
#include <cstdint>
#include <mutex>
#include <new>
#include <vector>

#include "../machine/cgroup.hpp"
#include "../machine/system.hpp"

// Under AddressSanitizer nobody may touch free buffers, nor what a buffer has beyond the bytes asked for.
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(place, bytes) static_cast<void>(0)
#define ASAN_UNPOISON_MEMORY_REGION(place, bytes) static_cast<void>(0)
#endif

namespace cnnlib {
namespace {

constexpr std::size_t page = 4096;
constexpr std::size_t huge_page = std::size_t{2} << 20;
constexpr std::size_t always_kept = std::size_t{32} << 20;  // most that the pool keeps whatever was in use
// Buffers acquired while a most is remembered: a few training steps of a deep network.
constexpr std::size_t window = 4096;

// From here on buffers are the system's own mappings, so that what the pool gives up is free at once: the
// heap keeps what lies below a block in use. Sanitizers watch the heap alone.
#ifdef __SANITIZE_ADDRESS__
constexpr std::size_t least_mapping = SIZE_MAX;
#else
constexpr std::size_t least_mapping = std::size_t{128} << 10;
#endif

// Stands in front of every buffer, in its own cache line.
struct Header {
  std::size_t capacity;
  std::size_t mapped;  // bytes of the mapping that starts here, 0 for a block of the heap
};
static_assert(sizeof(Header) <= buffer_alignment);

Header* header_of(void* buffer) {
  return reinterpret_cast<Header*>(static_cast<char*>(buffer) - buffer_alignment);
}

// Rounded up to steps of an eighth of the size, so that similar requests share buffers.
std::size_t size_class(std::size_t bytes) {
  std::size_t step = 4096;
  while (step * 16 <= bytes) step *= 2;
  return (bytes + step - 1) / step * step;
}

// A buffer of the system's, or null.
Header* fresh_buffer(std::size_t capacity) {
  const bool mapped = capacity >= least_mapping;
  const std::size_t alignment = capacity >= least_huge_buffer ? huge_page : page;
  const std::size_t total = (capacity + buffer_alignment + alignment - 1) / alignment * alignment;
  void* const memory = mapped ? map_pages(total, alignment) : allocate_aligned(alignment, total);
  return memory == nullptr ? nullptr : new (memory) Header{capacity, mapped ? total : 0};
}

void destroy(Header* header) noexcept {
  if (header->mapped > 0)
    unmap_pages(header, header->mapped);
  else
    free_aligned(header);
}

// The free buffers. Its lock is held in every call.
class Pool {
 public:
  std::mutex mutex;
  BufferCounts counts;

  // The smallest that is large enough and little larger, of these the one released last, since the caches may
  // hold it; null where there is none.
  Header* take(std::size_t capacity) {
    auto best = free_.rend();
    for (auto i = free_.rbegin(); i != free_.rend() && (best == free_.rend() || best->capacity > capacity);
         ++i)
      if (i->capacity >= capacity && i->capacity <= capacity + capacity / 4 &&
          (best == free_.rend() || i->capacity < best->capacity))
        best = i;
    if (best == free_.rend()) return nullptr;
    Header* header = best->header;
    free_.erase(std::next(best).base());
    free_bytes_ -= header->capacity;
    return header;
  }
  void count_use(std::size_t capacity) {
    used_bytes_ += capacity;
    most_used_[0] = std::max(most_used_[0], used_bytes_);
    if (++acquired_in_window_ < window) return;
    acquired_in_window_ = 0;
    most_used_[1] = most_used_[0];
    most_used_[0] = used_bytes_;
  }
  void read_limit() { most_kept_ = memory_limit() / 8; }
  void count_disuse(std::size_t capacity) { used_bytes_ -= capacity; }
  BufferBytes bytes() const { return {used_bytes_, free_bytes_}; }

  void keep(Header* header) noexcept {
    try {
      free_.push_back({header->capacity, header});
      free_bytes_ += header->capacity;
    } catch (...) {
      destroy(header);
    }
  }
  // Gives back what is too much, the oldest first.
  void trim() noexcept {
    const std::size_t most = most_free();
    std::size_t count = 0;
    while (free_bytes_ > most) {
      free_bytes_ -= free_[count].capacity;
      destroy(free_[count++].header);
    }
    free_.erase(free_.begin(), free_.begin() + static_cast<std::ptrdiff_t>(count));
  }
  void clear() noexcept {
    for (const Free& free : free_) destroy(free.header);
    free_.clear();
    free_bytes_ = 0;
  }

 private:
  // The capacities lie side by side: a search among headers would wait for memory at each.
  struct Free {
    std::size_t capacity;
    Header* header;
  };
  std::vector<Free> free_;  // the most recently released last
  std::size_t free_bytes_ = 0, used_bytes_ = 0;
  std::size_t most_used_[2] = {0, 0};  // in this window and in the one before
  std::size_t acquired_in_window_ = 0;
  std::size_t most_kept_ = 0;

  // Free and used buffers together take twice what was in use at a time lately, since sizes differ (with a
  // quarter more a training step of vgg-small took 27 buffers of 181 from the system), and free ones never
  // more than an eighth of the memory.
  std::size_t most_free() const noexcept {
    const std::size_t most = std::max(most_used_[0], most_used_[1]), total = 2 * most;
    const std::size_t recent = std::max(total > used_bytes_ ? total - used_bytes_ : 0, always_kept);
    return std::min(recent, most_kept_);
  }
};

// What a MemoryError says.
struct NoMemory : std::bad_alloc {
  const char* what() const noexcept override {
    return "cnnlib: no memory for what a layer needs beside its arrays";
  }
};

// Never destroyed: arrays can outlive the module's static objects. A fork waits for the lock, so that
// the child never inherits it held.
Pool& pool() {
  static Pool* instance = [] {
    at_fork([] { pool().mutex.lock(); }, [] { pool().mutex.unlock(); }, [] { pool().mutex.unlock(); });
    return new Pool;
  }();
  return *instance;
}

}  // namespace

void throw_bad_alloc() { throw NoMemory(); }

void* acquire_buffer(std::size_t bytes) {
  const std::size_t capacity = size_class(checked_product(std::max<std::size_t>(bytes, 1), 1));
  Pool& p = pool();
  const std::lock_guard<std::mutex> lock(p.mutex);
  ++p.counts.acquired;
  Header* header = p.take(capacity);
  if (header == nullptr) {
    ++p.counts.fresh;
    p.read_limit();
    header = fresh_buffer(capacity);
  }
  if (header == nullptr) {  // unless it is the pool that has the memory
    p.clear();
    header = fresh_buffer(capacity);
  }
  if (header == nullptr) throw NoMemory();
  p.count_use(header->capacity);
  p.trim();
  char* buffer = reinterpret_cast<char*>(header) + buffer_alignment;
  ASAN_UNPOISON_MEMORY_REGION(buffer, bytes);
  ASAN_POISON_MEMORY_REGION(buffer + bytes, header->capacity - bytes);
  return buffer;
}

BufferCounts buffer_counts() {
  Pool& p = pool();
  const std::lock_guard<std::mutex> lock(p.mutex);
  return p.counts;
}

BufferBytes buffer_bytes() {
  Pool& p = pool();
  const std::lock_guard<std::mutex> lock(p.mutex);
  return p.bytes();
}

void release_buffer(void* buffer) noexcept {
  Header* header = header_of(buffer);
  Pool& p = pool();
  const std::lock_guard<std::mutex> lock(p.mutex);
  ASAN_POISON_MEMORY_REGION(buffer, header->capacity);
  p.count_disuse(header->capacity);
  p.keep(header);
  p.trim();
}

void release_buffers() noexcept {
  Pool& p = pool();
  const std::lock_guard<std::mutex> lock(p.mutex);
  p.clear();
}

}  // namespace cnnlib
