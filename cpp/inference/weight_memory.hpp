// Memory for the packed weights of a network, which every batch reads from the first to the last.
#pragma once

#include <algorithm>
#include <utility>
#include <vector>

#include "../memory/buffers.hpp"

namespace cnnlib {

// Parts of blocks that are large enough for huge pages: processors prefetch as far as a page goes.
class WeightMemory {
 public:
  // `bytes` at a multiple of buffer_alignment, for as long as this lives.
  void* take(std::size_t bytes) {
    bytes = (std::max<std::size_t>(1, bytes) + buffer_alignment - 1) / buffer_alignment * buffer_alignment;
    if (blocks_.empty() || bytes > left_) {
      const std::size_t block = std::max(bytes, block_bytes);
      blocks_.push_back(OwnedBuffer(acquire_buffer(block)));
      free_ = static_cast<char*>(blocks_.back().get());
      left_ = block;
    }
    left_ -= bytes;
    return std::exchange(free_, free_ + bytes);
  }

 private:
#ifdef __SANITIZE_ADDRESS__
  static constexpr std::size_t block_bytes = 0;  // what lies beyond a layer's weights is not another's
#else
  static constexpr std::size_t block_bytes = least_huge_buffer;
#endif

  std::vector<OwnedBuffer> blocks_;
  char* free_ = nullptr;
  std::size_t left_ = 0;  // bytes behind free_
};

}  // namespace cnnlib
