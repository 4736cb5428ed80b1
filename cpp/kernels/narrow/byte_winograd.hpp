// 3x3 convolution of bytes at stride 1 by Winograd's F(2x2, 3x3), in integers, for sets that multiply 16-bit
// numbers: 16 products for four outputs instead of 36 (Lavin and Gray 2015, arXiv:1509.09308).
//
//   4 y = A' [ (2 G w 2 G') * (B' x B) ] A
//   B' = [1  0 -1  0]   2 G = [2  0  0]   A' = [1  1  1  0]
//        [0  1  1  0]         [1  1  1]        [0  1 -1 -1]
//        [0 -1  1  0]         [1 -1  1]
//        [0  1  0 -1]         [0  0  2]
//
// Bytes become -510 .. 1020 and weights at most 9 * 127: 16 bits. Four times a sum of up to `most_channels`
// channels fits 32; sums may wrap on the way, since the last one does not. So these are the direct method's
// bits.
#pragma once

#include "kernels/narrow/byte_cuts.hpp"
#include "kernels/narrow/conv.hpp"

namespace cnnlib::CNNLIB_ISA {

// The four numbers of a line by 2 G.
inline void transform_weights(const int* w, Index step, int* out, Index out_step) {
  out[0] = 2 * w[0];
  out[out_step] = w[0] + w[step] + w[2 * step];
  out[2 * out_step] = w[0] - w[step] + w[2 * step];
  out[3 * out_step] = 2 * w[2 * step];
}

// w (F, C, 3, 3)
inline void pack_winograd(const ByteConv& c, const std::int8_t* w, const FilterNumbers<std::uint8_t>& numbers,
                          void* packed) {
  const WinogradPanels p{c};
  begin_packing(numbers, packed, p);
  for (Index f = 0; f < c.shape.F; ++f)
    for (Index k = 0; k < c.shape.C; ++k, w += 9) {
      int window[9], rows[12], points[16];
      std::copy_n(w, 9, window);
      for (int i = 0; i < 3; ++i) transform_weights(window + 3 * i, 1, rows + 4 * i, 1);
      for (int j = 0; j < 4; ++j) transform_weights(rows + j, 4, points + j, 4);
      std::int16_t* to = static_cast<std::int16_t*>(packed) + f / p.width * winograd_points * p.point() +
                         k / 2 * 2 * p.width + f % p.width * 2 + k % 2;
      for (Index q = 0; q < winograd_points; ++q, to += p.point()) *to = std::int16_t(points[q]);
    }
}

// Tiles of 2x2 outputs of some images, in the order of rows.
struct WinogradTiles {
  const ByteConv& c;
  Index high = ceil_div(c.shape.OH, 2), wide = ceil_div(c.shape.OW, 2);

  Index of_image() const { return high * wide; }
  Index row(Index tile) const { return tile % of_image() / wide * 2; }
  Index column(Index tile) const { return tile % wide * 2; }
};

// B' of four lines of numbers: to[step * i + n], i < 4, n < count.
template <class Number>
[[gnu::always_inline]] inline void transform_lines(const Number* const (&d)[4], Index count, std::int16_t* to,
                                                   Index step) {
  for (Index n = 0; n < count; ++n) {
    const std::int16_t a = d[0][n], b = d[1][n], e = d[2][n], f = d[3][n];
    to[n] = std::int16_t(a - e);
    to[step + n] = std::int16_t(b + e);
    to[2 * step + n] = std::int16_t(e - b);
    to[3 * step + n] = std::int16_t(b - f);
  }
}

// A tile of x, transformed: point q of channel k goes to out[q * step + k].
inline void transform_bytes(const WinogradTiles& t, const std::uint8_t* x, Index tile, std::int16_t* out,
                            Index step) {
  constexpr Index block = 64;
  const ByteImage& s = t.c.x;
  const ConvShape& shape = t.c.shape;
  const std::uint8_t* const image = x + tile / t.of_image() * s.bytes() + s.first() -
                                    shape.pad_top * s.row() - shape.pad_left * s.channels();
  const Index h = t.row(tile), w = t.column(tile);
  std::int16_t lines[4][4][block];
  for (Index k = 0; k < s.channels(); k += block) {
    const Index count = std::min(block, s.channels() - k);
    for (Index i = 0; i < 4; ++i) {
      const std::uint8_t* d[4];  // beyond the last window stands what no output takes
      for (Index j = 0; j < 4; ++j)
        d[j] = image + std::min(h + i, shape.OH + 1) * s.row() +
               std::min(w + j, shape.OW + 1) * s.channels() + k;
      transform_lines(d, count, lines[i][0], block);
    }
    for (Index j = 0; j < 4; ++j)
      transform_lines<std::int16_t>({lines[0][j], lines[1][j], lines[2][j], lines[3][j]}, count,
                                    out + j * step + k, 4 * step);
  }
}

constexpr Index winograd_tile_rows = IntLanes::registers == 32 ? 12 : 6;  // x 2 vectors of sums
constexpr Index winograd_block = 24;                                      // tiles of a block

// Products of R tiles and two vectors of filters: sums[r] of v[r][channels].
template <int R>
inline void winograd_product(const std::int16_t* v, Index v_step, const std::int16_t* w, Index channels,
                             std::int32_t* sums) {
  IntLanes::Sums s[R][2];
  for (auto& row : s) row[0] = row[1] = IntLanes::zero();
  for (Index k = 0; k < channels; k += 2, w += 4 * IntLanes::size) {
    const IntLanes::Sums a = IntLanes::load(w), b = IntLanes::load(w + 2 * IntLanes::size);
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
      const IntLanes::Sums x = IntLanes::broadcast(v + r * v_step + k);
      s[r][0] = IntLanes::dot_pairs(s[r][0], x, a);
      s[r][1] = IntLanes::dot_pairs(s[r][1], x, b);
    }
  }
  for (int r = 0; r < R; ++r)
    for (int i = 0; i < 2; ++i) IntLanes::store_sums(sums + (2 * r + i) * IntLanes::size, s[r][i]);
}

