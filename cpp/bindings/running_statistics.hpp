// Batch norm's running mean and variance.
#pragma once

#include "arrays.hpp"

namespace cnnlib {

// momentum * running + (1 - momentum) * statistic, each (C,).
template <class T>
Array<T> moved_statistic(const Array<T>& running, const double* statistic, double momentum) {
  Array<T> moved = new_array<T>("moved_statistic", running);
  const T* old = running.data();
  T* to = moved.mutable_data();
  for (Index c = 0; c < running.size(); ++c)
    to[c] = T(momentum * double(old[c]) + (1 - momentum) * statistic[c]);
  return moved;
}

}  // namespace cnnlib
