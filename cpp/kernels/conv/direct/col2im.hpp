// dx where an image has few channels, as in a first layer. One matrix product finds what every tap of every
// channel receives, with all (channel, tap) pairs as rows; then each row of dx gathers its taps (col2im).
//
//   packed[group][panel of (channel, tap) pairs][f][row of the panel]
#pragma once

#include "kernels/conv/method.hpp"
#include "kernels/conv/prefetch_ahead.hpp"
#include "kernels/conv/staging.hpp"
#include "kernels/simd/loops.hpp"
#include "threads/parallel.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
class Col2im {
  using S = Simd<T>;
  static constexpr Index lanes = S::size, band_bytes = 24 << 10;  // of products, in the first-level cache

 public:
  Col2im(const ConvShape& shape, const ConvOperands<T>& operands) : s(shape), o(operands) {}

  Index packed_size() const { return s.groups * pairs * F; }

  void pack(T* packed) const {
    for (Index g = 0; g < s.groups; ++g)
      for (Index panel = 0; panel < panels.count; ++panel)
        for (Index f = 0; f < F; ++f)
          for (Index m = 0; m < panels.rows(panel); ++m)
            packed[(g * pairs + panels.first(panel)) * F + f * panels.rows(panel) + m] =
                o.w[(g * F + f) * pairs + panels.first(panel) + m];
  }

  void run(const T* packed) const {
    const ScratchOf<Memory> scratch(*this);
    Index *offset = scratch->offset.data(), *columns = scratch->columns.data();
    for (Index f = 0; f < F; ++f) offset[f] = f * s.OH * s.OW;
    list_columns(columns);
    scratch->first_use.reset();
    parallel_for(s.N * s.groups, threads, [&](Index task, int slot) {
      if (scratch->first_use(slot))  // margins stay zero
        std::fill_n(scratch->products[slot], pairs * plane, T(0));
      image({offset, columns, scratch->products[slot], scratch->terms[slot], scratch->line[slot]}, task,
            packed);
    });
  }

  void describe(ConvExplanation& to) const {
    fill_in(to, {panels.rows(0), NR<T>}, threads, {{"output rows", band}, {"held rows", held}});
    to.scratch_bytes = bytes_of<Memory>(*this);
  }

 private:
  struct Memory {
    const Col2im& m;
    Layout& layout;
    FirstUse first_use{m.threads, layout};
    Reserved<Index> offset{layout, m.F};
    // For every column phase of dx the number of kernel columns that reach it, then their offsets.
    Reserved<Index> columns{layout, m.s.stride_w * (m.s.KW + 1)};
    ThreadReserved<T> products{layout, m.threads, checked_product(m.pairs, m.plane)};
    ThreadReserved<Index> terms{layout, m.threads, m.s.stride_w * m.most_terms};
    ThreadReserved<T> line{layout, m.threads, std::max(m.padded, 2 * lanes)};
  };
  struct Work {
    const Index *offset, *columns;
    T* products;
    Index* terms;
    T* line;
  };

  void list_columns(Index* columns) const {
    for (Index phase = 0; phase < s.stride_w; ++phase) {
      Index count = 0, *terms = columns + phase * (s.KW + 1);
      for (Index kw = 0; kw < s.KW; ++kw) {
        const Index right = phase + s.pad_left - kw * s.dilation_w;
        if (right % s.stride_w == 0) terms[++count] = kw * plane + before + right / s.stride_w;
      }
      terms[0] = count;
    }
  }

  // dx of one image (of one group). Rows of dx are gathered as soon as the rows of outputs that reach them
  // were multiplied, which are in the first-level cache then.
  void image(const Work& work, Index image, const T* packed) const {
    const Index group = image % s.groups;
    const T* grad = o.in + image * F * s.OH * s.OW;
    packed += group * pairs * F;
    Index h = 0;
    for (Index begin = 0; begin < s.OH; begin += band) {
      const Index end = std::min(s.OH, begin + band), tiles = ceil_div((end - begin) * per_row, tile_vectors);
      const Index next_rows = std::min(s.OH, end + band) - end;
      const PrefetchAhead next(grad + end * s.OW, F, s.OH * s.OW, next_rows * s.OW, panels.count * tiles);
      for (Index panel = 0; panel < panels.count; ++panel)
        multiply(work, grad, begin, end, packed + panels.first(panel) * F, panels.rows(panel),
                 work.products + panels.first(panel) * plane, next.after(panel * tiles));
      for (; h < s.H && (end == s.OH || (h + s.pad_top) / s.stride_h < end); ++h) {
        list_terms(h, work);
        for (Index c = 0; c < C; ++c)
          gather(work, work.products + c * s.KH * s.KW * plane,
                 o.epilogue.bias != nullptr ? o.epilogue.bias[group * C + c] : T(0),
                 o.out + ((image * C + c) * s.H + h) * s.W);
      }
    }
  }

