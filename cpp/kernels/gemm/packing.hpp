// Packing: the operands of a matrix product in the order in which the micro-kernel reads them.
//
//   a, rows cut into panels of at most max_rows:      b, columns cut into panels of `lanes`:
//
//      +-- panel 0 --+   [panel][k][row]                 panel 0  panel 1     [panel][k][lane]
//      | 0  3  6  9  |                                  | 0 1 2 | 12 ..
//      | 1  4  7 10  |   numbers: the order             | 3 4 5 |             zero beyond the last
//      | 2  5  8 11  |   in memory                      | 6 7 8 |             column
//      +-- panel 1 --+                                  | 9 ..  |
//      | 12 ..                                   k  ->  k: downwards
#pragma once

#include "kernels/gemm/operands.hpp"

namespace cnnlib::CNNLIB_ISA {

// Rows [m0, m0 + rows) of a chunk of a.
template <class T>
void pack_a(const MatrixProduct<T>& p, Index m0, Index rows, Index chunk, T* to) {
  using S = Simd<T>;
  const Panels panels(rows);
  const Index terms = p.terms(chunk);
  for (Index panel = 0; panel < panels.count; ++panel) {
    const Index m = m0 + panels.first(panel), height = panels.rows(panel);
    const T* from = p.a_chunk(chunk) + m * p.a.row;
    if (p.a.col == 1) {
      pack_panel<T>([&](Index i) { return from + i * p.a.row; }, height, terms, to);
    } else {
      // What a vector holds beyond the panel is overwritten by the next one.
      const bool inside = m + round_up(height, S::size) <= p.M;
      for (Index k = 0; k < terms; ++k)
        for (Index i = 0; i < height; i += S::size) {
          const T* at = from + k * p.a.col + i;
          S::store(to + k * height + i,
                   inside ? S::load(at) : S::load_lanes(at, 0, std::min<Index>(S::size, height - i)));
        }
    }
    to += height * terms;
  }
}

// Columns [n, n + lanes) of a chunk of b.
template <class T>
void pack_b(const MatrixProduct<T>& p, Index n, Index chunk, T* to) {
  using S = Simd<T>;
  const Index terms = p.terms(chunk), width = std::min(p.lanes, p.N - n);
  const T* from = p.b_chunk(chunk) + n * p.b.col;
  if (p.b.col == 1) {
    for (Index k = 0; k < terms; ++k)
      for (Index i = 0; i < p.lanes; i += S::size) {
        const Index count = std::clamp<Index>(width - i, 0, S::size);
        S::store(to + k * p.lanes + i, count > 0 ? load_first(from + k * p.b.row + i, count) : S::zero());
      }
  } else {
    if (width < p.lanes) std::fill_n(to, terms * p.lanes, T(0));
    transpose(from, p.b.col, width, terms, to, p.lanes);
  }
}

}  // namespace cnnlib::CNNLIB_ISA
