// Sums of parts that threads have made.
#pragma once

#include "kernels/simd/sums.hpp"
#include "threads/parallel.hpp"

namespace cnnlib::CNNLIB_ISA {

// total = the sum of `count` parts of `size` values that lie one after the other, in this order.
template <class T>
void sum_parts(const T* parts, Index count, Index size, T* total) {
  constexpr Index grain = 1024;
  parallel_ranges(size, grain, double(count), [=](Index begin, Index end) {
    std::copy(parts + begin, parts + end, total + begin);
    for (Index i = 1; i < count; ++i) add_to(total + begin, parts + i * size + begin, end - begin);
  });
}

}  // namespace cnnlib::CNNLIB_ISA
