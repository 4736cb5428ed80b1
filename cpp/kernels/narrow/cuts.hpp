// What the methods for narrow values fit, and how each lays out its packed weights: panels of vectors of
// filters. They follow from the convolution and the instruction set alone. kernels/cuts.cpp compiles this
// header where those of threads and of the machine are errors.
#pragma once

#include "narrow_shapes.hpp"

namespace cnnlib::CNNLIB_ISA {

// A method packs its weights, then the numbers of whole vectors of filters. `Panels` says of which format,
// how many bytes and numbers these are, and which filter a vector's lane has, -1 for none.
template <class Panels, class Conv>
Index packed_bytes(const Conv& c) {
  const Panels p(c);
  return p.weights() + Panels::Format::number_bytes * p.numbers();
}
template <class Panels>
auto numbers_in(const void* packed, const Panels& p) {
  return Panels::Format::numbers_at(static_cast<const char*>(packed) + p.weights(), p.numbers());
}
// Packs the numbers, and weights of 0.
template <class Panels>
void begin_packing(const typename Panels::Format::Numbers& from, void* packed, const Panels& p) {
  using Format = typename Panels::Format;
  std::memset(packed, 0, std::size_t(p.weights() + Format::number_bytes * p.numbers()));
  char* const numbers = static_cast<char*>(packed) + p.weights();
  for (Index at = 0; at < p.numbers(); ++at) {
    const Index f = p.filter_of(at / Format::Lanes::size, at % Format::Lanes::size);
    if (f >= 0) Format::pack_number(from, f, numbers, p.numbers(), at);
  }
}

// Where the terms of a position lie: `rows` x `runs` runs of `steps` groups of kr values.
struct Terms {
  Index rows, runs, steps, row_offset, run_offset;
  Index count() const { return rows * runs * steps; }
};

template <class Value>
Terms terms_of(const NarrowConv<Value>& c) {
  const ConvShape& s = c.shape;
  const Index row = s.dilation_h * c.x.row(), pixel = c.x.pixel();
  if (s.groups == 1 && s.dilation_w == 1) return {s.KH, 1, s.KW * pixel / group_bytes, row, 0};
  return {s.KH, s.KW, ceil_div(s.C / s.groups, kr<Value>), row, s.dilation_w * pixel};
}

// The channels of a convolution's group are whole groups of kr.
template <class Value>
bool conv_fits(const NarrowConv<Value>& c) {
  return c.shape.groups == 1 || c.shape.C / c.shape.groups % kr<Value> == 0;
}

// Row i, column j and channels [c, c + count) of the windows of a group; count may be 0 or less.
struct Taps {
  Index i, j, c, count;
};

// Panels of weights are two vectors of filters wide; the last of a group may be one.
template <class NarrowFormat>
struct ConvPanels {
  using Format = NarrowFormat;
  using Lanes = typename Format::Lanes;
  using Conv = NarrowConv<typename Format::Value>;
  const Conv& c;
  Terms terms;
  Index groups, steps;
  Index filters, vectors;  // of a group

  explicit ConvPanels(const Conv& conv)
      : c(conv),
        terms(terms_of(c)),
        groups(c.shape.groups),
        steps(terms.count()),
        filters(c.shape.F / groups),
        vectors(ceil_div(filters, Lanes::size)) {}

  Index of_group() const { return ceil_div(vectors, 2); }
  // Of the panel that a vector is in.
  int width_of(Index vector) const { return vector % 2 == 1 || vector + 1 < vectors ? 2 : 1; }
  Index filter(Index vector, Index lane) const { return vector * Lanes::size + lane; }  // of its group
  Index filter_of(Index vector, Index lane) const {
    const Index f = filter(vector % vectors, lane);
    return f < filters ? vector / vectors * filters + f : -1;
  }
  Index numbers() const { return groups * vectors * Lanes::size; }  // filters, padded
  Index weights() const { return groups * vectors * steps * Lanes::weight_bytes; }
  Index offset(Index group, Index vector) const {
    return (group * vectors + vector) * steps * Lanes::weight_bytes;
  }
};

// The channel of a lane of `size` where `vectors` vectors take four channels each in turn: the order that
// packing their bytes undoes.
template <Index size>
Index by_fours(Index vectors, Index vector, Index lane) {
  return vector / vectors * vectors * size + (lane / 4 * vectors + vector % vectors) * 4 + lane % 4;
}

// Tiles of AMX: see tiles.hpp.
constexpr Index amx_rows = 16, amx_row_bytes = 64, amx_tile_bytes = amx_rows * amx_row_bytes;

// Two steps of a run are no more work for vectors than a tile is.
inline bool tiles_fit(const ByteConv& c) { return conv_fits(c) && terms_of(c).steps > 2; }
// Runs are whole rows of tiles: the values behind a run may be infinite, and weights of 0 make NaN of them.
inline bool tiles_fit(const BfloatConv& c) {
  return conv_fits(c) && terms_of(c).steps * group_bytes % amx_row_bytes == 0;
}

// Panels of two vectors of filters, the last of a group may be one: of each term, a tile of each vector.
template <class NarrowFormat>
struct TilePanels : ConvPanels<NarrowFormat> {
  using Base = ConvPanels<NarrowFormat>;
  using Lanes = typename Base::Lanes;
  Index tiles_of_run, tiles;  // of a vector
  Index paired;               // vectors whose filters lie in pairs, for stores of two at once

  explicit TilePanels(const typename Base::Conv& conv)
      : Base(conv),
        tiles_of_run(ceil_div(group_bytes * this->terms.steps, amx_row_bytes)),
        tiles(this->terms.rows * this->terms.runs * tiles_of_run),
        paired(NarrowFormat::stores_pairs && !conv.epilogue.scores ? this->filters / (2 * Lanes::size) * 2
                                                                   : 0) {}
  Index filter(Index vector, Index lane) const {
    return vector < paired ? by_fours<Lanes::size>(2, vector, lane) : Base::filter(vector, lane);
  }
  Index filter_of(Index vector, Index lane) const {
    const Index f = filter(vector % this->vectors, lane);
    return f < this->filters ? vector / this->vectors * this->filters + f : -1;
  }
  Index weights() const { return this->groups * this->vectors * tiles * amx_tile_bytes; }
  Index offset(Index group, Index vector) const {
    return (group * this->vectors + vector) * tiles * amx_tile_bytes;
  }
};

}  // namespace cnnlib::CNNLIB_ISA
