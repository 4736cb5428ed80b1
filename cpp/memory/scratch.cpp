#include "scratch.hpp"

#include <atomic>
#include <cstdint>

namespace cnnlib {
namespace {

// The small scratch of a thread's calls, one upon the other.
struct Stack {
#ifdef __SANITIZE_ADDRESS__  // which sees no overlap of what lies on a stack
  static constexpr std::size_t size = buffer_alignment;
#else
  static constexpr std::size_t size = std::size_t{32} << 10;
#endif
  char room[size + buffer_alignment];  // not every system aligns what each thread has
  std::size_t used;

  char* bytes() {
    const auto first = reinterpret_cast<std::uintptr_t>(room) + buffer_alignment - 1;
    return reinterpret_cast<char*>(first / buffer_alignment * buffer_alignment);
  }
};
thread_local Stack stack;

std::atomic<std::size_t> used{0}, peak{0};

void count_use(std::size_t bytes) {
  const std::size_t now = used += bytes;
  for (std::size_t most = peak; most < now && !peak.compare_exchange_weak(most, now);) {
  }
}

}  // namespace

Scratch::Scratch(std::size_t bytes) : stacked_(0), bytes_(bytes) {
  if (bytes <= Stack::size - buffer_alignment) {
    const std::size_t size = bytes / buffer_alignment * buffer_alignment + buffer_alignment;
    if (size <= Stack::size - stack.used) {
      stacked_ = size;
      data_ = stack.bytes() + stack.used;
      stack.used += size;
      return;
    }
  }
  data_ = acquire_buffer(bytes);
  count_use(bytes);
}

Scratch::~Scratch() {
  if (stacked_ > 0) {
    stack.used -= stacked_;
    return;
  }
  release_buffer(data_);
  used -= bytes_;
}

std::size_t scratch_peak() { return peak; }
void restart_scratch_peak() { peak = used.load(); }

}  // namespace cnnlib
