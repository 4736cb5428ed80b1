// Numbers whose type, float or double, is known only when the program runs.
#pragma once

#include <cstring>
#include <memory>
#include <type_traits>

#include "kernels.hpp"

namespace cnnlib {

// Memory of numbers, as the kernel that gets it has it; `+` counts bytes.
template <class Void>
class Numbers {
 public:
  Numbers(Void* memory = nullptr) : memory_(memory) {}
  Numbers(const std::shared_ptr<void>& memory) : memory_(memory.get()) {}
  template <class Other, class = std::enable_if_t<!std::is_same_v<Other, Void>>>
  Numbers(const Numbers<Other>& other) : memory_(other) {}

  template <class T>
  operator T*() const {
    return static_cast<T*>(memory_);
  }
  explicit operator bool() const { return memory_ != nullptr; }

 private:
  Void* memory_;
};
using In = Numbers<const void>;
using Out = Numbers<void>;

inline In operator+(In memory, Index bytes) { return static_cast<const char*>(memory) + bytes; }
inline Out operator+(Out memory, Index bytes) { return static_cast<char*>(memory) + bytes; }

// to[n] = from[n] for N rows of so many bytes; each lies a step behind the one before.
inline void copy_rows(In from, Index from_step, Out to, Index to_step, Index row, Index N) {
  for (Index n = 0; n < N; ++n)
    std::memcpy(to + n * to_step, from + n * from_step, static_cast<std::size_t>(row));
}

// The kernels for one of the types, of the set in use when this is made.
class AnyKernels {
 public:
  explicit AnyKernels(bool single) : single_(single) {}

  bool single() const { return single_; }
  Index item() const { return single_ ? sizeof(float) : sizeof(double); }
  // body(k) with the kernels.
  template <class Body>
  decltype(auto) operator()(const Body& body) const {
    return single_ ? body(isa_.f32) : body(isa_.f64);
  }

 private:
  const Isa& isa_ = active_isa();
  bool single_;
};

// body(T()), for T float where the numbers are `single`, else for double.
template <class Body>
decltype(auto) by_type(bool single, const Body& body) {
  return single ? body(float()) : body(double());
}

}  // namespace cnnlib
