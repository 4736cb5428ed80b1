// Gradients of convolutions of bfloat16. That of x is correlations of dout, by the forward methods. That of w
// multiplies values of x and of dout at pairs of neighbouring pixels: its k are the pixels.
#pragma once

#include <vector>

#include "kernels/narrow/bfloat16_depthwise.hpp"
#include "kernels/narrow/bfloat16_format.hpp"
#include "kernels/narrow/conv.hpp"
#include "kernels/simd/transpose.hpp"

namespace cnnlib::CNNLIB_ISA {

// Whether there are gradients: phases of x have windows without gaps.
inline bool bfloat_gradients_fit(const BfloatConv& c) {
  const ConvShape& s = c.shape;
  const bool by_axis = (s.stride_h == 1 || s.dilation_h == 1) && (s.stride_w == 1 || s.dilation_w == 1);
  return by_axis && (s.groups == 1 || bfloat_depthwise_fits(c));
}

// The weights of a phase of dx: (C, F / groups, taps of rows, taps of columns).
inline void phase_weights(const ConvShape& s, const float* w, const GradientPhase& rows,
                          const GradientPhase& columns, float* to, int threads) {
  const Index F = s.F / s.groups, C = s.C / s.groups;
  parallel_for(s.C, threads, [=](Index c, int) {
    const float* const from = w + (c / C * F * C + c % C) * s.KH * s.KW;
    float* out = to + c * F * rows.taps * columns.taps;
    for (Index f = 0; f < F; ++f)
      for (Index i = rows.taps - 1; i >= 0; --i)
        for (Index j = columns.taps - 1; j >= 0; --j)
          *out++ = from[f * C * s.KH * s.KW + (rows.first_tap + i * s.stride_h) * s.KW +
                        columns.first_tap + j * s.stride_w];
  });
}

// dx of some images. `method_of` finds the method of a correlation.
template <class MethodOf>
void bfloat_input_gradient(const BfloatConv& c, const std::uint8_t* dout, const float* w, std::uint8_t* dx,
                           Index images, const MethodOf& method_of) {
  const ConvShape& s = c.shape;
  const Index least = std::min(s.KH / s.stride_h, s.KW / s.stride_w);
  if (least == 0) std::memset(dx, 0, std::size_t(images * c.x.bytes()));  // some pixels see no tap
  const int threads = threads_for(double(s.C) * double(s.F / s.groups * s.KH * s.KW));
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
      const Scratch turned(sizeof(float) * std::size_t(s.C * (s.F / s.groups) * rows.taps * columns.taps));
      auto* const weights = static_cast<float*>(turned.data());
      phase_weights(s, w, rows, columns, weights, threads);
      const BfloatMethod method = method_of(g);
      const Scratch packed{std::size_t(method.packed_bytes(g))};
      method.pack(g, weights, {nullptr}, packed.data());
      method.run(g, dout, nullptr, packed.data(), dx, images);
    }
}

// How dw is cut, by the shape alone: images at a time, whose operands stay in caches, and parts of those, which
// are summed apart so that many cores have work.
struct BfloatWeightCut {
  static constexpr Index rows = BfloatLanes::tile_rows, width = 2 * BfloatLanes::size;  // of a tile
  const BfloatConv& c;
  Index taps, all_rows;                            // rows of dw: a channel's taps, then the next channel's
  Index row_tiles, panels;                         // tiles along rows, and of filters
  Index pairs, steps;                              // of pixels in a row, and in an image
  Index x_rows, x_row_bytes, plane_bytes, x_bytes;  // of x by planes: one for each channel and column phase
  Index panel_bytes, dout_bytes;                   // of packed dout
  Index images, parts;

