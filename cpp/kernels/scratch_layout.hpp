// Carves typed arrays out of one scratch allocation.
#pragma once

#include <cstring>

#include "memory/scratch.hpp"
#include "shapes.hpp"

namespace cnnlib::CNNLIB_ISA {

// Adds up what a kernel needs, then hands the arrays out:
//   Layout layout;
//   const auto panel = layout.array<T>(n);      // reserves, with room for a vector behind the last value
//   const auto tile = layout.per_thread<T>(threads, n);
//   Scratch scratch(layout.bytes());
//   T* p = panel.in(scratch.data());
//   T* q = tile.of(scratch.data(), slot);
template <class T>
struct Reserved {
  std::size_t offset;
  T* in(void* base) const { return reinterpret_cast<T*>(static_cast<char*>(base) + offset); }
};

// What prefetchers fetch behind one thread's array must not be another's, or lines wander between their
// caches: 8 KB apart that still shows, 16 KB apart it does not.
constexpr std::size_t thread_gap = 16 << 10;

// The same for every thread.
template <class T>
struct ThreadReserved {
  std::size_t offset, stride;
  T* of(void* base, int slot) const {
    return reinterpret_cast<T*>(static_cast<char*>(base) + offset + slot * stride);
  }
};

class Layout {
 public:
  template <class T>
  Reserved<T> array(Index count) {
    const Reserved<T> place{bytes_};
    add(static_cast<std::size_t>(count), sizeof(T));
    return place;
  }
  template <class T>
  ThreadReserved<T> per_thread(int threads, Index count) {
    const std::size_t start = bytes_;
    return {start, add(static_cast<std::size_t>(count), sizeof(T), static_cast<std::size_t>(threads))};
  }
  std::size_t bytes() const { return bytes_; }

 private:
  // Room for `count` values for each thread; returns how far apart the threads' are. Not inlined: it would
  // take as much code as some kernels do.
  [[gnu::noinline]] std::size_t add(std::size_t count, std::size_t size, std::size_t threads = 1) {
    const std::size_t own = checked_product(count, size) + 2 * buffer_alignment;
    const std::size_t stride = own / buffer_alignment * buffer_alignment + (threads > 1 ? thread_gap : 0);
    bytes_ = checked_product(bytes_ + checked_product(stride, threads), 1);
    return stride;
  }

  std::size_t bytes_ = 0;
};

// Bytes of the scratch that a method lays out as `Memory`.
template <class Memory, class Method>
std::size_t bytes_of(const Method& method) {
  Layout layout;
  const Memory memory(method, layout);
  return layout.bytes();
}

// That scratch.
template <class Memory>
class ScratchOf {
 public:
  template <class Method>
  explicit ScratchOf(const Method& method) : memory_(method, layout_), scratch_(layout_.bytes()) {}
  const Memory* operator->() const { return &memory_; }
  void* data() const { return scratch_.data(); }

 private:
  Layout layout_;
  Memory memory_;
  Scratch scratch_;
};

// Scratch for one array.
template <class T>
class ScratchArray {
 public:
  explicit ScratchArray(Index count) : place_(layout_.array<T>(count)), scratch_(layout_.bytes()) {}
  T* data() const { return place_.in(scratch_.data()); }

 private:
  Layout layout_;
  Reserved<T> place_;
  Scratch scratch_;
};

// Tells the threads of a loop whether their scratch is new to them. Each clears its own: one thread
// that cleared them all would keep the others waiting, and its memory would hold the pages.
class FirstUse {
 public:
  FirstUse(int threads, Layout& layout)
      : size_(threads * static_cast<Index>(buffer_alignment)), used_(layout.array<char>(size_)) {}

  // Of the caller, before the loop.
  void reset(void* scratch) const { std::memset(used_.in(scratch), 0, static_cast<std::size_t>(size_)); }
  bool operator()(void* scratch, int slot) const {
    char& used = used_.in(scratch)[slot * static_cast<Index>(buffer_alignment)];
    const bool first = used == 0;
    used = 1;
    return first;
  }

 private:
  Index size_;
  Reserved<char> used_;  // a cache line for each thread
};

}  // namespace cnnlib::CNNLIB_ISA
