// Gradients of convolutions of bfloat16. dx is made of correlations of dout, which the forward methods
// compute. dw is a product of x and dout whose k are pairs of neighbouring pixels.
#pragma once

#include "kernels.hpp"
#include "kernels/narrow/bfloat16_depthwise.hpp"
#include "kernels/narrow/bfloat16_format.hpp"
#include "kernels/narrow/bfloat16_norm.hpp"
#include "kernels/narrow/bfloat16_winograd.hpp"

namespace cnnlib::CNNLIB_ISA {

// Whether there are gradients: phases of x have windows without gaps.
inline bool bfloat_gradients_fit(const BfloatConv& c) {
  const ConvShape& s = c.shape;
  const bool by_axis = (s.stride_h == 1 || s.dilation_h == 1) && (s.stride_w == 1 || s.dilation_w == 1);
  return by_axis && (s.groups == 1 || bfloat_depthwise_fits(c));
}

// dx of some images. `method_of` finds the method of a correlation.
inline void bfloat_input_gradient(BfloatMethodOf method_of, const BfloatConv& c, const std::uint8_t* dout,
                                  const float* w, std::uint8_t* dx, Index images) {
  const ConvShape& s = c.shape;
  const Index least = std::min(s.KH / s.stride_h, s.KW / s.stride_w);
  if (least == 0) std::memset(dx, 0, std::size_t(images * c.x.bytes()));  // some pixels see no tap
  for (Index i = 0; i < std::min(s.stride_h, s.H); ++i)
    for (Index j = 0; j < std::min(s.stride_w, s.W); ++j) {
      const GradientPhase rows(i, s.H, s.KH, s.stride_h, s.dilation_h, s.pad_top);
      const GradientPhase columns(j, s.W, s.KW, s.stride_w, s.dilation_w, s.pad_left);
      if (rows.taps == 0 || columns.taps == 0) continue;
      ConvShape phase = s;
      phase.C = s.F, phase.F = s.C, phase.H = s.OH, phase.W = s.OW;
      phase.KH = rows.taps, phase.KW = columns.taps, phase.OH = rows.outputs, phase.OW = columns.outputs;
      phase.stride_h = phase.stride_w = 1;
      phase.pad_top = rows.pad, phase.pad_left = columns.pad;
      BfloatConv g{c.y, c.x, {}, phase, {}, c.wish, {s.stride_h, s.stride_w, i, j}};
      const BfloatMethod method = method_of(g);
      const Scratch packed{std::size_t(method.packed_bytes(g))};
      method.pack(g, WeightView(w, s, rows, columns), {nullptr}, packed.data());
      method.run(g, dout, nullptr, packed.data(), dx, images);
    }
}

// Rows of a product whose k are pairs: `rows` x 2 vectors of sums, of groups at x[r] + k * x_step and vectors
// of groups behind w.
template <int R>
[[gnu::always_inline]] inline void add_pairs(const std::uint8_t* const* x, Index x_step,
                                             const std::uint8_t* w, Index pairs,
                                             BfloatLanes::Sums (&sums)[R][2]) {
  using L = BfloatLanes;
  for (Index k = 0, at = 0; k < pairs; ++k, at += x_step, w += 2 * L::weight_bytes) {
    const L::Weights a = L::load_weights(w), b = L::load_weights(w + L::weight_bytes);
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
      const L::Values values = L::values_at(x[r], at);
      sums[r][0] = L::dot(sums[r][0], values, a);
      sums[r][1] = L::dot(sums[r][1], values, b);
    }
  }
}

// Stores sums, the `first` ones, or adds them to those in memory, rows so many floats apart.
template <int R>
[[gnu::always_inline]] inline void put_sums(const BfloatLanes::Sums (&sums)[R][2], bool first, float* to,
                                            Index row) {
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < 2; ++v) {
      float* const at = to + r * row + v * BfloatLanes::size;
      _mm512_storeu_ps(at, first ? sums[r][v] : _mm512_add_ps(_mm512_loadu_ps(at), sums[r][v]));
    }
}

constexpr Index gradient_rows = BfloatLanes::tile_rows, gradient_width = 2 * BfloatLanes::size;  // of a tile

