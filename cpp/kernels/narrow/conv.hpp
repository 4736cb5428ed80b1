// Convolution of narrow values as an implicit matrix product: lanes are filters, rows of the tile are
// positions, and the terms of a sum are runs of neighbouring values of x, channels last. No columns are made:
// the border of x holds zero, or its zero point. A Format says how values are multiplied and stored.
#pragma once

#include "kernels/narrow/cuts.hpp"
#include "kernels/narrow/images.hpp"
#include "memory/scratch.hpp"
#include "threads/grid.hpp"

namespace cnnlib::CNNLIB_ISA {

// Calls with (group, vector, step, the weights of the vector's filters) for each step of the sums, all
// vectors at once. What is packed of weights is Format::Packed; those that no filter or channel has are 0.
template <class Panels, class Given, class Call>
void each_step(const Panels& p, const Given& w, const Call& call) {
  using Format = typename Panels::Format;
  constexpr Index k = kr<typename Format::Value>, size = Format::Lanes::size;
  const ConvShape& s = p.c.shape;
  const Index C = s.C / s.groups, padded = s.groups == 1 ? p.c.x.channels() : round_up(C, k);
  const int threads = threads_for(double(p.groups * p.vectors * size) * double(s.KH * s.KW * padded));
  parallel_grid({p.groups, p.vectors}, threads, [&](Index g, Index v, int) {
    Index step = 0;
    for (Index i = 0; i < s.KH; ++i)
      for (Index j = 0; j < s.KW; ++j)
        for (Index c = 0; c < padded; c += k, ++step)
          call(g, v, step, Format::packed(w, p, g, v, {i, j, c, std::min(k, C - c)}));
  });
}

template <class Format>
void pack_conv(const NarrowConv<typename Format::Value>& c, typename Format::Given w,
               const typename Format::Numbers& numbers, void* packed) {
  using Lanes = typename Format::Lanes;
  const ConvPanels<Format> p(c);
  begin_packing(numbers, packed, p);
  each_step(p, w, [&](Index group, Index vector, Index step, const typename Format::Packed& weights) {
    const Index at = step * p.width_of(vector) + vector % 2;
    Lanes::pack_weights(&weights, static_cast<std::uint8_t*>(packed) + p.offset(group, vector / 2 * 2) +
                                      at * Lanes::weight_bytes);
  });
}

// The terms of a position one after the other, widened for sets that multiply 16-bit numbers: of each four
// bytes the pair at even places, then that at odd ones.
inline void widen(const Terms& t, const std::uint8_t* x, std::uint32_t* out) {
  constexpr std::uint32_t even = 0x00FF00FF;
  for (Index row = 0; row < t.rows; ++row)
    for (Index run = 0; run < t.runs; ++run, out += 2 * t.steps) {
      const std::uint8_t* const from = x + row * t.row_offset + run * t.run_offset;
      for (Index i = 0; i < t.steps; ++i) {
        std::uint32_t four;
        std::memcpy(&four, from + 4 * i, 4);
        out[2 * i] = four & even;
        out[2 * i + 1] = four >> 8 & even;
      }
    }
}

// `steps` steps from offset k on, all of whose weights stay in registers.
template <class Lanes, int steps, int V, int R>
[[gnu::always_inline]] inline void product_steps(const std::uint8_t* const* x, Index k, const std::uint8_t* w,
                                                 typename Lanes::Sums (&sums)[R][V]) {
  typename Lanes::Weights weights[steps][V];
#pragma GCC unroll 4
  for (int i = 0; i < steps; ++i)
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) weights[i][v] = Lanes::load_weights(w + (i * V + v) * Lanes::weight_bytes);
#pragma GCC unroll 16
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 4
    for (int i = 0; i < steps; ++i) {
      const typename Lanes::Values values = Lanes::values_at(x[r], k + 4 * i);
#pragma GCC unroll 2
      for (int v = 0; v < V; ++v) sums[r][v] = Lanes::dot(sums[r][v], values, weights[i][v]);
    }
}

// Sums of R positions, at x[r], and V vectors of filters. More pointers than registers: several steps for
// each that is loaded, where 32 vector registers have room for their weights.
template <class Format, int V, int R>
[[gnu::always_inline]] inline void product_tile(const std::uint8_t* const* x, const Terms& t,
                                                const std::uint8_t* w,
                                                typename Format::Lanes::Sums (&sums)[R][V]) {
  using Lanes = typename Format::Lanes;
  constexpr int most = Lanes::registers < 32 || Format::widens ? 1 : V == 1 ? 4 : 2;
  for (int r = 0; r < R; ++r)
    for (int v = 0; v < V; ++v) sums[r][v] = Lanes::zero();
  for (Index row = 0; row < t.rows; ++row)
    for (Index run = 0; run < t.runs; ++run) {
      Index k = row * t.row_offset + run * t.run_offset;
      const Index end = k + 4 * t.steps;
      for (; k + 4 * most <= end; k += 4 * most, w += most * V * Lanes::weight_bytes)
        product_steps<Lanes, most, V, R>(x, k, w, sums);
      if (most > 1)
        for (; k < end; k += 4, w += V * Lanes::weight_bytes) product_steps<Lanes, 1, V, R>(x, k, w, sums);
    }
}

