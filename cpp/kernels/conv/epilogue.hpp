// What becomes of a finished sum before it is stored.
#pragma once

#include "kernels/rectifier.hpp"

namespace cnnlib::CNNLIB_ISA {

// out[f] = sum + bias[f] + what lay in out[f] if it is to `add`, then through the activation.
template <class T>
struct Epilogue {
  const T* bias = nullptr;  // (F,), or null
  Rectifier<T> activation{};
  bool add = false;

  // That of the filters from f on.
  Epilogue from(Index f) const { return {bias != nullptr ? bias + f : nullptr, activation, add}; }
};

}  // namespace cnnlib::CNNLIB_ISA
