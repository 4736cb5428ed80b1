// Dice loss of maps of logits x and targets y, each of `size` values: with p = sigmoid(x), I = sum p * y and
// D = sum p + sum y + 1,
//
//     loss = mean over the maps of 1 - (2 I + 1) / D,  dx = p (1 - p) * ((2 I + 1) / D - 2 y) / D / maps
#pragma once

#include "kernels/elementwise/activation_functions.hpp"
#include "kernels/simd/loops.hpp"
#include "kernels/simd/sums.hpp"
#include "threads/parallel.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
double dice_loss_of_map(const T* x, const T* y, T* dx, Index size, double scale) {
  using S = Simd<T>;
  double product = 0, mass = 0;
  for (Index begin = 0; begin < size; begin += short_run) {
    auto products = S::zero(), masses = S::zero();
    write_vectors(dx + begin, std::min(short_run, size - begin), false, [&](Index from, Index count) {
      const auto lowest = std::numeric_limits<T>::lowest();  // its sigmoid is 0
      const auto p = Sigmoid<T>().value(load_first(x + begin + from, count, lowest));
      const auto v = load_first(y + begin + from, count);
      products = S::fma(p, v, products);
      masses = S::add(masses, S::add(p, v));
      return p;
    });
    product += double(S::sum(products));
    mass += double(S::sum(masses));
  }
  const double share = (2 * product + 1) / (mass + 1);
  const auto ratio = S::fill(T(share)), two = S::fill(T(2)), factor = S::fill(T(scale / (mass + 1)));
  write_vectors(dx, size, false, [&](Index i, Index count) {
    const auto p = load_first<T>(dx + i, count), slope = S::mul(p, S::sub(S::fill(T(1)), p));
    const auto y_part = S::sub(ratio, S::mul(two, load_first(y + i, count)));
    return S::mul(S::mul(slope, factor), y_part);
  });
  return scale * (1 - share);
}

// `parts` has room for a loss of each map; returns their sum.
template <class T>
double dice_loss(const T* x, const T* y, T* dx, double* parts, Index maps, Index size) {
  const double scale = 1 / double(maps);
  parallel_ranges(maps, std::max<Index>(1, 2048 / size), 12.0 * double(size), [=](Index begin, Index end) {
    for (Index m = begin; m < end; ++m)
      parts[m] = dice_loss_of_map(x + m * size, y + m * size, dx + m * size, size, scale);
  });
  double total = 0;
  for (Index m = 0; m < maps; ++m) total += parts[m];
  return total;
}

}  // namespace cnnlib::CNNLIB_ISA
