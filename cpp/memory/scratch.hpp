// Memory that a kernel needs while it runs.
#pragma once

#include "buffers.hpp"

namespace cnnlib {

// One allocation for a kernel call, released on every way out; a small one lies on a stack that each thread
// has, since the pool's lock takes a while. Lives in one scope of one thread.
class Scratch {
 public:
  explicit Scratch(std::size_t bytes);
  ~Scratch();
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  void* data() const { return data_; }

 private:
  void* data_;
  std::size_t stacked_;  // bytes on the thread's stack, 0 for a buffer
  std::size_t bytes_;
};

// The most bytes that lay in scratch buffers at a time, of all threads, since restart_scratch_peak; the small
// ones on threads' stacks do not count.
std::size_t scratch_peak();
void restart_scratch_peak();

}  // namespace cnnlib