  // One panel's products for rows of outputs, in whole vectors: the last of a row overlaps its neighbour.
  void multiply(const Work& work, const T* grad, Index begin, Index end, const T* packed, Index height,
                T* products, PrefetchAhead next) const {
    const auto kernel = tile_kernel<T>(height);
    Target<T> target;
    target.step = plane;
    for (Index v = begin * per_row; v < end * per_row; v += tile_vectors) {
      const T* source[tile_vectors];
      for (Index u = 0; u < tile_vectors; ++u) {
        const Index at = std::min(v + u, end * per_row - 1), row = at / per_row;
        const Index col = std::min(at % per_row * lanes, s.OW - lanes);
        source[u] = grad + row * s.OW + col;
        target.to[u] = products + row % held * pitch + before + col;
      }
      next.part((v - begin * per_row) / tile_vectors);
      kernel(F, packed, height, work.offset, source, target);
    }
  }

  // For every column phase of row h the number of its terms, then their offsets into a channel's products.
  void list_terms(Index h, const Work& work) const {
    for (Index phase = 0; phase < s.stride_w; ++phase) work.terms[phase * most_terms] = 0;
    for (Index kh = 0; kh < s.KH; ++kh) {
      const Index down = h + s.pad_top - kh * s.dilation_h;
      if (down < 0 || down % s.stride_h != 0 || down / s.stride_h >= s.OH) continue;
      const Index row = kh * s.KW * plane + down / s.stride_h % held * pitch;
      for (Index phase = 0; phase < s.stride_w; ++phase) {
        const Index* column = work.columns + phase * (s.KW + 1);
        Index* to = work.terms + phase * most_terms;
        for (Index k = 1; k <= column[0]; ++k) to[++to[0]] = row + column[k];
      }
    }
  }

  void gather(const Work& work, const T* products, T bias, T* to) const {
    T* line = work.line;
    const auto sum = [&](Index phase, Index q) {
      const Index* term = work.terms + phase * most_terms;
      auto total = S::fill(bias);
      for (Index k = 1; k <= term[0]; ++k) total = S::add(total, S::load(products + term[k] + q));
      return total;
    };
    const auto part = [&](Index q, Index width) { return std::min(width, s.W - q); };
    if (s.stride_w == 1) {
      for (Index q = 0; q < s.W; q += lanes) store_first(to + q, part(q, lanes), sum(0, q));
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
  ConvOperands<T> o;
  Index C = s.C / s.groups, F = s.F / s.groups, pairs = C * s.KH * s.KW;
  int threads = int(std::min<Index>(threads_for(2.0 / 16 * s.N * s.F * pairs * s.OH * s.OW), s.N* s.groups));
  Panels panels{pairs};
  Index per_row = ceil_div(s.OW, lanes);  // vectors
  // Products [channel, tap][output row modulo `held`][pitch], each row between zero margins, so that a tap of
  // a row of dx is one run of vectors.
  Index padded = ceil_div(s.W, s.stride_w* lanes) * lanes;  // columns of one phase
  Index before = std::max<Index>(0, ceil_div((s.KW - 1) * s.dilation_w - s.pad_left, s.stride_w));
  Index pitch = before + std::max(s.OW, padded + (s.stride_w - 1 + s.pad_left) / s.stride_w);
  Index band = std::max<Index>(2, band_bytes / (pairs * pitch * Index(sizeof(T))) / 2 * 2);
  // A row of dx reads as many rows of outputs as its taps reach over, the last of which is in the band.
  Index held = std::min(s.OH, band + (s.KH - 1) * s.dilation_h / s.stride_h + 1);
  Index plane = held * pitch;
  Index most_terms = s.KH * s.KW + 1;
};

}  // namespace cnnlib::CNNLIB_ISA
