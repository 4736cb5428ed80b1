// 3x3 convolution of bfloat16 at stride 1 by Winograd's F(2x2, 3x3): 16 products for four outputs instead of
// 36 (Lavin and Gray 2015, arXiv:1509.09308).
//
//   y = A' [ (G w G') * (B' x B) ] A
//   B' = [1  0 -1  0]   G = [1    0   0 ]   A' = [1  1  1  0]
//        [0  1  1  0]       [1/2  1/2 1/2]        [0  1 -1 -1]
//        [0 -1  1  0]       [1/2 -1/2 1/2]
//        [0  1  0 -1]       [0    0   1 ]
//
// Both transformed operands are computed in float32 and rounded to bfloat16; products and sums are float32.
#pragma once

#include "kernels/narrow/bfloat16_format.hpp"
#include "kernels/narrow/conv.hpp"

namespace cnnlib::CNNLIB_ISA {

constexpr Index bfloat_points = 16;  // of a tile of x, and of a filter

// Fewer channels or filters make transforms cost more than they save: bench/NOTES.md.
inline bool bfloat_winograd_fits(const BfloatConv& c) {
  constexpr Index least = 32;
  const ConvShape& s = c.shape;
  return c.wish == Method::automatic && s.KH == 3 && s.KW == 3 && s.stride_h == 1 && s.stride_w == 1 &&
         s.dilation_h == 1 && s.dilation_w == 1 && s.groups == 1 && s.C >= least && s.F >= least &&
         s.OH > 1 && s.OW > 1;
}

// Panels of two vectors of filters: of each point, groups of channels.
struct BfloatWinogradPanels {
  using Format = BfloatFormat;
  static constexpr Index width = 2 * BfloatLanes::size;  // filters
  const BfloatConv& c;
  Index groups, count;  // groups of two channels; panels

  explicit BfloatWinogradPanels(const BfloatConv& conv)
      : c(conv), groups(c.x.channels() / 2), count(ceil_div(c.shape.F, width)) {}
  Index point() const { return groups * 2 * BfloatLanes::weight_bytes; }  // bytes of a point of a panel
  Index weights() const { return count * bfloat_points * point(); }
  Index numbers() const { return count * width; }
  Index filter_of(Index vector, Index lane) const {
    const Index f = vector * BfloatLanes::size + lane;
    return f < c.shape.F ? f : -1;
  }
};

// The four numbers of a line of a filter by G, of a filter each lane.
[[gnu::always_inline]] inline void transform_filter(BfloatLanes::Sums a, BfloatLanes::Sums b,
                                                    BfloatLanes::Sums e, BfloatLanes::Sums (&out)[4]) {
  const BfloatLanes::Sums half = _mm512_set1_ps(0.5F);
  const BfloatLanes::Sums ends = _mm512_mul_ps(half, _mm512_add_ps(a, e)), middle = _mm512_mul_ps(half, b);
  out[0] = a;
  out[1] = _mm512_add_ps(ends, middle);
  out[2] = _mm512_sub_ps(ends, middle);
  out[3] = e;
}

inline void pack_bfloat_winograd(const BfloatConv& c, WeightView w, const FilterNumbers<Bfloat16>& numbers,
                                 void* packed) {
  using L = BfloatLanes;
  const BfloatWinogradPanels p(c);
  begin_packing(numbers, packed, p);
  const int threads = threads_for(double(c.shape.F * c.shape.C) * bfloat_points);
  parallel_for(ceil_div(c.shape.F, L::size), threads, [&](Index vector, int) {
    const Index f = vector * L::size;
    const L::Gather gather(w.filter, c.shape.F - f);
    for (Index k = 0; k < p.groups; ++k) {
      L::Sums points[2][4][4] = {};
      for (Index i = 0; i < std::min<Index>(2, c.shape.C - 2 * k); ++i) {
        L::Sums rows[3][4];
        for (Index r = 0; r < 3; ++r) {
          const auto at = [&](Index column) { return gather(w.at(f, 2 * k + i, r, column)); };
          transform_filter(at(0), at(1), at(2), rows[r]);
        }
        for (Index j = 0; j < 4; ++j) {
          L::Sums column[4];
          transform_filter(rows[0][j], rows[1][j], rows[2][j], column);
          for (Index r = 0; r < 4; ++r) points[i][r][j] = column[r];
        }
      }
      auto* to = static_cast<std::uint8_t*>(packed) + vector / 2 * bfloat_points * p.point() +
                 (2 * k + vector % 2) * L::weight_bytes;
      for (Index q = 0; q < bfloat_points; ++q, to += p.point())
        _mm512_storeu_si512(to, L::pairs(points[0][q / 4][q % 4], points[1][q / 4][q % 4]));
    }
  });
}

// Tiles of 2x2 outputs of some images, in the order of rows, and where their transforms lie: of each block of
// tiles, of each point, a row of channels for each tile.
struct BfloatTiles {
  static constexpr Index block = 24;  // two tiles of registers
  const BfloatConv& c;
  Index high, wide, row_bytes;