// A block of dw (F, C, taps), written in whole rows: neighbouring filters lie far apart.
class WeightBlock {
 public:
  WeightBlock(const ConvShape& s, Index f, Index channel)
      : taps_(s.KH * s.KW),
        row_(s.C * taps_),
        at_(f * row_ + channel * taps_),
        filters_(std::min<Index>(BfloatLanes::size, s.F - f)),
        count_(std::min(channels(s), s.C - channel) * taps_),
        memory_(sizeof(float) * std::size_t(BfloatLanes::size * count_)) {}
  // Channels of a block.
  static Index channels(const ConvShape& s) {
    constexpr Index enough = 256;  // floats of a row
    return std::clamp<Index>(enough / (s.KH * s.KW), 1, s.C);
  }
  static Index of_channels(const ConvShape& s) { return ceil_div(s.C, channels(s)); }
  // A tap of the block's channel `c`, of a filter each lane.
  void put(Index c, Index tap, BfloatLanes::Sums v) const {
    BfloatLanes::scatter(values() + c * taps_ + tap, count_, BfloatLanes::size, v);
  }
  void write(float* dw) const {
    for (Index f = 0; f < filters_; ++f) std::copy_n(values() + f * count_, count_, dw + at_ + f * row_);
  }
  Index size() const { return count_ / taps_; }  // channels

 private:
  float* values() const { return static_cast<float*>(memory_.data()); }
  Index taps_, row_, at_, filters_, count_;
  Scratch memory_;
};

// Writes dw: body(block, its first filter, its first channel) puts all taps of each block.
template <class Body>
void each_weight_block(const ConvShape& s, int threads, float* dw, const Body& body) {
  parallel_grid({ceil_div(s.F, BfloatLanes::size), WeightBlock::of_channels(s)}, threads,
                [&](Index vector, Index block, int) {
                  const Index f = vector * BfloatLanes::size, channel = block * WeightBlock::channels(s);
                  const WeightBlock made(s, f, channel);
                  body(made, f, channel);
                  made.write(dw);
                });
}

// How dw is cut, by the shape alone: images at a time, whose operands stay in caches, and parts of those,
// which are summed apart so that many cores have work. Rows of sums are taps of channels: of a tap all
// channels.
struct BfloatWeightCut {
  const BfloatConv& c;
  Index taps, all_rows, row_tiles, panels;  // panels of filters
  Index channels;                           // of x, whole vectors
  Index pairs;                              // of pixels in a row of dout
  Index copies;                             // of x, by where pairs begin: columns modulo two strides
  Index x_rows, x_pairs, copy_bytes, x_bytes;
  Index panel_bytes, dout_bytes;
  Index images, parts;

  BfloatWeightCut(const BfloatConv& conv, Index N) : c(conv) {
    constexpr Index panel_room = 256 << 10, room = 4 << 20;  // bytes in the second and the third level
    constexpr Index enough_tasks = 64;
    const ConvShape& s = c.shape;
    taps = s.KH * s.KW;
    all_rows = s.C * taps;
    row_tiles = ceil_div(all_rows, gradient_rows);
    panels = ceil_div(s.F, gradient_width);
    channels = round_up(s.C, BfloatLanes::size);
    pairs = ceil_div(s.OW, 2);
    copies = 2 * s.stride_w;
    x_rows = (s.OH - 1) * s.stride_h + (s.KH - 1) * s.dilation_h + 1;
    x_pairs = pairs + (s.KW - 1) * s.dilation_w / copies;
    copy_bytes = x_rows * x_pairs * channels * group_bytes;
    x_bytes = copies * copy_bytes;
    panel_bytes = s.OH * pairs * 2 * BfloatLanes::weight_bytes;
    dout_bytes = panels * panel_bytes;
    images = std::clamp<Index>(std::min(panel_room / panel_bytes, room / (x_bytes + dout_bytes)), 1, N);
    parts = std::min(images, ceil_div(enough_tasks, row_tiles * panels));
  }
  bool has_copy(Index copy) const {
    for (Index j = 0; j < c.shape.KW; ++j)
      if (j * c.shape.dilation_w % copies == copy) return true;
    return false;
  }
  Index sums() const { return row_tiles * gradient_rows * panels * gradient_width; }  // of a part
};

