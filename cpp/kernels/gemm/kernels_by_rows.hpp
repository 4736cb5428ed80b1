// Tables of a micro-kernel's instances, one for each number of rows of its tile.
#pragma once

#include <array>
#include <utility>

namespace cnnlib::CNNLIB_ISA {

template <class Instance, int... row>
constexpr auto kernels_by_rows(const Instance& instance, std::integer_sequence<int, row...>) {
  return std::array{instance(std::integral_constant<int, row + 1>())...};
}
// table[rows - 1] = instance(rows), a pointer to a function, for 1 to `most` rows as integral constants.
template <int most, class Instance>
constexpr auto kernels_by_rows(const Instance& instance) {
  return kernels_by_rows(instance, std::make_integer_sequence<int, most>());
}

}  // namespace cnnlib::CNNLIB_ISA