  explicit BfloatTiles(const BfloatConv& conv)
      : c(conv),
        high(ceil_div(c.shape.OH, 2)),
        wide(ceil_div(c.shape.OW, 2)),
        row_bytes(2 * round_up(c.x.channels(), BfloatLanes::size)) {}
  Index of_image() const { return high * wide; }
  Index row(Index tile) const { return tile % of_image() / wide * 2; }
  Index column(Index tile) const { return tile % wide * 2; }
  Index point_bytes() const { return block * row_bytes; }
  Index block_bytes() const { return bfloat_points * point_bytes(); }
};

using BfloatColumn = BfloatLanes::Sums[4];

// B' of four numbers a lane.
[[gnu::always_inline]] inline void transform_line(BfloatLanes::Sums a, BfloatLanes::Sums b,
                                                  BfloatLanes::Sums e, BfloatLanes::Sums f,
                                                  BfloatColumn& out) {
  out[0] = _mm512_sub_ps(a, e);
  out[1] = _mm512_add_ps(b, e);
  out[2] = _mm512_sub_ps(e, b);
  out[3] = _mm512_sub_ps(b, f);
}

// Tiles [first, first + count) of one row of tiles, transformed to v, which is the place of the first one.
// Neighbours share two columns.
inline void transform_tiles(const BfloatTiles& t, const std::uint8_t* x, Index first, Index count,
                            std::uint8_t* v) {
  const BfloatImage& s = t.c.x;
  const ConvShape& shape = t.c.shape;
  const std::uint8_t* const image =
      x + first / t.of_image() * s.bytes() + s.first() - shape.pad_top * s.row() - shape.pad_left * s.pixel();
  const Index h = t.row(first), w = t.column(first), last = shape.OW + 1;
  const std::uint8_t* rows[4];  // beyond the last window stands what no output takes
  for (Index i = 0; i < 4; ++i) rows[i] = image + std::min(h + i, shape.OH + 1) * s.row();
  for (Index c = 0; c < s.channels(); c += BfloatLanes::size) {
    const auto column = [&](Index at, BfloatColumn& out) {
      const Index offset = std::min(at, last) * s.pixel() + 2 * c;
      transform_line(BfloatLanes::widened(rows[0] + offset), BfloatLanes::widened(rows[1] + offset),
                     BfloatLanes::widened(rows[2] + offset), BfloatLanes::widened(rows[3] + offset), out);
    };
    BfloatColumn columns[4];
    column(w, columns[0]);
    column(w + 1, columns[1]);
    for (Index i = 0; i < count; ++i) {
      column(w + 2 * i + 2, columns[2]);
      column(w + 2 * i + 3, columns[3]);
      std::uint8_t* to = v + i * t.row_bytes + 2 * c;
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) {
        BfloatColumn points;
        transform_line(columns[0][k], columns[1][k], columns[2][k], columns[3][k], points);
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j, to += t.point_bytes()) BfloatLanes::store(to, points[j]);
      }
      std::copy_n(columns[2], 4, columns[0]);
      std::copy_n(columns[3], 4, columns[1]);
    }
  }
}

// Products of R tiles and two vectors of filters: sums[r] of v[r][channels].
template <int R>
inline void bfloat_point_product(const std::uint8_t* v, Index row_bytes, const std::uint8_t* w, Index groups,
                                 float* sums) {
  using L = BfloatLanes;
  L::Sums s[R][2];
  for (auto& row : s) row[0] = row[1] = L::zero();
  for (Index k = 0; k < groups; ++k, w += 2 * L::weight_bytes) {
    const L::Weights a = L::load_weights(w), b = L::load_weights(w + L::weight_bytes);
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
      const L::Values x = L::values_at(v + r * row_bytes, group_bytes * k);
      s[r][0] = L::dot(s[r][0], x, a);
      s[r][1] = L::dot(s[r][1], x, b);
    }
  }
  for (int r = 0; r < R; ++r)
    for (int i = 0; i < 2; ++i) _mm512_store_ps(sums + (2 * r + i) * L::size, s[r][i]);
}

// The four outputs of a tile and a vector of filters, whose points lie `step` apart.
[[gnu::always_inline]] inline void bfloat_outputs(const float* points, Index step,
                                                  BfloatLanes::Sums (&y)[2][2]) {
  BfloatLanes::Sums rows[2][4];
#pragma GCC unroll 4
  for (Index j = 0; j < 4; ++j) {
    const auto at = [&](Index i) { return _mm512_load_ps(points + (4 * i + j) * step); };
    const BfloatLanes::Sums b = at(1), e = at(2);
    rows[0][j] = _mm512_add_ps(_mm512_add_ps(at(0), b), e);
    rows[1][j] = _mm512_sub_ps(_mm512_sub_ps(b, e), at(3));
  }
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    const auto& r = rows[i];
    y[i][0] = _mm512_add_ps(_mm512_add_ps(r[0], r[1]), r[2]);
    y[i][1] = _mm512_sub_ps(_mm512_sub_ps(r[1], r[2]), r[3]);
  }
}

