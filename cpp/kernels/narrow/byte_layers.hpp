// Eight-bit values from floats and to floats, pools, sums and tables.
#pragma once

#include "kernels/narrow/byte_format.hpp"
#include "kernels/narrow/images.hpp"

namespace cnnlib::CNNLIB_ISA {

// x (images, C, H, W) of floats to bytes round(x / scale) + zero.
inline void quantize(const float* x, const ByteImage& s, float scale, int zero, std::uint8_t* y,
                     Index images) {
  constexpr Index L = IntLanes::size;
  fill_border(s, zero, y, images);
  parallel_grid({images, s.H}, threads_for(double(images * s.C * s.H * s.W)), [&](Index n, Index h, int) {
    const IntLanes::Scales low = IntLanes::fill_scales(float(-zero)),
                           high = IntLanes::fill_scales(float(255 - zero));
    const IntLanes::Scales scales = IntLanes::fill_scales(scale);
    const IntLanes::Sums zeros = IntLanes::fill(zero);
    const float* from = x + (n * s.C * s.H + h) * s.W;
    std::uint8_t* to = y + s.row_of(n, h);
    for (Index w = 0; w < s.W; w += L)
      for (Index c = 0; c < s.C; c += 4) {
        const Index count = std::min(L, s.W - w);
        IntLanes::Sums pixels = IntLanes::zero();
        for (Index k = 0; k < std::min<Index>(4, s.C - c); ++k) {
          const float* values = from + (c + k) * s.H * s.W + w;
          float some[L] = {};
          if (count < L)
            values = static_cast<float*>(std::memcpy(some, values, std::size_t(count) * sizeof(float)));
          const IntLanes::Scales v = IntLanes::divided(IntLanes::load_scales(values), scales);
          const IntLanes::Sums q = IntLanes::add(IntLanes::rounded(v, low, high), zeros);
          pixels = IntLanes::add(pixels, IntLanes::shift_left(q, int(8 * k)));
        }
        if (count == L && s.channels() == 4) {
          IntLanes::store_sums(reinterpret_cast<std::int32_t*>(to + 4 * w), pixels);
          continue;
        }
        std::int32_t four[L];
        IntLanes::store_sums(four, pixels);
        for (Index i = 0; i < count; ++i) std::memcpy(to + (w + i) * s.channels() + c, four + i, 4);
      }
  });
}

// Bytes to (images, C, H, W) of floats.
inline void dequantize(const std::uint8_t* x, const ByteImage& s, float scale, int zero, float* y,
                       Index images) {
  parallel_grid({images, s.H}, threads_for(double(images * s.C * s.H * s.W)), [&](Index n, Index h, int) {
    const std::uint8_t* from = x + s.row_of(n, h);
    float* to = y + (n * s.C * s.H + h) * s.W;
    for (Index c = 0; c < s.C; ++c)
      for (Index w = 0; w < s.W; ++w)
        to[c * s.H * s.W + w] = float(int(from[w * s.channels() + c]) - zero) * scale;
  });
}

inline void max_pool(const BytePool& p, int zero, const std::uint8_t* x, std::uint8_t* y, Index images) {
  fill_border(p.y, zero, y, images);
  const PoolShape& s = p.shape;
  each_window(p, images, [&](Index from, Index oh, Index ow, Index to) {
    const Index channels = p.x.channels(), dh = s.dilation_h, dw = s.dilation_w;
    const Index top = oh * s.stride_h - s.pad_top, bottom = std::min(top + dh * (s.PH - 1) + 1, s.H);
    const Index left = ow * s.stride_w - s.pad_left, right = std::min(left + dw * (s.PW - 1) + 1, s.W);
    std::uint8_t* const out = y + to;
    std::memset(out, 0, std::size_t(channels));
    for (Index h = first_inside(top, dh); h < bottom; h += dh)
      for (Index w = first_inside(left, dw); w < right; w += dw) {
        const std::uint8_t* const in = x + from + h * p.x.row() + w * channels;
#pragma omp simd
        for (Index c = 0; c < channels; ++c) out[c] = std::max(out[c], in[c]);
      }
  });
}

// The mean of each window: see avg_pool.
inline void avg_pool(const BytePool& p, int x_zero, float ratio, const Epilogue<std::uint8_t>& e,
                     const std::uint8_t* x, std::uint8_t* y, Index images) {
  fill_border(p.y, e.zero, y, images);
  const SlidingWindows rows = row_windows(p.shape), columns = column_windows(p.shape);
  each_window(p, images, [&](Index from, Index oh, Index ow, Index to) {
    constexpr Index L = IntLanes::size;
    const Index inside = (rows.end(oh) - rows.begin(oh)) * (columns.end(ow) - columns.begin(ow));
    const Requantization epilogue(e);
    const FilterVector n(int(-inside * x_zero), ratio / float(rows.averaged(oh) * columns.averaged(ow)));
    for (Index c = 0; c < p.x.channels(); c += L) {
      IntLanes::Sums sums = IntLanes::zero();
      for (Index h = rows.begin(oh); h < rows.end(oh); ++h)
        for (Index w = columns.begin(ow); w < columns.end(ow); ++w)
          sums = IntLanes::add(sums, IntLanes::bytes(x + from + h * p.x.row() + w * p.x.channels() + c));
      epilogue.store(sums, n, y + to + c, p.x.channels() - c);
    }
  });
}

inline void add(const ByteSum& s, const std::uint8_t* a, const std::uint8_t* b, std::uint8_t* y,
                Index images) {
  fill_border(s.y, s.epilogue.zero, y, images);
  each_row(s.a, s.b, s.y, a, b, y, images,
           [&](const std::uint8_t* p, const std::uint8_t* q, std::uint8_t* out, Index bytes) {
             constexpr Index L = IntLanes::size;
             const Requantization epilogue(s.epilogue);
             const FilterVector n(s.constant, s.multiplier);
             const IntLanes::Sums fa = IntLanes::fill(s.factors[0]), fb = IntLanes::fill(s.factors[1]);
             for (Index i = 0; i < bytes; i += L)
               epilogue.store(IntLanes::add(IntLanes::multiply(IntLanes::bytes(p + i), fa),
                                            IntLanes::multiply(IntLanes::bytes(q + i), fb)),
                              n, out + i, bytes - i);
           });
}

// y = table[x]
inline void look_up(const ByteImage& x, const ByteImage& y, const std::uint8_t* table, int zero,
                    const std::uint8_t* from, std::uint8_t* to, Index images) {
  fill_border(y, zero, to, images);
  each_row(x, x, y, from, nullptr, to, images,
           [&](const std::uint8_t* p, const std::uint8_t*, std::uint8_t* out, Index bytes) {
             for (Index i = 0; i < bytes; ++i) out[i] = table[p[i]];
           });
}

// The channels of x become those of y from `first` on; both have one scale.
inline void copy_channels(const ByteImage& x, const ByteImage& y, Index first, int zero,
                          const std::uint8_t* from, std::uint8_t* to, Index images) {
  if (first == 0) fill_border(y, zero, to, images);
  each_row(x, x, y, from, nullptr, to, images,
           [&](const std::uint8_t* p, const std::uint8_t*, std::uint8_t* out, Index) {
             for (Index w = 0; w < y.W; ++w)
               std::memcpy(out + w * y.channels() + first, p + w * x.channels(), std::size_t(x.C));
           });
}

}  // namespace cnnlib::CNNLIB_ISA