template <class Format>
struct ConvData {
  const std::uint8_t *x, *other;
  void* y;  // narrow values, or floats
  const std::uint8_t* weights;
  typename Format::Numbers numbers;
};

constexpr Index most_positions = 256;  // of a block

// A block of positions: what is found once for all panels of filters, such as where the positions lie.
template <class NarrowFormat>
struct ConvBlock {
  using Format = NarrowFormat;
  using Conv = NarrowConv<typename Format::Value>;
  static constexpr Index most = most_positions;
  const Conv& c;
  const ConvData<Format>& d;
  const ConvPanels<Format>& p;
  const typename Format::Finish epilogue;
  Index count;
  Index x[most], y[most], other[most];

  ConvBlock(const Conv& conv, const ConvData<Format>& data, const ConvPanels<Format>& panels, Index first,
            Index last)
      : c(conv), d(data), p(panels), epilogue(c.epilogue), count(last - first) {
    const ConvShape& s = c.shape;
    const Index x_step = s.stride_w * c.x.pixel(), y_step = c.epilogue.scores ? 0 : c.y_step();
    const Index other_step = c.epilogue.add ? c.other.pixel() : 0;
    for (Index i = 0; i < count;) {  // a row, or what of it is left
      const Index at = first + i, n = at / (s.OH * s.OW), h = at / s.OW % s.OH, w = at % s.OW;
      const Index x_first = c.window_row(n, h) + w * x_step;
      const Index y_first = c.epilogue.scores ? n * s.F : c.y_row(n, h) + w * y_step;
      const Index other_first = c.epilogue.add ? c.other.row_of(n, h) + w * other_step : 0;
      const Index row = std::min(count - i, s.OW - w);
      for (Index k = 0; k < row; ++k, ++i) {
        x[i] = x_first + k * x_step;
        y[i] = y_first + k * y_step;
        other[i] = other_first + k * other_step;
      }
    }
  }
};

// Stores the sums(r) of a vector of filters at positions first + r of a block, r < count. R: `count` where
// that is known, so that sums stay in registers, else 0.
template <int R = 0, class Format, class SumsOf>
[[gnu::always_inline]] inline void store_vector(const ConvBlock<Format>& block, Index group, Index vector,
                                                Index first, Index count, const SumsOf& sums) {
  constexpr Index size = Format::Lanes::size, item = sizeof(typename Format::Value);
  const auto& c = block.c;
  const auto& d = block.d;
  const auto& p = block.p;
  // A last vector also writes the padding channels, which are in nobody's group.
  const Index filters = p.groups == 1 && !c.epilogue.scores ? c.y.channels() : p.filters;
  const Index f = vector * size, at = group * p.filters + f, to = at * item, left = filters - f;
  const typename Format::NumberVector n(d.numbers, group * p.vectors * size + f);
  const typename Format::Finish epilogue = block.epilogue;  // a copy, which no store may alias
  const Index *const y = block.y + first, *const other = block.other + first;
  auto* const values = static_cast<std::uint8_t*>(d.y) + to;
  if (c.epilogue.scores)
    for (Index r = 0; r < count; ++r)
      epilogue.store_scores(sums(r), n, static_cast<float*>(d.y) + y[r] + at, left);
  else if (R > 0 && left >= size && c.epilogue.add)
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) epilogue.store(sums(r), n, d.other + other[r] + to, values + y[r], size);
  else if (R > 0 && left >= size)
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) epilogue.store(sums(r), n, values + y[r], size);
  else if (c.epilogue.add)
    for (Index r = 0; r < count; ++r)
      epilogue.store(sums(r), n, d.other + other[r] + to, values + y[r], std::min<Index>(left, size));
  else
    for (Index r = 0; r < count; ++r) epilogue.store(sums(r), n, values + y[r], std::min<Index>(left, size));
}

// Where the terms of a block's positions lie.
struct BlockTerms {
  const std::uint8_t* x[most_positions];
  Terms terms;

  // Of the channels that lie `offset` bytes behind a pixel's first one.
  template <class Format>
  BlockTerms(const ConvBlock<Format>& block, Index offset) : terms(block.p.terms) {
    for (Index i = 0; i < block.count; ++i) x[i] = block.d.x + block.x[i] + offset;
  }
  // Widened, to `room`.
  void widen_to(std::uint8_t* room, Index count) {
    const Terms all{1, 1, terms.count(), 0, 0};
    for (Index i = 0; i < count; ++i, room += 8 * all.steps) {
      widen(terms, x[i], reinterpret_cast<std::uint32_t*>(room));
      x[i] = room;
    }
    terms = all;
  }
};