struct BfloatWinogradData {
  const std::uint8_t *weights, *other;
  std::uint8_t* y;
  FilterNumbers<Bfloat16> numbers;
};

// A panel of filters, of the `count` tiles of a block from `tile` on, whose transforms are at v.
inline void bfloat_winograd_panel(const BfloatTiles& t, const BfloatWinogradData& d,
                                  const BfloatWinogradPanels& p, Index panel, const std::uint8_t* v,
                                  Index tile, Index count) {
  constexpr Index R = BfloatLanes::tile_rows, width = BfloatWinogradPanels::width, few = 4;
  constexpr Index step = BfloatTiles::block * width;
  alignas(64) float products[bfloat_points * step];
  for (Index q = 0; q < bfloat_points; ++q) {
    const std::uint8_t* const w = d.weights + (panel * bfloat_points + q) * p.point();
    const std::uint8_t* const from = v + q * t.point_bytes();
    float* const to = products + q * step;
    Index i = 0;  // rows beyond `count` are there, of an older block
    for (; i + few < count; i += R)
      bfloat_point_product<R>(from + i * t.row_bytes, t.row_bytes, w, p.groups, to + i * width);
    if (i < count)
      bfloat_point_product<few>(from + i * t.row_bytes, t.row_bytes, w, p.groups, to + i * width);
  }
  const BfloatConv& c = t.c;
  for (Index vector = 0; vector < 2; ++vector) {
    const Index f = panel * width + vector * BfloatLanes::size, left = c.y.channels() - f;
    if (left <= 0) return;
    const BfloatFinish finish(c.epilogue);
    const BfloatFinish::NumberVector n(d.numbers, f);
    for (Index i = 0; i < count; ++i) {
      BfloatLanes::Sums sums[2][2];
      bfloat_outputs(products + i * width + vector * BfloatLanes::size, step, sums);
      const Index image = (tile + i) / t.of_image(), h = t.row(tile + i), w = t.column(tile + i);
      const auto place = [&](const BfloatImage& s, Index a, Index b) {
        return s.row_of(image, h + a) + (w + b) * s.pixel() + 2 * f;
      };
      for (Index a = 0; a < std::min<Index>(2, c.shape.OH - h); ++a)
        for (Index b = 0; b < std::min<Index>(2, c.shape.OW - w); ++b)
          if (c.epilogue.add)
            finish.store(sums[a][b], n, d.other + place(c.other, a, b), d.y + place(c.y, a, b), left);
          else
            finish.store(sums[a][b], n, d.y + place(c.y, a, b), left);
    }
  }
}

// Some blocks of tiles at a time: all threads transform them, then multiply.
inline void bfloat_winograd(const BfloatConv& c, const std::uint8_t* x, const std::uint8_t* other,
                            const void* packed, void* y, Index images) {
  constexpr Index most_bytes = 1 << 20;  // of a thread's transformed tiles: the second level
  constexpr Index block = BfloatTiles::block;
  const BfloatTiles t(c);
  const BfloatWinogradPanels p(c);
  auto* const out = static_cast<std::uint8_t*>(y);
  fill_border(c.y, 0, out, images);
  const Index tiles = images * t.of_image();
  const int threads = threads_for(double(tiles) * double(bfloat_points * p.groups * c.shape.F) / 8);
  const Index room = std::max<Index>(1, threads * most_bytes / t.block_bytes());
  const Index blocks = std::min(ceil_div(tiles, block), room);
  const Scratch scratch(std::size_t(blocks * t.block_bytes()));
  auto* const v = static_cast<std::uint8_t*>(scratch.data());
  const BfloatWinogradData d{static_cast<const std::uint8_t*>(packed), other, out, numbers_in(packed, p)};
  const Index some = blocks * block;
  for (Index first = 0; first < tiles; first += some) {
    const Index end = std::min(tiles, first + some), count = ceil_div(end - first, block);
    parallel_grid({count, 1}, threads, [&](Index b, Index, int) {
      const Index begin = first + b * block, last = std::min(end, begin + block);
      for (Index i = begin; i < last;) {
        const Index of_row = std::min(last - i, t.wide - i % t.wide);
        transform_tiles(t, x, i, of_row, v + b * t.block_bytes() + (i - begin) * t.row_bytes);
        i += of_row;
      }
    });
    ConvGrid(count, p.count, 1, 1, 1, threads).each([&](Range own, Range panels) {
      for (Index b = own.first; b < own.last; ++b)
        for (Index panel = panels.first; panel < panels.last; ++panel) {
          const Index begin = first + b * block;
          bfloat_winograd_panel(t, d, p, panel, v + b * t.block_bytes(), begin, std::min(block, end - begin));
        }
    });
  }
}

}  // namespace cnnlib::CNNLIB_ISA