// Pairs of pixels of a row of an image's windows, a stride apart, of each channel both values.
inline void pair_x_row(const BfloatWeightCut& cut, const std::uint8_t* x, Index n, Index row,
                       std::uint8_t* to) {
  using L = BfloatLanes;
  const BfloatConv& c = cut.c;
  const ConvShape& s = c.shape;
  const std::uint8_t* const from = x + c.x.row_of(n, row - s.pad_top) - s.pad_left * c.x.pixel();
  const Index last = s.pad_left + s.W + c.x.right - 1;  // beyond stands what meets pixels that are not there
  for (Index copy = 0; copy < cut.copies; ++copy) {
    if (!cut.has_copy(copy)) continue;
    std::uint8_t* out = to + copy * cut.copy_bytes + row * cut.x_pairs * cut.channels * group_bytes;
    for (Index k = 0; k < cut.x_pairs; ++k) {
      const Index column = copy + k * cut.copies;
      const std::uint8_t *const a = from + std::min(column, last) * c.x.pixel(),
                                *const b = from + std::min(column + s.stride_w, last) * c.x.pixel();
      for (Index channel = 0; channel < cut.channels; channel += L::size, out += L::weight_bytes)
        _mm512_storeu_si512(out, L::zipped(L::joined(L::half(a + 2 * channel), L::half(b + 2 * channel))));
    }
  }
}

// A row of dout: of each panel, pairs of pixels, of each filter both values.
inline void pair_dout_row(const BfloatWeightCut& cut, const std::uint8_t* dout, Index n, Index row,
                          std::uint8_t* to) {
  using L = BfloatLanes;
  const BfloatConv& c = cut.c;
  const std::uint8_t* const from = dout + c.y.row_of(n, row);
  for (Index f = 0; f < cut.panels * gradient_width; f += L::size) {
    const Index left = std::clamp<Index>(c.y.channels() - f, 0, L::size);
    std::uint8_t* out = to + f / gradient_width * cut.panel_bytes + row * cut.pairs * 2 * L::weight_bytes +
                        f % gradient_width / L::size * L::weight_bytes;
    for (Index w = 0; w < c.shape.OW; w += 2, out += 2 * L::weight_bytes) {
      const std::uint8_t* const at = from + w * c.y.pixel() + 2 * f;
      const bool two = w + 1 < c.shape.OW;
      _mm512_storeu_si512(out,
                          L::zipped(L::joined(L::half(at, left), L::half(at + c.y.pixel(), two ? left : 0))));
    }
  }
}

// Adds the products of some images to a tile of sums, or stores the `first` ones.
inline void weight_tile(const BfloatWeightCut& cut, const std::uint8_t* x, const std::uint8_t* dout,
                        Index tile, Range images, bool first, float* sums, Index sums_row) {
  constexpr int R = gradient_rows;
  const ConvShape& s = cut.c.shape;
  const Index step = cut.channels * group_bytes;
  Index offsets[R];
  for (Index r = 0; r < R; ++r) {
    const Index row = std::min(tile * R + r, cut.all_rows - 1), tap = row / s.C,
                column = tap % s.KW * s.dilation_w;
    const Index pair = tap / s.KW * s.dilation_h * cut.x_pairs + column / cut.copies;
    offsets[r] = column % cut.copies * cut.copy_bytes + pair * step + row % s.C * group_bytes;
  }
  BfloatLanes::Sums total[R][2] = {};
  for (Index n = images.first; n < images.last; ++n)
    for (Index h = 0; h < s.OH; ++h) {
      const std::uint8_t* from[R];
      const Index at = n * cut.x_bytes + h * s.stride_h * cut.x_pairs * step;
      for (int r = 0; r < R; ++r) from[r] = x + at + offsets[r];
      add_pairs<R>(from, step, dout + n * cut.dout_bytes + h * cut.pairs * 2 * BfloatLanes::weight_bytes,
                   cut.pairs, total);
    }
  put_sums<R>(total, first, sums, sums_row);
}