  explicit BfloatWeightCut(const BfloatConv& conv, Index N) : c(conv) {
    constexpr Index panel_room = 256 << 10, room = 4 << 20;  // bytes in the second and the third level
    constexpr Index enough_tasks = 64;
    const ConvShape& s = c.shape;
    taps = s.KH * s.KW;
    all_rows = s.C * taps;
    row_tiles = ceil_div(all_rows, rows);
    panels = ceil_div(s.F, width);
    pairs = ceil_div(s.OW, 2);
    steps = s.OH * pairs;
    x_rows = (s.OH - 1) * s.stride_h + (s.KH - 1) * s.dilation_h + 1;
    x_row_bytes = 2 * round_up(2 * pairs + (s.KW - 1) * s.dilation_w / s.stride_w, BfloatLanes::size);
    plane_bytes = x_rows * x_row_bytes;
    x_bytes = round_up(s.C, 2 * BfloatLanes::size) * s.stride_w * plane_bytes;
    panel_bytes = steps * 2 * BfloatLanes::weight_bytes;
    dout_bytes = panels * panel_bytes;
    images = std::clamp<Index>(std::min(panel_room / panel_bytes, room / (x_bytes + dout_bytes)), 1, N);
    parts = std::min(images, ceil_div(enough_tasks, row_tiles * panels));
  }
  Index sums() const { return row_tiles * rows * panels * width; }  // of a part
};

// Column `phase` + stride * i of the rows of an image's windows, by planes: see BfloatWeightCut.
inline void split_planes(const BfloatWeightCut& cut, const std::uint8_t* x, Index n, Index row,
                         std::uint8_t* to) {
  constexpr int L = BfloatLanes::size;
  const BfloatConv& c = cut.c;
  const ConvShape& s = c.shape;
  const std::uint8_t* const from =
      x + c.x.row_of(n, row - s.pad_top) - s.pad_left * c.x.pixel();
  const Index last = s.pad_left + s.W + c.x.right - 1;  // the last column that there is
  for (Index phase = 0; phase < s.stride_w; ++phase)
    for (Index w = 0; w < cut.x_row_bytes / 2; w += L)
      for (Index ch = 0; ch < c.x.channels(); ch += 2 * L) {
        Packet<float> pairs[L];
#pragma GCC unroll 16
        for (int i = 0; i < L; ++i) {
          const Index column = std::min(phase + s.stride_w * (w + i), last);
          pairs[i] = _mm512_loadu_ps(from + column * c.x.pixel() + 2 * ch);
        }
        transpose_packets(pairs);
        std::uint8_t* out = to + (phase * round_up(s.C, 2 * L) + ch) * cut.plane_bytes +
                            row * cut.x_row_bytes + 2 * w;
#pragma GCC unroll 16
        for (int i = 0; i < L; ++i, out += 2 * cut.plane_bytes) {
          const __m512i v = _mm512_castps_si512(pairs[i]);
          _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), _mm512_cvtepi32_epi16(v));
          _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + cut.plane_bytes),
                              _mm512_cvtepi32_epi16(_mm512_srli_epi32(v, 16)));
        }
      }
}

// A row of dout: of each panel, pairs of pixels, of each filter both values.
inline void pack_dout_row(const BfloatWeightCut& cut, const std::uint8_t* dout, Index n, Index row,
                          std::uint8_t* to) {
  constexpr Index L = BfloatLanes::size;
  const BfloatConv& c = cut.c;
  const std::uint8_t* const from = dout + c.y.row_of(n, row);
  const __m512i zip = _mm512_set_epi16(31, 15, 30, 14, 29, 13, 28, 12, 27, 11, 26, 10, 25, 9, 24, 8, 23, 7, 22,
                                       6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
  for (Index f = 0; f < cut.panels * cut.width; f += L) {
    const Index left = std::clamp<Index>(c.y.channels() - f, 0, L);
    const __mmask16 filters = BfloatLanes::first(left);
    std::uint8_t* out = to + f / cut.width * cut.panel_bytes + row * cut.pairs * 2 * BfloatLanes::weight_bytes +
                        f % cut.width / L * BfloatLanes::weight_bytes;
    for (Index w = 0; w < c.shape.OW; w += 2, out += 2 * BfloatLanes::weight_bytes) {
      const std::uint8_t* const at = from + w * c.y.pixel() + 2 * f;
      const __m256i a = _mm256_maskz_loadu_epi16(filters, at);
      const __m256i b = w + 1 < c.shape.OW ? _mm256_maskz_loadu_epi16(filters, at + c.y.pixel())
                                           : _mm256_setzero_si256();
      const __m512i both = _mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1);
      _mm512_storeu_si512(out, _mm512_permutexvar_epi16(zip, both));
    }
  }
}

