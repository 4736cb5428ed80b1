// Which pools walk down columns.
#pragma once

#include "kernels/column_walks.hpp"
#include "kernels/pool_bands.hpp"

namespace cnnlib::CNNLIB_ISA {

inline bool small_windows(const PoolShape& s) {
  const bool sizes = (s.PW == 2 && s.stride_w == 2) || (s.PW == 3 && s.stride_w <= 2);
  return sizes && s.dilation_h == 1 && s.dilation_w == 1 && s.PH <= 3;
}

// Calls body with PW and the horizontal stride as compile-time constants.
template <class Body>
void with_window(const PoolShape& s, const Body& body) {
  using std::integral_constant;
  using Two = integral_constant<int, 2>;
  using Three = integral_constant<int, 3>;
  if (s.PW == 2) return body(Two{}, Two{});
  s.stride_w == 1 ? body(Three{}, integral_constant<int, 1>{}) : body(Three{}, Two{});
}

}  // namespace cnnlib::CNNLIB_ISA
