// dx where an image has few channels, a first layer's say. One matrix product finds what every tap of
// every channel receives, with all (channel, tap) pairs as rows; then each row of dx gathers its taps.
#pragma once

#include "kernels/conv/direct/implicit_gemm.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
class InputGradientFewChannels {
  using S = Simd<T>;
  static constexpr Index lanes = S::size, band_bytes = 24 << 10;

 public:
  InputGradientFewChannels(const T* w, const ConvShape& shape, int most_threads)
      : s(shape), threads(most_threads) {
    for (Index f = 0; f < F; ++f) offset[f] = f * s.OH * s.OW;
    for (Index g = 0; g < s.groups; ++g)
      for (Index panel = 0; panel < panels.count; ++panel)
        for (Index f = 0; f < F; ++f)
          for (Index m = 0; m < panels.rows(panel); ++m)
            filters[(g * rows + panels.first(panel)) * F + f * panels.rows(panel) + m] =
                w[(g * F + f) * rows + panels.first(panel) + m];
    for (Index phase = 0; phase < s.stride_w; ++phase) {
      Index count = 0, *terms = columns + phase * (s.KW + 1);
      for (Index kw = 0; kw < s.KW; ++kw) {
        const Index right = phase + s.pad_left - kw * s.dilation_w;
        if (right % s.stride_w == 0) terms[++count] = kw * plane + before + right / s.stride_w;
      }
      terms[0] = count;
    }
    for (int slot = 0; slot < threads; ++slot) *margins_piece.of(scratch.data(), slot) = false;
  }

  // dx of one image (of one group), started from `bias` (C,) unless that is null. Rows of dx are gathered
  // as soon as the rows of outputs that reach them were multiplied, which are in the first-level cache then.
  void image(Index image, int slot, const T* dout, const T* bias, T* dx) const {
    const Index group = image % s.groups;
    const T *grad = dout + image * F * s.OH * s.OW, *packed = filters + group * rows * F;
    T* products = product_piece.of(scratch.data(), slot);
    bool* margins = margins_piece.of(scratch.data(), slot);
    if (!*margins) std::fill_n(products, product_size, T(0));
    *margins = true;
    Index* terms = term_piece.of(scratch.data(), slot);
    T* line = line_piece.of(scratch.data(), slot);
    Index h = 0;
    for (Index begin = 0; begin < s.OH; begin += band) {
      const Index end = std::min(s.OH, begin + band);
      for (Index panel = 0; panel < panels.count; ++panel)
        multiply(grad, begin, end, packed + panels.first(panel) * F, panels.rows(panel),
                 products + panels.first(panel) * plane);
      for (; h < s.H && (end == s.OH || (h + s.pad_top) / s.stride_h < end); ++h) {
        plan_terms(h, terms);
        for (Index c = 0; c < C; ++c)
          gather(products + c * s.KH * s.KW * plane, terms, bias != nullptr ? bias[group * C + c] : T(0),
                 line, dx + ((image * C + c) * s.H + h) * s.W);
      }
    }
  }

 private:
  // One panel's products for rows of outputs, in whole vectors: the last of a row overlaps its neighbour.
  void multiply(const T* grad, Index begin, Index end, const T* packed, Index height, T* products) const {
    const auto kernel = tile_kernel<T>(height);
    Target<T> target;
    target.step = plane;
    for (Index v = begin * per_row; v < end * per_row; v += tile_vectors) {
      const T* source[tile_vectors];
      for (Index u = 0; u < tile_vectors; ++u) {
        const Index at = std::min(v + u, end * per_row - 1), row = at / per_row;
        const Index col = std::min(at % per_row * lanes, s.OW - lanes);
        source[u] = grad + row * s.OW + col;
        target.to[u] = products + row * pitch + before + col;
      }
      kernel(F, packed, height, offset, source, target);
    }
  }