// Adds the products of some images to a tile of sums (rows, width).
inline void add_weight_tile(const BfloatWeightCut& cut, const std::uint8_t* planes, const std::uint8_t* packed,
                            Index tile, Range images, float* sums, Index sums_row) {
  using L = BfloatLanes;
  constexpr int R = L::tile_rows, V = 2, most = 2;
  const ConvShape& s = cut.c.shape;
  const std::uint8_t* x[R];
  for (Index r = 0; r < R; ++r) {
    const Index row = std::min(tile * R + r, cut.all_rows - 1), channel = row / cut.taps, tap = row % cut.taps;
    const Index column = tap % s.KW * s.dilation_w, plane = column % s.stride_w * round_up(s.C, 2 * L::size);
    x[r] = planes + images.first * cut.x_bytes + (plane + channel) * cut.plane_bytes +
           tap / s.KW * s.dilation_h * cut.x_row_bytes + 2 * (column / s.stride_w);
  }
  L::Sums total[R][V];
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) total[r][v] = L::zero();
  for (Index n = images.first; n < images.last; ++n) {
    const std::uint8_t* w = packed + n * cut.dout_bytes;
    for (Index h = 0; h < s.OH; ++h) {
      Index k = (n - images.first) * cut.x_bytes + h * s.stride_h * cut.x_row_bytes;
      const Index end = k + group_bytes * cut.pairs;
      for (; k + group_bytes * most <= end; k += group_bytes * most, w += most * V * L::weight_bytes)
        product_steps<L, most, V, R>(x, k, w, total);
      for (; k < end; k += group_bytes, w += V * L::weight_bytes) product_steps<L, 1, V, R>(x, k, w, total);
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < R; ++r)
#pragma GCC unroll 2
    for (int v = 0; v < V; ++v) {
      float* const to = sums + r * sums_row + v * L::size;
      _mm512_storeu_ps(to, _mm512_add_ps(_mm512_loadu_ps(to), total[r][v]));
    }
}

inline void bfloat_weight_gradient(const BfloatConv& c, const std::uint8_t* x, const std::uint8_t* dout,
                                   float* dw, Index N) {
  const ConvShape& s = c.shape;
  const BfloatWeightCut cut(c, N);
  const double products = double(N * cut.steps) * double(cut.all_rows) * double(s.F);
  const int threads = threads_for(products / 8);
  const Scratch operands(std::size_t(cut.images * (cut.x_bytes + cut.dout_bytes)));
  auto* const planes = static_cast<std::uint8_t*>(operands.data());
  std::uint8_t* const packed = planes + cut.images * cut.x_bytes;
  const Index columns = cut.panels * cut.width;
  std::vector<float> sums(std::size_t(cut.parts * cut.sums()));
  for (Index first = 0; first < N; first += cut.images) {
    const Index count = std::min(cut.images, N - first);
    parallel_grid({count, std::max(cut.x_rows, s.OH)}, threads, [&](Index n, Index row, int) {
      if (row < cut.x_rows) split_planes(cut, x, first + n, row, planes + n * cut.x_bytes);
      if (row < s.OH) pack_dout_row(cut, dout, first + n, row, packed + n * cut.dout_bytes);
    });
    parallel_grid({cut.parts, cut.panels, cut.row_tiles}, threads, [&](Index part, Index panel, Index tile, int) {
      const Range own = range_of(count, part, cut.parts);
      if (own.first < own.last)
        add_weight_tile(cut, planes, packed + panel * cut.panel_bytes, tile, own,
                        sums.data() + part * cut.sums() + tile * cut.rows * columns + panel * cut.width, columns);
    });
  }
  parallel_for(ceil_div(s.F, cut.width), threads, [&](Index panel, int) {
    const Index f = panel * cut.width, filters = std::min(cut.width, s.F - f);
    for (Index part = 1; part < cut.parts; ++part)
      for (Index r = 0; r < cut.all_rows; ++r)
        for (Index i = f; i < f + filters; ++i)
          sums[std::size_t(r * columns + i)] += sums[std::size_t(part * cut.sums() + r * columns + i)];
    transpose<float>(sums.data() + f, columns, cut.all_rows, filters, dw + f * cut.all_rows, cut.all_rows);
  });
}

