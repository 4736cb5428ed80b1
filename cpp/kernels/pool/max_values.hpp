// Max pooling without the places of the maxima, which only a gradient needs: the maxima of columns first,
// then of the rows that they make. NaN wins a window.
#pragma once

#include <limits>

#include "kernels/pool/small_windows.hpp"

namespace cnnlib::CNNLIB_ISA {

// to[j] = the maximum of column j of the window's rows that lie in the image.
template <class T>
void max_columns(const T* image, const PoolShape& s, Index oh, T* to) {
  using S = Simd<T>;
  const Index top = oh * s.stride_h - s.pad_top;
  const Index first = top >= 0 ? 0 : ceil_div(-top, s.dilation_h);
  const Index last = top >= s.H ? 0 : std::min(s.PH, (s.H - 1 - top) / s.dilation_h + 1);
  const T* rows = image + (top + first * s.dilation_h) * s.W;
  const Index count = last - first, apart = s.dilation_h * s.W;
  const auto maxima = [&](Index j, Index lanes) {
    auto most = S::fill(-std::numeric_limits<T>::infinity());
    for (Index k = 0; k < count; ++k) most = S::max_or_nan(most, load_first(rows + k * apart + j, lanes));
    return most;
  };
  Index j = 0;
  for (; j + S::size <= s.W; j += S::size) S::store(to + j, maxima(j, S::size));
  if (j < s.W) S::store_lanes(to + j, maxima(j, s.W - j), 0, s.W - j);
}

// out[ow] = the maximum of the window's columns, of which the first lies at `corner` for ow = 0.
template <class T, int Stride>
void max_of_columns(const T* corner, const PoolShape& s, T* out, const T* plane_end) {
  using S = Simd<T>;
  for (Index ow = 0; ow < s.OW; ow += S::size) {
    auto most = S::fill(-std::numeric_limits<T>::infinity());
    for (Index kw = 0; kw < s.PW; ++kw) {
      const T* at = corner + ow * Stride + kw * s.dilation_w;
      if constexpr (Stride == 1) {
        most = S::max_or_nan(most, S::load(at));
      } else {
        typename S::Packet even, odd;
        S::load_pairs(at, even, odd);
        most = S::max_or_nan(most, even);
        if (s.dilation_w == 1 && kw + 1 < s.PW) {
          most = S::max_or_nan(most, odd);
          ++kw;
        }
      }
    }
    store_in_rows(out, s.OW, ow, plane_end, most);
  }
}

template <class T>
void max_of_columns(const T* corner, const PoolShape& s, T* out) {
  for (Index ow = 0; ow < s.OW; ++ow) {
    T most = -std::numeric_limits<T>::infinity();
    for (Index kw = 0; kw < s.PW; ++kw) {
      const T v = corner[ow * s.stride_w + kw * s.dilation_w];
      most = v <= most || most != most ? most : v;
    }
    out[ow] = most;
  }
}

template <class T>
void max_pool_values(const T* x, T* out, const PoolShape& s) {
  using S = Simd<T>;
  const PoolBands bands(s, PoolBands::Of::outputs);
  const PoolShape most = bands.largest();
  const Index margin = round_up(s.pad_left, S::size), reach = (s.PW - 1) * s.dilation_w;
  const Index columns =
      margin + std::max(most.W, round_up(most.OW, S::size) * s.stride_w + reach) + 2 * S::size;
  Layout layout;
  const auto piece = layout.per_thread<T>(bands.threads(), columns);
  const Scratch scratch(layout.bytes());
  bands.each([&](const PoolBand& band, int slot) {
    const PoolShape& b = band.shape;
    T *row = piece.of(scratch.data(), slot), *maxima = row + margin;
    std::fill_n(row, margin, -std::numeric_limits<T>::infinity());
    std::fill(maxima + b.W, row + columns, -std::numeric_limits<T>::infinity());
    for (Index plane = 0; plane < b.planes; ++plane) {
      const T *image = x + band.in + plane * b.H * b.W, *corner = maxima - b.pad_left;
      T *to = out + band.out + plane * b.OH * b.OW, *end = to + b.OH * b.OW;
      for (Index oh = 0; oh < b.OH; ++oh, to += b.OW) {
        max_columns(image, b, oh, maxima);
        if (b.stride_w == 1)
          max_of_columns<T, 1>(corner, b, to, end);
        else if (b.stride_w == 2)
          max_of_columns<T, 2>(corner, b, to, end);
        else
          max_of_columns(corner, b, to);
      }
    }
  });
}

}  // namespace cnnlib::CNNLIB_ISA
