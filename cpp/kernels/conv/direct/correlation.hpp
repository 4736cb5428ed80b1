// What a correlation is. It runs as an implicit matrix product: no column matrix is ever built, since in
// the staging planes each tap is a constant offset.
#pragma once

#include <memory>

#include "kernels/clamp.hpp"
#include "kernels/conv/staging.hpp"

namespace cnnlib::CNNLIB_ISA {

// out[n, g*F + f](i, j) = bias[g*F + f]
//     + sum_{c, a, b} w[g, f, c, a, b] * x[n, g*C + c](i * stride_h + y.at[a], j * stride_w + x.at[b])
// with zeros outside the image; C and F count one group. Rows, planes and images of x and out may lie
// at any distance, and so may the columns of out.
//
// Paired columns: j counts pairs of the `columns` of out; taps [0, even_taps) of `cols` make the even ones
// and the other taps the odd ones, so that rows are written in one run.
template <class T>
struct Correlation {
  Index N, groups, C, F;
  Index H, W, OH, OW;
  TapAxis rows, cols;
  Index even_taps = 0, columns = 0;  // where columns are paired
  const T* x = nullptr;
  Index x_image, x_plane, x_row;
  const T *w = nullptr, *w_end = nullptr;
  Index w_group, w_filter, w_channel, weights;  // of all groups
  bool prepacked = false;                       // weights are kept
  Epilogue<T> epilogue;
  T* out = nullptr;
  Index out_first;  // position in a plane
  Index out_image, out_plane, out_row, out_col;

  Index taps() const { return rows.count * cols.count; }
  double work() const { return 2.0 / 16 * N * groups * F * OH * OW * C * taps(); }
  // Whether the weights of a filter lie in the order of their use.
  bool weights_in_order() const { return w_filter > 1 && w_channel == taps() && kinds() == 1; }
  Index kinds() const { return even_taps > 0 ? 2 : 1; }  // of columns
  // Moves the taps' positions and weights to memory of their own.
  std::unique_ptr<Index[]> keep_taps() {
    std::unique_ptr<Index[]> memory(new Index[2 * (rows.count + cols.count)]);
    Index* to = memory.get();
    for (TapAxis* axis : {&rows, &cols})
      for (const Index** list : {&axis->at, &axis->weight}) {
        to = std::copy_n(*list, axis->count, to);
        *list = to - axis->count;
      }
    return memory;
  }
  // The taps of `cols` that make a kind of columns.
  Index first_tap(Index kind) const { return kind == 0 ? 0 : even_taps; }
  Index taps_of(Index kind) const {
    return kinds() == 1 ? cols.count : kind == 0 ? even_taps : cols.count - even_taps;
  }
};

// Whether tiles can read x where it lies: a single tap at stride 1 that stays inside the image.
template <class T>
bool reads_in_place(const Correlation<T>& p) {
  const auto stays = [](const TapAxis& taps, Index positions, Index size) {
    return taps.count == 1 && taps.stride == 1 && taps.at[0] >= 0 && taps.at[0] + positions <= size;
  };
  return stays(p.rows, p.OH, p.H) && stays(p.cols, p.OW, p.W);
}

// to[i] = from[i], i < n, for a few vectors.
template <class T>
void copy_vectors(const T* from, Index n, T* to) {
  using S = Simd<T>;
  for (; n >= S::size; n -= S::size, from += S::size, to += S::size) S::store(to, S::load(from));
  if (n > 0) S::store_lanes(to, S::load_lanes(from, 0, n), 0, n);
}

// The weights of one of several channels, those of `filters` filters for a tap at from(tap), to
// packed[kind of columns][row][tap of the kind][width]: the taps of kernel row a to row `first` + a * `next`.
template <class T, class From>
[[gnu::always_inline]] inline void pack_taps(const Correlation<T>& p, const From& from, Index filters,
                                             Index channels, Index first, Index next, Index width,
                                             T* packed) {
  for (Index kind = 0; kind < p.kinds(); ++kind) {
    const Index taps = p.taps_of(kind);
    for (Index a = 0; a < p.rows.count; ++a)
      for (Index k = 0; k < taps; ++k)
        copy_vectors(from(p.rows.weight[a] + p.cols.weight[p.first_tap(kind) + k]), filters,
                     packed + ((first + a * next) * taps + k) * width);
    packed += channels * p.rows.count * taps * width;
  }
}

}  // namespace cnnlib::CNNLIB_ISA
