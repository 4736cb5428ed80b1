// Packing: the operands of a matrix product in the order in which the micro-kernel reads them.
//
//   a, rows cut into panels of at most MR:      b, columns cut into panels of `lanes`:
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
  const Index terms = p.sum.count(chunk);
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

// Panels [panels.first, panels.last) of a chunk of b, each `panel_step` after the one before.
template <class T>
void pack_b(const MatrixProduct<T>& p, Range panels, Index chunk, T* to, Index panel_step) {
  using S = Simd<T>;
  constexpr Index rows_ahead = 8;  // that are fetched from memory meanwhile, where several panels share them
  const Index terms = p.sum.count(chunk), first = panels.first * p.lanes;
  const Index width = std::min(p.N, panels.last * p.lanes) - first, whole = width / p.lanes * p.lanes;
  const T* from = p.b_chunk(chunk) + first * p.b.col;
  if (p.b.col == 1) {
    for (Index k = 0; k < terms; ++k, from += p.b.row, to += p.lanes) {
      if (width > p.lanes) prefetch(from + rows_ahead * p.b.row, width);
      T* panel = to;
      for (Index n = 0; n < whole; n += p.lanes, panel += panel_step)
        for (Index i = 0; i < p.lanes; i += S::size) S::store(panel + i, S::load(from + n + i));
      if (whole < width)
        for (Index i = 0; i < p.lanes; i += S::size) {
          const Index count = std::clamp<Index>(width - whole - i, 0, S::size);
          S::store(panel + i, count > 0 ? load_first(from + whole + i, count) : S::zero());
        }
    }
    return;
  }
  for (Index n = 0; n < width; n += p.lanes, to += panel_step) {
    const Index columns = std::min(p.lanes, width - n);
    if (columns < p.lanes) std::fill_n(to, terms * p.lanes, T(0));
    transpose(from + n * p.b.col, p.b.col, columns, terms, to, p.lanes);
  }
}

}  // namespace cnnlib::CNNLIB_ISA
