// What becomes of a finished sum before it is stored.
#pragma once

namespace cnnlib::CNNLIB_ISA {

// out[f] = sum + bias[f], then through ReLU. What else an output may go through (a scale and shift, a
// residual) belongs here.
template <class T>
struct Epilogue {
  const T* bias = nullptr;  // (F,), or null
  bool relu = false;

  // That of the filters from f on.
  Epilogue from(Index f) const { return {bias != nullptr ? bias + f : nullptr, relu}; }
};

}  // namespace cnnlib::CNNLIB_ISA
