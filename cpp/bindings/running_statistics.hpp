// Batch norm's running mean and variance.
#pragma once

#include "arrays.hpp"

namespace cnnlib {

// momentum * running + (1 - momentum) * statistic, each (C,).
inline py::object moved_statistic(const Floats& running, const double* statistic, double momentum) {
  const FloatsResult moved("moved_statistic", running, running);
  by_type(running.single(), [&](auto zero) {
    using T = decltype(zero);
    const T* old = running;
    T* to = moved;
    for (Index c = 0; c < running.size(); ++c)
      to[c] = T(momentum * double(old[c]) + (1 - momentum) * statistic[c]);
  });
  return moved;
}

}  // namespace cnnlib
