// Carves typed arrays out of one scratch allocation.
#pragma once

#include <cstring>

#include "memory/scratch.hpp"
#include "shapes.hpp"

namespace cnnlib::CNNLIB_ISA {

// Adds up what a kernel needs, then hands the arrays out:
//   Layout layout;
//   const Reserved<T> panel(layout, n);         // with room for a vector behind the last value
//   const ThreadReserved<T> tile(layout, threads, n);
//   const LayoutMemory memory(layout);
//   T *p = panel.data(), *q = tile[slot];
// It stays where it is as long as its arrays are used.
class Layout {
 public:
  // Room for `count` values for each thread; returns how far apart the threads' are. Not inlined: it would
  // take as much code as some kernels do.
  [[gnu::noinline]] std::size_t add(std::size_t count, std::size_t size, int threads = 1) {
    // What prefetchers fetch behind one thread's array must not be another's, or lines wander between their
    // caches: 8 KB apart that still shows, 16 KB apart it does not.
    constexpr std::size_t thread_gap = 16 << 10;
    const std::size_t own = checked_product(count, size) + 2 * buffer_alignment;
    const std::size_t stride = own / buffer_alignment * buffer_alignment + (threads > 1 ? thread_gap : 0);
    bytes_ = checked_product(bytes_ + checked_product(stride, static_cast<std::size_t>(threads)), 1);
    return stride;
  }
  std::size_t bytes() const { return bytes_; }
  void place(void* memory) { base_ = static_cast<char*>(memory); }
  template <class T>
  T* at(std::size_t offset) const {
    return reinterpret_cast<T*>(base_ + offset);
  }

 private:
  std::size_t bytes_ = 0;
  char* base_ = nullptr;
};

// An array of each thread.
template <class T>
class ThreadReserved {
 public:
  template <class Count>
  ThreadReserved(Layout& layout, int threads, Count count)
      : layout_(layout),
        offset_(layout.bytes()),
        stride_(layout.add(static_cast<std::size_t>(count), sizeof(T), threads)) {}
  T* operator[](Index slot) const {
    return layout_.at<T>(offset_ + static_cast<std::size_t>(slot) * stride_);
  }

 private:
  const Layout& layout_;
  std::size_t offset_, stride_;
};
// One array.
template <class T>
class Reserved : ThreadReserved<T> {
 public:
  template <class Count>
  Reserved(Layout& layout, Count count) : ThreadReserved<T>(layout, 1, count) {}
  T* data() const { return (*this)[0]; }
};

class LayoutMemory {
 public:
  explicit LayoutMemory(Layout& layout) : scratch_(layout.bytes()) { layout.place(scratch_.data()); }

 private:
  Scratch scratch_;
};

// Bytes of the scratch that a method lays out as `Memory`, which names the method, the layout and what it
// reserves.
template <class Memory, class Owner>
std::size_t bytes_of(const Owner& method) {
  Layout layout;
  [[maybe_unused]] const Memory memory{method, layout};
  return layout.bytes();
}

// That scratch.
template <class Memory>
class ScratchOf {
 public:
  template <class Owner>
  explicit ScratchOf(const Owner& method) : memory_{method, layout_}, scratch_(layout_) {}
  const Memory* operator->() const { return &memory_; }

 private:
  Layout layout_;
  Memory memory_;
  LayoutMemory scratch_;
};

// Scratch for one array, or with ThreadReserved one of each thread.
template <class T, template <class> class Place = Reserved>
class ScratchArray {
 public:
  template <class... Sizes>
  explicit ScratchArray(Sizes... sizes) : place_(layout_, sizes...), scratch_(layout_) {}
  T* data() const { return place_.data(); }
  T* operator[](Index slot) const { return place_[slot]; }
  static std::size_t bytes(Index count) {
    Layout layout;
    layout.add(static_cast<std::size_t>(count), sizeof(T));
    return layout.bytes();
  }

 private:
  Layout layout_;
  Place<T> place_;
  LayoutMemory scratch_;
};

// Tells the threads of a loop whether their scratch is new to them. Each clears its own: one thread
// that cleared them all would keep the others waiting, and its memory would hold the pages.
class FirstUse {
 public:
  FirstUse(int threads, Layout& layout)
      : size_(threads * static_cast<Index>(buffer_alignment)), used_(layout, size_) {}

  // Of the caller, before the loop.
  void reset() const { std::memset(used_.data(), 0, static_cast<std::size_t>(size_)); }
  bool operator()(int slot) const {
    char& used = used_.data()[slot * static_cast<Index>(buffer_alignment)];
    const bool first = used == 0;
    used = 1;
    return first;
  }

 private:
  Index size_;
  Reserved<char> used_;  // a cache line for each thread
};

}  // namespace cnnlib::CNNLIB_ISA