  // For every column phase of row h the number of its terms, then their offsets into a channel's products.
  void plan_terms(Index h, Index* terms) const {
    for (Index phase = 0; phase < s.stride_w; ++phase) terms[phase * most_terms] = 0;
    for (Index kh = 0; kh < s.KH; ++kh) {
      const Index down = h + s.pad_top - kh * s.dilation_h;
      if (down < 0 || down % s.stride_h != 0 || down / s.stride_h >= s.OH) continue;
      const Index row = kh * s.KW * plane + down / s.stride_h * pitch;
      for (Index phase = 0; phase < s.stride_w; ++phase) {
        const Index* column = columns + phase * (s.KW + 1);
        Index* to = terms + phase * most_terms;
        for (Index k = 1; k <= column[0]; ++k) to[++to[0]] = row + column[k];
      }
    }
  }

  void gather(const T* products, const Index* terms, T bias, T* line, T* to) const {
    const auto sum = [&](Index phase, Index q) {
      const Index* term = terms + phase * most_terms;
      auto total = S::fill(bias);
      for (Index k = 1; k <= term[0]; ++k) total = S::add(total, S::load(products + term[k] + q));
      return total;
    };
    const auto part = [&](Index q, Index width) { return std::min(width, s.W - q); };
    if (s.stride_w == 1) {
      for (Index q = 0; q < s.W; q += lanes) {
        if (part(q, lanes) == lanes)
          S::store(to + q, sum(0, q));
        else
          S::store_lanes(to + q, sum(0, q), 0, part(q, lanes));
      }
    } else if (s.stride_w == 2) {
      for (Index q = 0; 2 * q < s.W; q += lanes) {
        const auto even = sum(0, q), odd = sum(1, q);
        const Index width = part(2 * q, 2 * lanes);
        S::store_pairs(width == 2 * lanes ? to + 2 * q : line, even, odd);
        if (width == 2 * lanes) continue;
        if (width >= lanes) S::store(to + 2 * q, S::load(line));
        const Index whole = width / lanes * lanes;
        S::store_lanes(to + 2 * q + whole, S::load(line + whole), 0, width - whole);
      }
    } else {
      for (Index phase = 0; phase < std::min(s.stride_w, s.W); ++phase) {
        for (Index q = 0; q < padded; q += lanes) S::store(line + q, sum(phase, q));
        for (Index j = phase, q = 0; j < s.W; j += s.stride_w, ++q) to[j] = line[q];
      }
    }
  }

  ConvShape s;
  int threads;
  Index C = s.C / s.groups, F = s.F / s.groups, rows = C * s.KH * s.KW;
  Panels panels{rows};
  Index per_row = (s.OW + lanes - 1) / lanes;  // vectors
  // Products of one image: [channel, tap][OH][pitch], each row between zero margins, so that a tap of a
  // row of dx is one run of vectors.
  Index padded = (s.W + s.stride_w * lanes - 1) / (s.stride_w * lanes) * lanes;  // columns of one phase
  Index before = std::max<Index>(0, ((s.KW - 1) * s.dilation_w - s.pad_left + s.stride_w - 1) / s.stride_w);
  Index pitch = before + std::max(s.OW, padded + (s.stride_w - 1 + s.pad_left) / s.stride_w);
  Index plane = s.OH * pitch;
  Index band = std::max<Index>(2, band_bytes / (rows * pitch * Index(sizeof(T))) / 2 * 2);
  Index most_terms = s.KH * s.KW + 1;
  Index product_size = checked_product(rows, plane);

  Layout layout;
  Piece<Index> offset_piece = layout.array<Index>(F);
  // For every column phase of dx the number of kernel columns that reach it, then their offsets.
  Piece<Index> column_piece = layout.array<Index>(s.stride_w * (s.KW + 1));
  Piece<T> filter_piece = layout.array<T>(s.groups * rows * F);           // [group][panel][f][row]
  ThreadPiece<bool> margins_piece = layout.per_thread<bool>(threads, 1);  // whether they are zero
  ThreadPiece<T> product_piece = layout.per_thread<T>(threads, product_size);
  ThreadPiece<Index> term_piece = layout.per_thread<Index>(threads, s.stride_w* most_terms);
  ThreadPiece<T> line_piece = layout.per_thread<T>(threads, std::max(padded, 2 * lanes));
  Scratch scratch{layout.bytes()};
  Index* offset = offset_piece.in(scratch.data());
  Index* columns = column_piece.in(scratch.data());
  T* filters = filter_piece.in(scratch.data());
};

}  // namespace cnnlib::CNNLIB_ISA