inline void bfloat_weight_gradient(const BfloatConv& c, const std::uint8_t* x, const std::uint8_t* dout,
                                   float* dw, Index N) {
  const ConvShape& s = c.shape;
  const BfloatWeightCut cut(c, N);
  const double products = double(N * s.OH * cut.pairs) * double(cut.all_rows) * double(s.F);
  const int threads = threads_for(products / 8);
  const Scratch operands(std::size_t(cut.images * (cut.x_bytes + cut.dout_bytes)));
  auto* const x_pairs = static_cast<std::uint8_t*>(operands.data());
  std::uint8_t* const dout_pairs = x_pairs + cut.images * cut.x_bytes;
  const Index columns = cut.panels * gradient_width;
  const Scratch memory(sizeof(float) * std::size_t(cut.parts * cut.sums()));
  auto* const sums = static_cast<float*>(memory.data());
  for (Index first = 0; first < N; first += cut.images) {
    const Index count = std::min(cut.images, N - first);
    parallel_grid({count, std::max(cut.x_rows, s.OH)}, threads, [&](Index n, Index row, int) {
      if (row < cut.x_rows) pair_x_row(cut, x, first + n, row, x_pairs + n * cut.x_bytes);
      if (row < s.OH) pair_dout_row(cut, dout, first + n, row, dout_pairs + n * cut.dout_bytes);
    });
    parallel_grid(
        {cut.parts, cut.panels, cut.row_tiles}, threads, [&](Index part, Index panel, Index tile, int) {
          const Range own = range_of(count, part, cut.parts);
          if (own.first < own.last || first == 0)
            weight_tile(cut, x_pairs, dout_pairs + panel * cut.panel_bytes, tile, own, first == 0,
                        sums + part * cut.sums() + tile * gradient_rows * columns + panel * gradient_width,
                        columns);
        });
  }
  // The sums are (parts, taps, C, F).
  each_weight_block(s, threads, dw, [&](const WeightBlock& made, Index f, Index channel) {
    for (Index c = 0; c < made.size(); ++c)
      for (Index t = 0; t < cut.taps; ++t) {
        const float* const from = sums + (t * s.C + channel + c) * columns + f;
        BfloatLanes::Sums total = BfloatLanes::load(from);
        for (Index part = 1; part < cut.parts; ++part)
          total = _mm512_add_ps(total, BfloatLanes::load(from + part * cut.sums()));
        made.put(c, t, total);
      }
  });
}

// Whether dw is computed by the points of Winograd's F(2x2, 3x3): few channels, or short sums, cost more than
// they save (bench/NOTES.md).
inline bool bfloat_point_gradient_fits(const BfloatConv& c, Index N) {
  constexpr Index least = 64, least_tiles = 1024;
  const Index tiles = N * ceil_div(c.shape.OH, 2) * ceil_div(c.shape.OW, 2);
  return bfloat_winograd_fits(c) && c.shape.C >= least && c.shape.F >= least && tiles >= least_tiles;
}

// How dw is cut by the points of Winograd's F(2x2, 3x3): its 16 points are products of the transforms of x
// and of dout, whose k are pairs of neighbouring tiles.
struct BfloatPointCut {
  const BfloatConv& c;
  Index high, pairs;                  // rows of tiles, and pairs in a row
  Index channels, panels, row_tiles;  // whole vectors of x, panels of filters, tiles of sums along channels
  Index x_bytes, dout_bytes;          // of a point of an image
  Index images;

  BfloatPointCut(const BfloatConv& conv, Index N) : c(conv) {
    constexpr Index room = 8 << 20;  // bytes in the third level
    const ConvShape& s = c.shape;
    high = ceil_div(s.OH, 2);
    pairs = ceil_div(ceil_div(s.OW, 2), 2);
    channels = round_up(s.C, BfloatLanes::size);
    panels = ceil_div(s.F, gradient_width);
    row_tiles = ceil_div(s.C, gradient_rows);
    x_bytes = high * pairs * channels * group_bytes;
    dout_bytes = high * pairs * panels * 2 * BfloatLanes::weight_bytes;
    images = std::clamp<Index>(room / (bfloat_points * (x_bytes + dout_bytes)), 1, N);
  }
};

// The points of two neighbouring tiles of x, or of dout, of a vector of channels.
using BfloatPoints = BfloatLanes::Sums[4][4];

[[gnu::always_inline]] inline void x_points(const BfloatConv& c, const std::uint8_t* const (&rows)[4],
                                            Index column, Index last, Index offset, BfloatPoints& points) {
  BfloatColumn columns[4];
#pragma GCC unroll 4
  for (Index j = 0; j < 4; ++j) {
    const Index at = std::min(column + j, last) * c.x.pixel() + offset;
    transform_line(BfloatLanes::widened(rows[0] + at), BfloatLanes::widened(rows[1] + at),
                   BfloatLanes::widened(rows[2] + at), BfloatLanes::widened(rows[3] + at), columns[j]);
  }
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i)
    transform_line(columns[0][i], columns[1][i], columns[2][i], columns[3][i], points[i]);
}

