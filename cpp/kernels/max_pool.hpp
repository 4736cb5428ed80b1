// Max pooling. NaN beats every number, and of equals the first stays.
#pragma once

#include <limits>

#include "pool_rows.hpp"

namespace cnnlib::CNNLIB_ISA {

// Images that 2x2 windows tile, `Together` rows of outputs in a vector, or whole vectors in a row. What a
// vector of outputs covers in the rows of the image above, or below, is two vectors.
template <class T, int Together>
struct Tiles {
  using S = Simd<T>;
  using Packet = typename S::Packet;
  Index cols;  // outputs in a row

  void load(const T* row, Packet& low, Packet& high) const {
    const Index step = 4 * cols;
    if constexpr (Together == 1) {
      low = S::load(row);
      high = S::load(row + S::size);
    } else if constexpr (Together == 2) {
      low = S::load(row);
      high = S::load(row + step);
    } else {
      low = S::load_halves(row, row + step);
      high = S::load_halves(row + 2 * step, row + 3 * step);
    }
  }

  void store(T* row, Packet low, Packet high) const {
    const Index step = 4 * cols;
    if constexpr (Together == 1) {
      S::store(row, low);
      S::store(row + S::size, high);
    } else if constexpr (Together == 2) {
      S::store(row, low);
      S::store(row + step, high);
    } else {
      S::store_halves(row, row + step, low);
      S::store_halves(row + 2 * step, row + 3 * step, high);
    }
  }

  // vector(position in the outputs, in the image) for `rows` rows of outputs, a multiple of Together.
  template <class Vector>
  void each_vector(Index rows, const Vector& vector) const {
    for (Index row = 0; row < rows; row += Together)
      for (Index col = 0; col < cols; col += S::size) vector(row * cols + col, row * 4 * cols + 2 * col);
  }

  void forward(const T* x, T* out, std::uint8_t* arg, Index rows) const {
    each_vector(rows, [=](Index at, Index from) {
      Packet low, high, tap[4];
      load(x + from, low, high);
      S::split_pairs(low, high, tap[0], tap[1]);
      load(x + from + 2 * cols, low, high);
      S::split_pairs(low, high, tap[2], tap[3]);
      auto most = tap[0], place = S::zero();
#pragma GCC unroll 3
      for (int k = 1; k < 4; ++k) {
        const auto wins = S::beats(tap[k], most);
        most = S::select(wins, tap[k], most);
        place = S::select(wins, S::fill(T(k)), place);
      }
      S::store(out + at, most);
      S::store_bytes(arg + at, place);
    });
  }

