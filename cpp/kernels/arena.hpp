// Carves typed arrays out of one scratch allocation.
#pragma once

#include "../buffers.hpp"
#include "../shapes.hpp"

namespace cnnlib::CNNLIB_ISA {

// Adds up what a kernel needs, then hands the pieces out in the same order:
//   Layout layout;
//   const auto panel = layout.array<T>(n);      // reserves, with room for vectors past the end
//   Scratch scratch(layout.bytes());
//   T* p = panel.in(scratch.data());
template <class T>
struct Piece {
  std::size_t offset;
  T* in(void* base) const { return reinterpret_cast<T*>(static_cast<char*>(base) + offset); }
};

class Layout {
 public:
  template <class T>
  Piece<T> array(Index count) {
    const Piece<T> piece{bytes_};
    const std::size_t bytes =
        checked_product(static_cast<std::size_t>(count), sizeof(T)) + 2 * buffer_alignment;
    bytes_ = checked_product(bytes_ + bytes / buffer_alignment * buffer_alignment, 1);
    return piece;
  }
  std::size_t bytes() const { return bytes_; }

 private:
  std::size_t bytes_ = 0;
};

}  // namespace cnnlib::CNNLIB_ISA
