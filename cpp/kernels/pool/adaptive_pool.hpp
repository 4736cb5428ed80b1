// Adaptive pooling: OH x OW windows that cover the plane evenly, whatever its size.
#pragma once

#include "kernels/pool/avg_pool.hpp"
#include "kernels/pool/max_pool.hpp"

namespace cnnlib::CNNLIB_ISA {

inline AdaptiveWindows row_windows(const AdaptivePoolShape& s) { return {s.H, s.OH}; }
inline AdaptiveWindows column_windows(const AdaptivePoolShape& s) { return {s.W, s.OW}; }

// Whether all windows have one size, and the pool of that size.
inline bool even_windows(const AdaptivePoolShape& s) { return s.H % s.OH == 0 && s.W % s.OW == 0; }
inline PoolShape pool_of_even_windows(const AdaptivePoolShape& s) {
  return even_pool(s.planes, s.OH, s.OW, s.H / s.OH, s.W / s.OW);
}

// out[oh, ow] = mean of its window.
template <class T>
void adaptive_avg_pool_forward(const T* x, T* out, const AdaptivePoolShape& s) {
  if (even_windows(s)) return avg_pool_forward(x, out, pool_of_even_windows(s));
  window_means(x, s.planes, s.H, s.W, row_windows(s), column_windows(s), out);
}

// dx[h, w] = sum of dout / size over the windows that hold it.
template <class T>
void adaptive_avg_pool_backward(const T* dout, T* dx, const AdaptivePoolShape& s) {
  if (even_windows(s)) return avg_pool_backward(dout, dx, pool_of_even_windows(s));
  window_shares(dout, s.planes, s.H, s.W, row_windows(s), column_windows(s), dx);
}

// out[oh, ow] = maximum of its window, and arg, unless it is null, where in the plane it stands: the first in
// row-major order of equal values, and of NaN, which beats every number.
template <class T>
void adaptive_max_pool_forward(const T* x, T* out, std::int64_t* arg, const AdaptivePoolShape& s) {
  const auto axis = [](Index size, Index outputs) -> MaximaAxis {
    const Index fewest = ceil_div(size, outputs), uneven = size % outputs != 0;
    return {size, outputs, fewest, fewest + uneven, 1, uneven ? size : fewest, uneven ? outputs : 1, 0};
  };
  const MaximaAxis rows = axis(s.H, s.OH), columns = axis(s.W, s.OW);
  WindowMaxima<T>(x, rows, columns)
      .each(s.planes, out, [=](Index row, Index ow, Index count, const Maxima<T, true>& best, Index first) {
        if (arg == nullptr) return;
        const Index top = rows.begin(row % s.OH);
        T tap[Simd<T>::size];
        Simd<T>::store(tap, best.tap);
        for (Index l = 0; l < count; ++l) {
          const Index at = first + Index(tap[l]), kh = at / columns.most;
          arg[row * s.OW + ow + l] = (top + kh) * s.W + columns.begin(ow + l) + at - kh * columns.most;
        }
      });
}

// Each output's gradient goes to where its maximum stands.
template <class T>
void adaptive_max_pool_backward(const T* dout, const std::int64_t* arg, T* dx, const AdaptivePoolShape& s) {
  add_to_winners(dout, dx, s.planes, row_windows(s), s.OW, s.W,
                 [=](Index, Index o) { return [place = arg + o](Index ow) { return place[ow]; }; });
}

}  // namespace cnnlib::CNNLIB_ISA