// The four outputs of a tile and a vector of filters, whose points lie `step` apart.
inline void winograd_outputs(const std::int32_t* points, Index step, IntLanes::Sums (&y)[2][2]) {
  IntLanes::Sums rows[2][4];
  for (Index j = 0; j < 4; ++j) {
    const auto at = [&](Index i) { return IntLanes::load(points + (4 * i + j) * step); };
    const IntLanes::Sums b = at(1), e = at(2);
    rows[0][j] = IntLanes::add(IntLanes::add(at(0), b), e);
    rows[1][j] = IntLanes::subtract(IntLanes::subtract(b, e), at(3));
  }
  for (int i = 0; i < 2; ++i) {
    const auto& r = rows[i];
    y[i][0] = IntLanes::quarter(IntLanes::add(IntLanes::add(r[0], r[1]), r[2]));
    y[i][1] = IntLanes::quarter(IntLanes::subtract(IntLanes::subtract(r[1], r[2]), r[3]));
  }
}

struct WinogradData {
  const std::int16_t *v, *weights;  // transformed tiles from `first` on
  Index v_tiles, first;
  const std::uint8_t* other;
  std::uint8_t* y;
  FilterNumbers<std::uint8_t> numbers;
};

// Tiles [tile, tile + count) of a panel of filters.
inline void winograd_panel(const WinogradTiles& t, const WinogradData& d, const Requantization& epilogue,
                           const WinogradPanels& p, Index panel, Index tile, Index count) {
  constexpr Index R = winograd_tile_rows, width = WinogradPanels::width;
  std::int32_t products[winograd_points * (winograd_block + R) * width];
  const Index step = (winograd_block + R) * width;
  for (Index q = 0; q < winograd_points; ++q) {
    const std::int16_t* const w = d.weights + (panel * winograd_points + q) * p.point();
    for (Index i = 0; i < count; i += R)  // rows of v beyond `count` are there: other tiles', or room
      winograd_product<R>(d.v + (q * d.v_tiles + tile - d.first + i) * p.channels, p.channels, w, p.channels,
                          products + q * step + i * width);
  }
  const ByteConv& c = t.c;
  for (Index v = 0; v < 2; ++v) {
    const Index f = panel * width + v * IntLanes::size, left = c.y.channels() - f;
    if (left <= 0) return;
    const FilterVector n(d.numbers, f);
    for (Index i = 0; i < count; ++i) {
      IntLanes::Sums sums[2][2];
      winograd_outputs(products + i * width + v * IntLanes::size, step, sums);
      const Index image = (tile + i) / t.of_image(), h = t.row(tile + i), w = t.column(tile + i);
      const auto place = [&](const ByteImage& s, Index a, Index b) {
        return s.row_of(image, h + a) + (w + b) * s.channels() + f;
      };
      for (Index a = 0; a < std::min<Index>(2, c.shape.OH - h); ++a)
        for (Index b = 0; b < std::min<Index>(2, c.shape.OW - w); ++b)
          if (c.epilogue.add)
            epilogue.store(sums[a][b], n, d.other + place(c.other, a, b), d.y + place(c.y, a, b), left);
          else
            epilogue.store(sums[a][b], n, d.y + place(c.y, a, b), left);
    }
  }
}

// Some tiles at a time: all threads transform them, then multiply.
inline void winograd(const ByteConv& c, const std::uint8_t* x, const std::uint8_t* other, const void* packed,
                     void* y, Index images) {
  constexpr Index most_bytes = 1 << 20;  // of a thread's transformed tiles: the second level
  const WinogradTiles t{c};
  const WinogradPanels p{c};
  auto* const out = static_cast<std::uint8_t*>(y);
  fill_border(c.y, c.epilogue.zero, out, images);
  const Index tiles = images * t.of_image();
  const int threads = threads_for(double(tiles) * double(winograd_points * p.channels * c.shape.F) / 16);
  const Index room = std::max(winograd_block, threads * most_bytes / (2 * winograd_points * p.channels));
  const Index some = std::min(tiles, round_up(room, winograd_block)), v_tiles = some + winograd_tile_rows;
  const Scratch scratch(std::size_t(winograd_points * v_tiles * p.channels) * sizeof(std::int16_t));
  auto* const v = static_cast<std::int16_t*>(scratch.data());
  for (Index q = 0; q < winograd_points; ++q)  // rows that the last products read beside their own
    std::fill_n(v + (q * v_tiles + some) * p.channels, winograd_tile_rows * p.channels, std::int16_t{0});
  for (Index first = 0; first < tiles; first += some) {
    const Index count = std::min(some, tiles - first);
    ConvGrid(count, 1, winograd_block, winograd_block, 1, threads).each([&](Range own, Range) {
      for (Index i = own.first; i < own.last; ++i)
        transform_bytes(t, x, first + i, v + i * p.channels, v_tiles * p.channels);
    });
    const WinogradData d{
        v, static_cast<const std::int16_t*>(packed), v_tiles, first, other, out, numbers_in(packed, p)};
    ConvGrid(count, p.count, winograd_block, winograd_block, 1, threads).each([&](Range own, Range panels) {
      const Requantization epilogue(c.epilogue);
      for (Index panel = panels.first; panel < panels.last; ++panel)
        winograd_panel(t, d, epilogue, p, panel, first + own.first, own.last - own.first);
    });
  }
}

}  // namespace cnnlib::CNNLIB_ISA