// A of two numbers.
[[gnu::always_inline]] inline void spread_line(BfloatLanes::Sums a, BfloatLanes::Sums b, BfloatColumn& out) {
  out[0] = a;
  out[1] = _mm512_add_ps(a, b);
  out[2] = _mm512_sub_ps(a, b);
  out[3] = _mm512_sub_ps(BfloatLanes::zero(), b);
}

// `rows` and `columns` of the tile, 1 or 2, are there.
[[gnu::always_inline]] inline void dout_points(const std::uint8_t* at, Index row, Index pixel, Index rows,
                                               Index columns, Index channels, BfloatPoints& points) {
  using L = BfloatLanes;
  const auto value = [&](Index i, Index j) {
    const bool there = i < rows && j < columns;
    return L::widened(at + (there ? i * row + j * pixel : 0), there ? channels : 0);
  };
  BfloatColumn lines[2];
  for (Index j = 0; j < 2; ++j) spread_line(value(0, j), value(1, j), lines[j]);
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) spread_line(lines[0][i], lines[1][i], points[i]);
}

// Stores both tiles' points, which lie `step` bytes apart.
[[gnu::always_inline]] inline void store_points(const BfloatPoints (&two)[2], std::uint8_t* to, Index step) {
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i)
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j, to += step)
      _mm512_storeu_si512(to, BfloatLanes::pairs(two[0][i][j], two[1][i][j]));
}

// A row of tiles of an image, transformed: the places of its first pair in the first point.
inline void transform_tile_row(const BfloatPointCut& cut, const std::uint8_t* x, const std::uint8_t* dout,
                               Index n, Index row, std::uint8_t* x_to, Index x_step, std::uint8_t* dout_to,
                               Index dout_step) {
  using L = BfloatLanes;
  const BfloatConv& c = cut.c;
  const ConvShape& s = c.shape;
  const std::uint8_t* rows[4];
  for (Index i = 0; i < 4; ++i) rows[i] = x + c.window_row(n, std::min(2 * row + i, s.OH + 1));
  const Index last = s.OW + 1, of_rows = std::min<Index>(2, s.OH - 2 * row);
  const std::uint8_t* const from = dout + c.y.row_of(n, 2 * row);
  for (Index k = 0; k < cut.pairs; ++k) {
    BfloatPoints two[2];
    for (Index v = 0; v < cut.channels; v += L::size) {
      for (Index t = 0; t < 2; ++t) x_points(c, rows, 4 * k + 2 * t, last, 2 * v, two[t]);
      store_points(two, x_to + (k * cut.channels + v) * group_bytes, x_step);
    }
    for (Index f = 0; f < cut.panels * gradient_width; f += L::size) {
      for (Index t = 0; t < 2; ++t) {
        const Index column = 4 * k + 2 * t, columns = std::clamp<Index>(s.OW - column, 0, 2);
        dout_points(from + (columns > 0 ? column * c.y.pixel() : 0) + 2 * f, c.y.row(), c.y.pixel(), of_rows,
                    columns, std::clamp<Index>(c.y.channels() - f, 0, L::size), two[t]);
      }
      const Index panel = f / gradient_width, vector = f % gradient_width / L::size;
      store_points(
          two,
          dout_to + panel * cut.high * cut.pairs * 2 * L::weight_bytes + (2 * k + vector) * L::weight_bytes,
          dout_step);
    }
  }
}

// G' of four numbers.
[[gnu::always_inline]] inline void gather_line(const BfloatLanes::Sums (&u)[4], BfloatLanes::Sums (&out)[3]) {
  const BfloatLanes::Sums half = _mm512_set1_ps(0.5F);
  const BfloatLanes::Sums even = _mm512_mul_ps(half, _mm512_add_ps(u[1], u[2]));
  out[0] = _mm512_add_ps(u[0], even);
  out[1] = _mm512_mul_ps(half, _mm512_sub_ps(u[1], u[2]));
  out[2] = _mm512_add_ps(even, u[3]);
}

