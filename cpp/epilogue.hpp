// Epilogues: plain data that says how a layer finishes its sums, and crosses the border between the bindings
// and the kernels. narrow_shapes.hpp has those of bytes and of bfloat16.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>

namespace cnnlib {

// An activation: min(max(v, low), high). NaN stays NaN. By default it leaves every value as it is.
template <class T>
struct Clamp {
  using Limits = std::numeric_limits<T>;
  static constexpr T infinity = Limits::has_infinity ? Limits::infinity() : Limits::max();
  T low = -infinity, high = infinity;

  bool changes() const { return low > -infinity || high < infinity; }
  // Converts the limits to another type.
  template <class U>
  operator Clamp<U>() const {
    return {static_cast<U>(low), static_cast<U>(high)};
  }
};
// ReLU if it is wanted.
inline Clamp<double> relu_if(bool wanted) {
  return {wanted ? 0 : -Clamp<double>::infinity, Clamp<double>::infinity};
}

// out[f] = sum + bias[f] + what lay in out[f] if it is to `add`, then through the activation.
template <class T>
struct Epilogue {
  const T* bias = nullptr;  // (F,), or null
  bool add = false;
  Clamp<T> activation{};

  // Returns the epilogue for the filters from f on.
  Epilogue from(std::ptrdiff_t f) const { return {bias != nullptr ? bias + f : nullptr, add, activation}; }
};

}  // namespace cnnlib