// Depthwise: of each image the sums of each tap and channel, then those of all images in their order.
inline void bfloat_depthwise_weight_gradient(const BfloatConv& c, const std::uint8_t* x,
                                             const std::uint8_t* dout, float* dw, Index N) {
  using L = BfloatLanes;
  const ConvShape& s = c.shape;
  const Index taps = s.KH * s.KW, channels = round_up(s.C, L::size), vectors = channels / L::size;
  std::vector<float> sums(std::size_t(N * taps * channels));
  const int threads = threads_for(double(N * s.OH * s.OW) * double(taps * channels) / 8);
  parallel_grid({N, vectors}, threads, [&](Index n, Index v, int) {
    const Index at = 2 * v * L::size, step = s.stride_w * c.x.pixel();
    float* const own = sums.data() + n * taps * channels + v * L::size;
    for (Index t = 0; t < taps; ++t) {
      constexpr int chains = 4;  // of multiply-adds, which wait for each other
      L::Sums total[chains] = {L::zero(), L::zero(), L::zero(), L::zero()};
      const Index offset = t / s.KW * s.dilation_h * c.x.row() + t % s.KW * s.dilation_w * c.x.pixel() + at;
      for (Index h = 0; h < s.OH; ++h) {
        const std::uint8_t* from = x + c.window_row(n, h) + offset;
        const std::uint8_t* by = dout + c.y.row_of(n, h) + at;
        const auto add = [&](L::Sums& sum) {
          sum = _mm512_fmadd_ps(L::widened(from), L::widened(by), sum);
          from += step, by += c.y.pixel();
        };
        Index w = 0;
        for (; w + chains <= s.OW; w += chains)
#pragma GCC unroll 4
          for (int k = 0; k < chains; ++k) add(total[k]);
        for (; w < s.OW; ++w) add(total[0]);
      }
      _mm512_storeu_ps(own + t * channels,
                       _mm512_add_ps(_mm512_add_ps(total[0], total[1]), _mm512_add_ps(total[2], total[3])));
    }
  });
  parallel_for(s.C, 1, [&](Index channel, int) {
    for (Index t = 0; t < taps; ++t) {
      double total = 0;
      for (Index n = 0; n < N; ++n) total += sums[std::size_t((n * taps + t) * channels + channel)];
      dw[channel * taps + t] = float(total);
    }
  });
}

// The sums of each channel over the pixels of some images: rows in float32, the rest in float64, in one order.
inline void channel_sums(const BfloatImage& s, const std::uint8_t* x, double* to, Index N) {
  using L = BfloatLanes;
  const Index channels = round_up(s.C, L::size);
  std::vector<double> sums(std::size_t(N * channels));
  const int threads = threads_for(double(N * s.H * s.W) * double(channels) / 8);
  parallel_grid({N, channels / L::size}, threads, [&](Index n, Index v, int) {
    double* const own = sums.data() + n * channels + v * L::size;
    for (Index h = 0; h < s.H; ++h) {
      const std::uint8_t* const row = x + s.row_of(n, h) + 2 * v * L::size;
      L::Sums total = L::zero();
      for (Index w = 0; w < s.W; ++w) total = _mm512_add_ps(total, L::widened(row + w * s.pixel()));
      alignas(64) float lanes[L::size];
      _mm512_store_ps(lanes, total);
      for (Index i = 0; i < L::size; ++i) own[i] += double(lanes[i]);
    }
  });
  for (Index channel = 0; channel < s.C; ++channel) {
    to[channel] = 0;
    for (Index n = 0; n < N; ++n) to[channel] += sums[std::size_t(n * channels + channel)];
  }
}

template <class MethodOf>
void bfloat_conv_backward(const BfloatConv& c, const BfloatConvGradients& g, Index N,
                          const MethodOf& method_of) {
  if (g.db != nullptr) {
    std::vector<double> sums(std::size_t(c.shape.F));
    channel_sums(c.y, g.dout, sums.data(), N);
    std::transform(sums.begin(), sums.end(), g.db, [](double sum) { return float(sum); });
  }
  if (g.dw != nullptr)
    (c.shape.groups == 1 ? bfloat_weight_gradient : bfloat_depthwise_weight_gradient)(c, g.x, g.dout, g.dw, N);
  if (g.dx != nullptr) bfloat_input_gradient(c, g.dout, g.w, g.dx, N, method_of);
}

}  // namespace cnnlib::CNNLIB_ISA