  void backward(const T* dout, const std::uint8_t* arg, T* dx, Index rows) const {
    each_vector(rows, [=](Index at, Index to) {
      const auto g = S::load(dout + at), place = S::load_bytes(arg + at);
      const auto given = [&](int k) { return S::select(S::equal(place, S::fill(T(k))), g, S::zero()); };
      Packet low, high;
      S::join_pairs(given(0), given(1), low, high);
      store(dx + to, low, high);
      S::join_pairs(given(2), given(3), low, high);
      store(dx + to + 2 * cols, low, high);
    });
  }
};

// Calls body with the Tiles that suit the images, or returns false.
template <class T, class Body>
bool with_tiles(const PoolShape& s, const Body& body) {
  constexpr Index n = Simd<T>::size;
  if (s.PH != 2 || s.PW != 2 || s.stride_h != 2 || s.stride_w != 2 || s.dilation_h != 1 ||
      s.dilation_w != 1 || s.pad_top != 0 || s.pad_left != 0 || s.H != 2 * s.OH || s.W != 2 * s.OW)
    return false;
  if (s.OW % n == 0)
    body(Tiles<T, 1>{s.OW});
  else if (s.OW * 2 == n && s.OH % 2 == 0)
    body(Tiles<T, 2>{s.OW});
  else if (s.OW * 4 == n && s.OH % 4 == 0)
    body(Tiles<T, 4>{s.OW});
  else
    return false;
  return true;
}

// One row of outputs for windows whose width and stride are known, from rows [begin, end) of the image
// between margins of minus infinity. False if some maximum is minus infinity, which may have been found in a
// margin.
template <class T, int PW, int Stride>
bool max_pool_line(const T* corner, Index pitch, Index rows, Index OW, Index first_place, T* out,
                   std::uint8_t* arg) {
  using S = Simd<T>;
  const auto least = S::fill(-std::numeric_limits<T>::infinity());
  bool sure = true;
  for (Index ow = 0; ow < OW; ow += S::size) {
    typename S::Packet most = least, place = S::zero();
    auto first = S::fill(T(first_place));
    for (Index h = 0; h < rows; ++h) {
      typename S::Packet tap[PW];
      load_taps<T, PW, Stride>(corner + h * pitch + ow * Stride, tap);
      auto best = tap[0], column = first;  // of this row
#pragma GCC unroll 2
      for (int kw = 1; kw < PW; ++kw) {
        const auto wins = S::beats(tap[kw], best);
        best = S::select(wins, tap[kw], best);
        column = S::select(wins, S::add(first, S::fill(T(kw))), column);
      }
      first = S::add(first, S::fill(T(PW)));
      const auto wins = S::beats(best, most);
      most = S::select(wins, best, most);
      place = S::select(wins, column, place);
    }
    store_within(out, OW, ow, most);
    S::store_bytes(arg + ow, place, std::min<Index>(S::size, OW - ow));
    const auto unsure = S::equal(most, least);
    if (ow + S::size <= OW)
      sure = sure && !S::any(unsure);
    else
      for (Index i = ow; i < OW; ++i) sure = sure && out[i] > -std::numeric_limits<T>::infinity();
  }
  return sure;
}

// NaN beats every number, and of equals the first stays.
template <class T>
bool beats(T v, T best) {
  return !(v <= best) & (best == best);
}

// Row oh of outputs for any window, a pass for each tap.
template <class T, class Arg>
void max_pool_taps(const T* image, const PoolShape& s, Index oh, T* best, Arg* winner) {
  constexpr Arg none = std::numeric_limits<Arg>::max();
  std::fill_n(best, s.OW, -std::numeric_limits<T>::infinity());
  std::fill_n(winner, s.OW, none);
  for (Index kh = 0; kh < s.PH; ++kh) {
    const Index line = oh * s.stride_h + kh * s.dilation_h - s.pad_top;
    if (line < 0 || line >= s.H) continue;
    for (Index kw = 0; kw < s.PW; ++kw) {
      const Index offset = kw * s.dilation_w - s.pad_left;
      const OutputRange range(offset, s.stride_w, s.W, s.OW);
      const Arg tap = static_cast<Arg>(kh * s.PW + kw);
      const T* row = image + line * s.W + offset;
      for (Index ow = range.first; ow < range.last; ++ow) {
        const T v = row[ow * s.stride_w], old = best[ow];
        const bool wins = (winner[ow] == none) | beats(v, old);
        best[ow] = wins ? v : old;
        winner[ow] = wins ? tap : winner[ow];
      }
    }
  }
}

template <class T, int PW, int Stride>
void max_pool_small_windows(const T* x, T* out, std::uint8_t* arg, const PoolShape& s) {
  using S = Simd<T>;
  const PlaneSlices slices(s);
  const PaddedRows<T> padded(s.W, (s.OW + S::size - 1) / S::size * S::size * Stride + 2);
  Layout layout;
  const auto piece = layout.per_thread<T>(slices.threads, padded.size(s.H));
  const Scratch scratch(layout.bytes());
  slices.each_plane(
      [&](int slot) {
        std::fill_n(piece.of(scratch.data(), slot), padded.size(s.H), -std::numeric_limits<T>::infinity());
      },
      [&](Index plane, int slot) {
        T* rows = piece.of(scratch.data(), slot);
        const T* image = x + plane * s.H * s.W;
        for (Index h = 0; h < s.H; ++h)
          padded.fill(padded.row(rows, h),
                      [&](Index j, Index count) { return load_first(image + h * s.W + j, count); });
        for (Index oh = 0; oh < s.OH; ++oh) {
          const Index top = oh * s.stride_h - s.pad_top, at = (plane * s.OH + oh) * s.OW;
          const Index begin = std::max<Index>(top, 0), end = std::min(top + s.PH, s.H);
          if (!max_pool_line<T, PW, Stride>(padded.row(rows, begin) - s.pad_left, padded.pitch, end - begin,
                                            s.OW, (begin - top) * PW, out + at, arg + at))
            max_pool_taps(image, s, oh, out + at, arg + at);
        }
      });
}

// out = max over the window; arg = the winning tap's index kh * PW + kw, or the type's largest number for a
// window that holds padding alone.
template <class T, class Arg>
void max_pool_forward(const T* x, T* out, Arg* arg, const PoolShape& s) {
  const PlaneSlices slices(s);
  if constexpr (sizeof(Arg) == 1) {
    const auto run_tiles = [&](const auto& tiles) {
      slices.each_slice([&](Index begin, Index end, int) {
        const Index at = begin * s.OH * s.OW;
        tiles.forward(x + 4 * at, out + at, arg + at, (end - begin) * s.OH);
      });
    };
    if (with_tiles<T>(s, run_tiles)) return;
    if (small_windows(s))
      return with_window(
          s, [&](auto width, auto stride) { max_pool_small_windows<T, width(), stride()>(x, out, arg, s); });
  }
  slices.each_plane([](int) {},
                    [&](Index plane, int) {
                      for (Index oh = 0; oh < s.OH; ++oh) {
                        const Index at = (plane * s.OH + oh) * s.OW;
                        max_pool_taps(x + plane * s.H * s.W, s, oh, out + at, arg + at);
                      }
                    });
}

// Row h of dx, gathered from the rows of windows that reach it: `grads` and `places` of the windows of an
// image, between margins of zeros.
template <class T, int PW, int Stride>
void max_pool_backward_line(const PaddedRows<T>& padded, T* grads, T* places, const PoolShape& s, Index h,
                            T* to) {
  using S = Simd<T>;
  const T *grad[3], *place[3];
  T first[3];
  int rows = 0;
  each_window_row(s, h, [&](Index oh, Index kh) {
    grad[rows] = padded.row(grads, oh);
    place[rows] = padded.row(places, oh);
    first[rows++] = T(kh * PW);
  });
  // What the windows from `at` on give to their column kw.
  const auto given = [&](int row, Index at, int kw) {
    const auto mine = S::equal(S::load(place[row] + at), S::fill(first[row] + T(kw)));
    return S::select(mine, S::load(grad[row] + at), S::zero());
  };
  const Index W = s.W, pad = s.pad_left;
  if constexpr (Stride == 1) {
    for (Index w = 0; w < W; w += S::size) {
      auto sum = S::zero();
      for (int row = 0; row < rows; ++row)
#pragma GCC unroll 3
        for (int kw = 0; kw < PW; ++kw) sum = S::add(sum, given(row, w + pad - kw, kw));
      store_within(to, W, w, sum);
    }
  } else {
    for (Index w = 0, j = pad / 2; w < W; w += 2 * S::size, j += S::size) {
      auto first_column = S::zero(), second = S::zero();  // of each pair
      for (int row = 0; row < rows; ++row) {
        if (pad % 2 == 0) {
          first_column = S::add(first_column, given(row, j, 0));
          second = S::add(second, given(row, j, 1));
          if constexpr (PW == 3) first_column = S::add(first_column, given(row, j - 1, 2));
        } else {
          first_column = S::add(first_column, given(row, j, 1));
          second = S::add(second, given(row, j + 1, 0));
          if constexpr (PW == 3) second = S::add(second, given(row, j, 2));
        }
      }
      typename S::Packet low, high;
      S::join_pairs(first_column, second, low, high);
      store_within(to, W, w, low);
      store_within(to, W, w + S::size, high);
    }
  }
}

template <class T, int PW, int Stride>
void max_pool_backward_small_windows(const T* dout, const std::uint8_t* arg, T* dx, const PoolShape& s) {
  using S = Simd<T>;
  const PlaneSlices slices(s);
  const PaddedRows<T> padded(s.OW, (s.W + s.pad_left) / Stride + S::size + 2);
  Layout layout;
  const auto grad_piece = layout.per_thread<T>(slices.threads, padded.size(s.OH));
  const auto place_piece = layout.per_thread<T>(slices.threads, padded.size(s.OH));
  const Scratch scratch(layout.bytes());
  slices.each_plane(
      [&](int slot) {
        std::fill_n(grad_piece.of(scratch.data(), slot), padded.size(s.OH), T(0));
        std::fill_n(place_piece.of(scratch.data(), slot), padded.size(s.OH), T(0));
      },
      [&](Index plane, int slot) {
        T *grads = grad_piece.of(scratch.data(), slot), *places = place_piece.of(scratch.data(), slot);
        for (Index oh = 0; oh < s.OH; ++oh) {
          const Index at = (plane * s.OH + oh) * s.OW;
          padded.fill(padded.row(grads, oh),
                      [&](Index j, Index count) { return load_first(dout + at + j, count); });
          padded.fill(padded.row(places, oh),
                      [&](Index j, Index count) { return S::load_bytes(arg + at + j, 0, count); });
        }
        for (Index h = 0; h < s.H; ++h)
          max_pool_backward_line<T, PW, Stride>(padded, grads, places, s, h, dx + (plane * s.H + h) * s.W);
      });
}

// dx[winner of each window] += dout. A winner that lies outside the image adds to nothing.
template <class T, class Arg>
void max_pool_backward(const T* dout, const Arg* arg, T* dx, const PoolShape& s) {
  const PlaneSlices slices(s);
  if constexpr (sizeof(Arg) == 1) {
    const auto run_tiles = [&](const auto& tiles) {
      slices.each_slice([&](Index begin, Index end, int) {
        const Index at = begin * s.OH * s.OW;
        tiles.backward(dout + at, arg + at, dx + 4 * at, (end - begin) * s.OH);
      });
    };
    if (with_tiles<T>(s, run_tiles)) return;
    if (small_windows(s))
      return with_window(s, [&](auto width, auto stride) {
        max_pool_backward_small_windows<T, width(), stride()>(dout, arg, dx, s);
      });
  }
  const Index window = s.PH * s.PW;
  Layout layout;
  const auto piece = layout.array<Index>(2 * window);
  const Scratch scratch(layout.bytes());
  Index* line = piece.in(scratch.data());
  Index* column = line + window;
  for (Index k = 0; k < window; ++k) {
    line[k] = k / s.PW * s.dilation_h - s.pad_top;
    column[k] = k % s.PW * s.dilation_w - s.pad_left;
  }
  slices.each_slice([&](Index begin, Index end, int) {
    std::fill(dx + begin * s.H * s.W, dx + end * s.H * s.W, T(0));
    for (Index row = begin * s.OH; row < end * s.OH; ++row)
      for (Index ow = 0; ow < s.OW; ++ow) {
        const Index winner = static_cast<Index>(arg[row * s.OW + ow]);
        if (winner >= window) continue;
        const Index h = row % s.OH * s.stride_h + line[winner], w = ow * s.stride_w + column[winner];
        if (h >= 0 && h < s.H && w >= 0 && w < s.W)
          dx[(row / s.OH * s.H + h) * s.W + w] += dout[row * s.OW + ow];
      }
  });
}

}  // namespace cnnlib::CNNLIB_ISA