// Positions first, first + 1, ... of a block, of V vectors of filters from vector v0 of a group on.
template <int V, int R, class Format>
void conv_tile(const ConvBlock<Format>& block, const BlockTerms& at, Index group, Index v0, Index first) {
  const Index count = std::min<Index>(R, block.count - first);
  const std::uint8_t* x[R];
  for (Index r = 0; r < R; ++r)
    x[r] = at.x[first + std::min(r, count - 1)];  // beyond, the last position again
  typename Format::Lanes::Sums sums[R][V];
  product_tile<Format, V, R>(x, at.terms, block.d.weights + block.p.offset(group, v0), sums);
#pragma GCC unroll 2
  for (int v = 0; v < V; ++v) {
    const auto sums_at = [&](Index r) { return sums[r][v]; };
    if (count == R)
      store_vector<R>(block, group, v0 + v, first, R, sums_at);
    else
      store_vector(block, group, v0 + v, first, count, sums_at);
  }
}

// Panel `panel` of all groups' on a block of positions.
template <class Format>
void conv_panel(const ConvBlock<Format>& block, const BlockTerms& at, Index panel) {
  constexpr int R = Format::Lanes::tile_rows, few = R > 4 ? 4 : 1;
  const ConvPanels<Format>& p = block.p;
  const Index group = panel / p.of_group(), v0 = panel % p.of_group() * 2;
  const bool pair = p.width_of(v0) == 2;
  for (Index i = 0; i < block.count;) {
    const bool tail = block.count - i <= few;
    const auto tile = tail ? (pair ? conv_tile<2, few, Format> : conv_tile<1, few, Format>)
                           : (pair ? conv_tile<2, R, Format> : conv_tile<1, R, Format>);
    tile(block, at, group, v0, i);
    i += tail ? few : R;
  }
}

// How a convolution is cut: `count` positions, or tiles of them, into blocks of at most `most`, a multiple of
// `step` and at least `least`: as many as threads want, then panels into parts.
struct ConvGrid {
  Index count, panels, block, part;
  int threads;

  ConvGrid(Index all, Index all_panels, Index most, Index least, Index step, int most_threads)
      : count(all), panels(all_panels), threads(most_threads) {
    const Index wanted = threads > 1 ? 4 * threads : 1;
    block = std::min(most, std::max(least, round_up(ceil_div(count, wanted), step)));
    part = ceil_div(panels, std::min(panels, ceil_div(wanted, ceil_div(count, block))));
  }
  template <class Body>  // body(a block, a part of the panels)
  void each(const Body& body) const {
    parallel_grid({ceil_div(count, block), ceil_div(panels, part)}, threads, [&](Index i, Index k, int) {
      body(Range{i * block, std::min(count, (i + 1) * block)},
           Range{k * part, std::min(panels, (k + 1) * part)});
    });
  }
};

// A block's part of x stays in the second level while the panels pass: so many positions, or tiles, of so
// many bytes.
inline Index cached_block(Index bytes, Index least, Index most, Index step) {
  constexpr Index most_bytes = 256 << 10;
  return std::clamp(most_bytes / std::max<Index>(1, bytes) / step * step, least, most / step * step);
}

template <class Format>
void conv(const NarrowConv<typename Format::Value>& c, const std::uint8_t* x, const std::uint8_t* other,
          const void* packed, void* y, Index images) {
  const ConvPanels<Format> p(c);
  const ConvData<Format> d{x, other, y, static_cast<const std::uint8_t*>(packed), numbers_in(packed, p)};
  if (!c.epilogue.scores && c.begins_image())
    fill_border(c.y, Format::border(c), static_cast<std::uint8_t*>(y), images);
  const Index positions = images * c.shape.OH * c.shape.OW, panels = p.groups * p.of_group();
  const int threads = threads_for(double(positions) * double(c.shape.F) * double(p.steps) / 8);
  constexpr Index R = Format::Lanes::tile_rows, least = 4 * R;
  const Index widened_bytes = 8 * p.steps;  // of the terms of a position
  const Index x_bytes = Format::widens ? widened_bytes : c.x.bytes() / (c.shape.OH * c.shape.OW);
  const Index most = cached_block(x_bytes, least, most_positions, R);
  const Index group_offset = c.shape.C / p.groups * Index{sizeof(typename Format::Value)};
  ConvGrid(positions, panels, most, least, R, threads).each([&](Range own, Range part) {
    const ConvBlock<Format> block(c, d, p, own.first, own.last);
    for (Index panel = part.first; panel < part.last;) {
      const Index group = panel / p.of_group(), group_end = std::min(part.last, (group + 1) * p.of_group());
      BlockTerms at(block, group * group_offset);
      const Scratch room(Format::widens ? std::size_t(block.count * widened_bytes) : 0);
      if (Format::widens) at.widen_to(static_cast<std::uint8_t*>(room.data()), block.count);
      for (; panel < group_end; ++panel) conv_panel(block, at, panel);
    }
  });
}

}  // namespace cnnlib::CNNLIB_ISA
