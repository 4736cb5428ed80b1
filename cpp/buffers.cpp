#include "buffers.hpp"

#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <new>
#include <vector>

namespace cnnlib {
namespace {

constexpr std::size_t least_pool = std::size_t{512} << 20;
constexpr std::size_t huge_page = std::size_t{2} << 20;

// Stands in front of every buffer, in its own cache line.
struct Header {
  std::size_t capacity;
};
static_assert(sizeof(Header) <= buffer_alignment);

Header* header_of(void* buffer) {
  return reinterpret_cast<Header*>(static_cast<char*>(buffer) - buffer_alignment);
}

// Most bytes of free buffers: an eighth of the machine's memory, which holds the activations of a training
// step.
std::size_t pool_limit() {
  static const std::size_t limit = [] {
    const long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
    return pages > 0 && size > 0 ? std::max(least_pool, std::size_t(pages) * std::size_t(size) / 8)
                                 : least_pool;
  }();
  return limit;
}

// Rounded up to steps of an eighth of the size, so that similar requests share buffers.
std::size_t size_class(std::size_t bytes) {
  std::size_t step = 4096;
  while (step * 16 <= bytes) step *= 2;
  return (bytes + step - 1) / step * step;
}

struct Pool {
  std::mutex mutex;
  std::vector<Header*> free;  // the most recently released last
  std::size_t bytes = 0;
  BufferCounts counts;
};

// Never destroyed: arrays can outlive the module's static objects. A fork waits for the lock, so that
// the child never inherits it held.
Pool& pool() {
  static Pool* instance = [] {
    pthread_atfork([] { pool().mutex.lock(); }, [] { pool().mutex.unlock(); }, [] { pool().mutex.unlock(); });
    return new Pool;
  }();
  return *instance;
}

// The small scratch of a thread's calls, one upon the other.
struct Stack {
#ifdef __SANITIZE_ADDRESS__  // which sees no overlap of what lies on a stack
  static constexpr std::size_t size = buffer_alignment;
#else
  static constexpr std::size_t size = std::size_t{32} << 10;
#endif
  alignas(buffer_alignment) char bytes[size];
  std::size_t used;
};
thread_local Stack stack;

}  // namespace

Scratch::Scratch(std::size_t bytes) : stacked_(0) {
  if (bytes <= Stack::size - buffer_alignment) {
    const std::size_t size = bytes / buffer_alignment * buffer_alignment + buffer_alignment;
    if (size <= Stack::size - stack.used) {
      stacked_ = size;
      data_ = stack.bytes + stack.used;
      stack.used += size;
      return;
    }
  }
  data_ = acquire_buffer(bytes);
}

Scratch::~Scratch() {
  if (stacked_ > 0)
    stack.used -= stacked_;
  else
    release_buffer(data_);
}

// Intel's servers share a last-level cache across a mesh, hardly faster than memory for two cores; elsewhere
// 32 MB close to a few cores are usual.
std::size_t past_caches_bytes() {
  static const std::size_t bytes = [] {
#if defined(__x86_64__)
    if (__builtin_cpu_is("intel")) return std::size_t{8} << 20;
#endif
    return std::size_t{64} << 20;
  }();
  return bytes;
}

std::size_t checked_product(std::size_t a, std::size_t b) {
  std::size_t product;
  if (__builtin_mul_overflow(a, b, &product) || product > static_cast<std::size_t>(PTRDIFF_MAX) / 2)
    throw std::bad_alloc();
  return product;
}

void* acquire_buffer(std::size_t bytes) {
  const std::size_t capacity = size_class(checked_product(std::max<std::size_t>(bytes, 1), 1));
  {
    Pool& p = pool();
    const std::lock_guard<std::mutex> lock(p.mutex);
    ++p.counts.acquired;
    const auto found = std::find_if(p.free.rbegin(), p.free.rend(),
                                    [&](const Header* h) { return h->capacity == capacity; });
    if (found != p.free.rend()) {
      Header* header = *found;
      p.free.erase(std::next(found).base());
      p.bytes -= capacity;
      return reinterpret_cast<char*>(header) + buffer_alignment;
    }
    ++p.counts.fresh;
  }
  const bool large = capacity >= 2 * huge_page;
  const std::size_t alignment = large ? huge_page : buffer_alignment;
  const std::size_t total = (capacity + buffer_alignment + alignment - 1) / alignment * alignment;
  void* block = std::aligned_alloc(alignment, total);
  if (block == nullptr) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
  if (large) madvise(block, total, MADV_HUGEPAGE);
#endif
  static_cast<Header*>(block)->capacity = capacity;
  return static_cast<char*>(block) + buffer_alignment;
}

BufferCounts buffer_counts() {
  Pool& p = pool();
  const std::lock_guard<std::mutex> lock(p.mutex);
  return p.counts;
}

void release_buffer(void* buffer) noexcept {
  Header* header = header_of(buffer);
  Pool& p = pool();
  const std::lock_guard<std::mutex> lock(p.mutex);
  if (header->capacity > pool_limit()) return std::free(header);
  while (p.bytes + header->capacity > pool_limit()) {  // the oldest goes first
    p.bytes -= p.free.front()->capacity;
    std::free(p.free.front());
    p.free.erase(p.free.begin());
  }
  try {
    p.free.push_back(header);
    p.bytes += header->capacity;
  } catch (...) {
    std::free(header);
  }
}

}  // namespace cnnlib