inline void bfloat_winograd_weight_gradient(const BfloatConv& c, const std::uint8_t* x,
                                            const std::uint8_t* dout, float* dw, Index N) {
  using L = BfloatLanes;
  constexpr int R = gradient_rows;
  const ConvShape& s = c.shape;
  const BfloatPointCut cut(c, N);
  const Index columns = cut.panels * gradient_width, point_sums = cut.row_tiles * R * columns;
  const Index all_pairs = cut.high * cut.pairs, x_step = cut.images * cut.x_bytes,
              dout_step = cut.images * cut.dout_bytes, panel_bytes = all_pairs * 2 * L::weight_bytes;
  const int threads = threads_for(double(N * all_pairs) * double(bfloat_points * s.C) * double(s.F) / 8);
  const Scratch operands(std::size_t(bfloat_points * (x_step + dout_step)));
  auto* const x_points_at = static_cast<std::uint8_t*>(operands.data());
  std::uint8_t* const dout_points_at = x_points_at + bfloat_points * x_step;
  const Scratch memory(sizeof(float) * std::size_t(bfloat_points * point_sums));
  auto* const sums = static_cast<float*>(memory.data());
  for (Index first = 0; first < N; first += cut.images) {
    const Index count = std::min(cut.images, N - first);
    parallel_grid({count, cut.high}, threads, [&](Index n, Index row, int) {
      transform_tile_row(cut, x, dout, first + n, row,
                         x_points_at + n * cut.x_bytes + row * cut.pairs * cut.channels * group_bytes, x_step,
                         dout_points_at + n * cut.dout_bytes + row * cut.pairs * 2 * L::weight_bytes,
                         dout_step);
    });
    parallel_grid({bfloat_points, cut.panels, cut.row_tiles}, threads,
                  [&](Index q, Index panel, Index tile, int) {
                    L::Sums total[R][2] = {};
                    const std::uint8_t* from[R];
                    for (Index n = 0; n < count; ++n) {
                      for (Index r = 0; r < R; ++r)
                        from[r] = x_points_at + q * x_step + n * cut.x_bytes +
                                  std::min(tile * R + r, cut.channels - 1) * group_bytes;
                      add_pairs<R>(from, cut.channels * group_bytes,
                                   dout_points_at + q * dout_step + n * cut.dout_bytes + panel * panel_bytes,
                                   all_pairs, total);
                    }
                    put_sums<R>(total, first == 0,
                                sums + q * point_sums + tile * R * columns + panel * gradient_width, columns);
                  });
  }
  each_weight_block(s, threads, dw, [&](const WeightBlock& made, Index f, Index channel) {
    for (Index c = 0; c < made.size(); ++c) {
      L::Sums rows[3][4], taps[3];
      for (Index j = 0; j < 4; ++j) {
        L::Sums u[4], column[3];
        for (Index i = 0; i < 4; ++i)
          u[i] = L::load(sums + (4 * i + j) * point_sums + (channel + c) * columns + f);
        gather_line(u, column);
        for (Index i = 0; i < 3; ++i) rows[i][j] = column[i];
      }
      for (Index i = 0; i < 3; ++i) {
        gather_line(rows[i], taps);
        for (Index j = 0; j < 3; ++j) made.put(c, 3 * i + j, taps[j]);
      }
    }
  });
}

// Adds T taps' products of a row of outputs of a vector of channels to sums.
template <int T>
[[gnu::always_inline]] inline void add_tap_products(const std::uint8_t* x, Index step, const Index* offsets,
                                                    const std::uint8_t* dout, Index pixel, Index W,
                                                    float* sums, Index sums_row) {
  using L = BfloatLanes;
  L::Sums total[T];
#pragma GCC unroll 9
  for (int t = 0; t < T; ++t) total[t] = L::zero();
  for (Index w = 0; w < W; ++w) {
    const L::Sums by = L::widened(dout + w * pixel);
#pragma GCC unroll 9
    for (int t = 0; t < T; ++t)
      total[t] = _mm512_fmadd_ps(L::widened(x + w * step + offsets[t]), by, total[t]);
  }
#pragma GCC unroll 9
  for (int t = 0; t < T; ++t) {
    float* const to = sums + t * sums_row;
    _mm512_storeu_ps(to, _mm512_add_ps(_mm512_loadu_ps(to), total[t]));
  }
}

// Depthwise: of each image the sums of each tap and channel, then those of all images in their order.
inline void bfloat_depthwise_weight_gradient(const BfloatConv& c, const std::uint8_t* x,
                                             const std::uint8_t* dout, float* dw, Index N) {
  using L = BfloatLanes;
  const ConvShape& s = c.shape;
  const Index taps = s.KH * s.KW, channels = round_up(s.C, L::size), own = taps * channels;
  Index offsets[most_bfloat_taps];
  find_taps(c, offsets);
  const Scratch memory(sizeof(float) * std::size_t(N * own));
  auto* const sums = static_cast<float*>(memory.data());
  const int threads = threads_for(double(N * s.OH * s.OW) * double(own) / 8);
  const Index step = s.stride_w * c.x.pixel(), pixel = c.y.pixel();
  parallel_for(N, threads, [&](Index n, int) {
    float* const of_image = sums + n * own;
    std::fill_n(of_image, own, 0.0F);
    for (Index h = 0; h < s.OH; ++h)
      for (Index v = 0; v < channels; v += L::size) {
        const std::uint8_t *const from = x + c.window_row(n, h) + 2 * v, *const by =
                                                                             dout + c.y.row_of(n, h) + 2 * v;
        Index t = 0;
        for (; t + 9 <= taps; t += 9)
          add_tap_products<9>(from, step, offsets + t, by, pixel, s.OW, of_image + t * channels + v,
                              channels);
        for (; t + 4 <= taps; t += 4)
          add_tap_products<4>(from, step, offsets + t, by, pixel, s.OW, of_image + t * channels + v,
                              channels);
        for (; t < taps; ++t)
          add_tap_products<1>(from, step, offsets + t, by, pixel, s.OW, of_image + t * channels + v,
                              channels);
      }
  });
  parallel_grid({channels / L::size, taps}, threads_for(double(N * own)), [&](Index v, Index t, int) {
    L::Sums total = L::zero();
    for (Index n = 0; n < N; ++n)
      total = _mm512_add_ps(total, L::load(sums + n * own + t * channels + v * L::size));
    L::scatter(dw + v * L::size * taps + t, taps, s.C - v * L::size, total);
  });
}

// The sums of each channel over the pixels of some images: rows in float32, the rest in float64, in one
// order.
inline void channel_sums(const BfloatImage& s, const std::uint8_t* x, float* to, Index N) {
  const BfloatBands bands(s);
  const Scratch memory(sizeof(double) * std::size_t(N * bands.of_image * bands.channels));
  auto* const sums = static_cast<double*>(memory.data());
  bands.each(N, [&](Index n, Range rows, Index band) {
    double* const own = sums + band * bands.channels;
    std::fill_n(own, bands.channels, 0.0);
    for (Index h = rows.first; h < rows.last; ++h)
      for (Index v = 0; v < bands.vectors; ++v) {
        const std::uint8_t* const row = x + s.row_of(n, h) + v * BfloatPair::bytes;
        BfloatPair sum = BfloatPair::zero();
        for (Index w = 0; w < s.W; ++w) sum = each_half(&total, sum, BfloatPair::load(row + w * s.pixel()));
        add_to_doubles(own + v * BfloatPair::size, sum);
      }
  });
  for (Index channel = 0; channel < s.C; ++channel) {
    double of_bands = 0;
    for (Index band = 0; band < N * bands.of_image; ++band)
      of_bands += sums[band * bands.channels + place_of_channel(channel)];
    to[channel] = float(of_bands);
  }
}

inline void bfloat_conv_backward(BfloatMethodOf method_of, const BfloatConv& c, const BfloatConvGradients& g,
                                 Index N) {
  if (g.db != nullptr) channel_sums(c.y, g.dout, g.db, N);
  if (g.dw != nullptr) {
    const auto gradient = c.shape.groups > 1                 ? &bfloat_depthwise_weight_gradient
                          : bfloat_point_gradient_fits(c, N) ? &bfloat_winograd_weight_gradient
                                                             : &bfloat_weight_gradient;
    gradient(c, g.x, g.dout, g.dw, N);
  }
  if (g.dx != nullptr) bfloat_input_gradient(method_of, c, g.dout, g.w, g.dx, N);
}

}  // namespace cnnlib::CNNLIB_ISA
