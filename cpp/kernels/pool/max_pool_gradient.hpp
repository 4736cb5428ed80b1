// The gradient of max pooling: dx[h, w] = sum of dout over the windows whose winner it is. dout and arg
// (planes, OH, OW), dx (planes, H, W).
#pragma once

#include "kernels/pool/max_pool_tiles.hpp"
#include "kernels/pool/pool_rows.hpp"

namespace cnnlib::CNNLIB_ISA {

// A row of dx, gathered from the rows of windows that reach it: `grads` and `places` of the windows of an
// image, between margins of zeros.
template <class T, int PW>
void max_pool_backward_row(const PaddedRows<T>& padded, T* grads, T* places, const PoolShape& s,
                           const ReachingRows& reaching, T* to, const T* plane_end) {
  using S = Simd<T>;
  const T *grad[3], *place[3];
  T first[3];
  const int rows = reaching.count;
  for (int r = 0; r < rows; ++r) {
    grad[r] = padded.row(grads, reaching.oh[r]);
    place[r] = padded.row(places, reaching.oh[r]);
    first[r] = T(reaching.kh[r] * PW);
  }
  // What reaches column kw of the windows from `at` on.
  const auto share = [&](int row, Index at, int kw) {
    const auto mine = S::equal(S::load(place[row] + at), S::fill(first[row] + T(kw)));
    return S::select(mine, S::load(grad[row] + at), S::zero());
  };
  const Index W = s.W, pad = s.pad_left;
  for (Index w = 0; w < W; w += S::size) {
    auto sum = S::zero();
    for (int row = 0; row < rows; ++row)
#pragma GCC unroll 3
      for (int kw = 0; kw < PW; ++kw) sum = S::add(sum, share(row, w + pad - kw, kw));
    store_in_plane(to, W, w, plane_end, sum);
  }
}

// Windows that are 1 apart.
template <class T, int PW>
void max_pool_backward_stride_1(const T* dout, const std::uint8_t* arg, T* dx, const PoolShape& s) {
  using S = Simd<T>;
  const PlaneSlices slices(s);
  const PaddedRows<T> padded(s.OW, s.W + s.pad_left + S::size + 2);
  Layout layout;
  const auto grad_piece = layout.per_thread<T>(slices.threads, padded.size(s.OH));
  const auto place_piece = layout.per_thread<T>(slices.threads, padded.size(s.OH));
  const auto reaching_piece = layout.array<ReachingRows>(s.H);
  const Scratch scratch(layout.bytes());
  const ReachingRows* reaching = reaching_rows(s, reaching_piece.in(scratch.data()));
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
          max_pool_backward_row<T, PW>(padded, grads, places, s, reaching[h], dx + (plane * s.H + h) * s.W,
                                       dx + (plane + 1) * s.H * s.W);
      });
}

// Windows for paired_windows. What a vector of them gives goes to a vector of pairs of columns, and a column
// of theirs to the pairs beside.
template <class T, int PW, int Pad>
class PairedWindows {
  using S = Simd<T>;
  using Packet = typename S::Packet;
  static constexpr Index n = S::size;

 public:
  explicit PairedWindows(const PoolShape& shape)
      : s(shape), last((std::max(ceil_div(s.W, 2), s.OW) - 1) / n * n) {}

  // Values in the scratch of a thread.
  Index scratch_size() const { return 2 * (last + n); }

  // dx of a plane, whose windows begin at dout and arg; `room` is how many windows there are from here on.
  void backward(const T* dout, const std::uint8_t* arg, Index room, T* dx, T* scratch) const {
    const T* const end = dx + s.H * s.W;
    for (Index i = 0; i < scratch_size(); i += n) S::store(scratch + i, S::zero());
    const auto carried = [=](Index j) {
      return Pairs{S::load(scratch + 2 * j), S::load(scratch + 2 * j + n)};
    };
    Index line = -s.pad_top;
    for (Index oh = 0; oh < s.OH; ++oh, line += 2, dout += s.OW, arg += s.OW, room -= s.OW) {
      each_vector(dout, arg, room, [&](Index j, const Windows& here, const Windows& beside) {
        const Pairs pairs = given(here, beside, 0), before = carried(j);
        write(dx, line, j, end, {S::add(before.even, pairs.even), S::add(before.odd, pairs.odd)});
      });
      each_vector(dout, arg, room, [&](Index j, const Windows& here, const Windows& beside) {
        write(dx, line + 1, j, end, given(here, beside, PW));
        if (s.PH == 2) return;
        const Pairs pairs = given(here, beside, 2 * PW);
        S::store(scratch + 2 * j, pairs.even);
        S::store(scratch + 2 * j + n, pairs.odd);
      });
    }
    if (line < s.H) {
      for (Index j = 0; j <= last; j += n) write(dx, line, j, end, carried(j));
      if (line + 1 < s.H) std::fill(dx + (line + 1) * s.W, dx + s.H * s.W, T(0));
    }
  }

 private:
  struct Windows {
    Packet dout, winner;
  };
  struct Pairs {
    Packet even, odd;
  };

  // vector(window, windows from there on, the vector beside that reaches their pairs) along a row.
  template <class Vector>
  void each_vector(const T* dout, const std::uint8_t* arg, Index room, const Vector& vector) const {
    const auto windows = [=](Index j) {
      const Index count = std::clamp<Index>(s.OW - j, 0, n);
      return Windows{count == n ? S::load(dout + j) : S::load_lanes(dout + j, 0, count),
                     j + n <= room ? S::load_bytes(arg + j) : S::load_bytes(arg + j, 0, count)};
    };
    const Windows none{S::zero(), S::zero()};
    Windows before = none, here = windows(0);
    for (Index j = 0; j <= last; j += n) {
      const Windows after = j < last ? windows(j + n) : none;
      vector(j, here, Pad == 0 ? before : after);
      before = here;
      here = after;
    }
  }

  // What goes to the columns of a row whose first tap is `first`.
  static Pairs given(const Windows& here, const Windows& beside, int first) {
    const auto tap = [&](const Windows& w, int kw) {
      return S::select(S::equal(w.winner, S::fill(T(first + kw))), w.dout, S::zero());
    };
    if constexpr (Pad == 1) {
      const auto odd = S::shift_down(tap(here, 0), tap(beside, 0));
      return {tap(here, 1), PW == 3 ? S::add(tap(here, 2), odd) : odd};
    } else {
      const auto even = tap(here, 0);
      return {PW == 3 ? S::add(even, S::shift_up(tap(beside, 2), tap(here, 2))) : even, tap(here, 1)};
    }
  }

  void write(T* dx, Index line, Index j, const T* end, const Pairs& pairs) const {
    if (line < 0 || line >= s.H || 2 * j >= s.W) return;
    Packet low, high;
    S::join_pairs(pairs.even, pairs.odd, low, high);
    T* row = dx + line * s.W;
    store_in_plane(row, s.W, 2 * j, end, low);
    if (2 * j + n < s.W) store_in_plane(row, s.W, 2 * j + n, end, high);
  }

  PoolShape s;
  Index last;  // the first window of the last vector
};

template <class T, int PW, int Pad>
void max_pool_backward_paired(const T* dout, const std::uint8_t* arg, T* dx, const PoolShape& s) {
  const PairedWindows<T, PW, Pad> windows(s);
  each_plane_with_scratch<T>(s, windows.scratch_size(), [&](Index plane, T* scratch) {
    const Index at = plane * s.OH * s.OW;
    windows.backward(dout + at, arg + at, s.planes * s.OH * s.OW - at, dx + plane * s.H * s.W, scratch);
  });
}

// The taps of a window: line and column relative to its corner without padding, and the offset in the image.
struct WindowTaps {
  Index count, *line, *column, *offset;

  // Where `memory` has room for 3 * PH * PW numbers.
  WindowTaps(const PoolShape& s, Index* memory)
      : count(s.PH * s.PW), line(memory), column(line + count), offset(column + count) {
    for (Index k = 0; k < count; ++k) {
      line[k] = k / s.PW * s.dilation_h - s.pad_top;
      column[k] = k % s.PW * s.dilation_w - s.pad_left;
      offset[k] = line[k] * s.W + column[k];
    }
  }
};

// dx[winner of each window] += dout, window by window. A winner that lies outside the image adds to nothing.
template <class T, class Arg>
void max_pool_scatter(const T* dout, const Arg* arg, T* dx, const PoolShape& s) {
  Layout layout;
  const auto piece = layout.array<Index>(3 * s.PH * s.PW);
  const Scratch scratch(layout.bytes());
  const WindowTaps taps(s, piece.in(scratch.data()));
  const Index window = taps.count, *line = taps.line, *column = taps.column, *offset = taps.offset;
  const auto inside = [](Index at, Index size) { return at >= 0 && at < size; };
  // Windows [first, last) of a row lie inside the image.
  const OutputRange left(column[0], s.stride_w, s.W, s.OW), right(column[window - 1], s.stride_w, s.W, s.OW);
  const Index first = left.first, last = std::max(first, right.last);
  PlaneSlices(s).each_plane([&](Index plane, int) {
    T* image = dx + plane * s.H * s.W;
    std::fill_n(image, s.H * s.W, T(0));
    for (Index oh = 0; oh < s.OH; ++oh) {
      const Index top = oh * s.stride_h, at = (plane * s.OH + oh) * s.OW;
      const auto checked = [&](Index begin, Index end) {
        for (Index ow = begin; ow < end; ++ow) {
          const auto winner = static_cast<Index>(arg[at + ow]);
          if (winner >= window) continue;
          const Index h = top + line[winner], w = ow * s.stride_w + column[winner];
          if (inside(h, s.H) && inside(w, s.W)) image[h * s.W + w] += dout[at + ow];
        }
      };
      if (!inside(top + line[0], s.H) || !inside(top + line[window - 1], s.H)) {
        checked(0, s.OW);
        continue;
      }
      checked(0, first);
      T* corner = image + top * s.W + first * s.stride_w;
      for (Index ow = first; ow < last; ++ow, corner += s.stride_w) {
        const auto winner = static_cast<Index>(arg[at + ow]);
        if (winner < window) corner[offset[winner]] += dout[at + ow];
      }
      checked(last, s.OW);
    }
  });
}

// dx from dout and the taps that forward left in arg.
template <class T, class Arg>
void max_pool_backward(const T* dout, const Arg* arg, T* dx, const PoolShape& s) {
  if constexpr (sizeof(Arg) == 1) {
    const auto run_tiles = [&](const auto& tiles) {
      PlaneSlices(s).each_slice([&](Index begin, Index end, int) {
        const Index at = begin * s.OH * s.OW;
        tiles.backward(dout + at, arg + at, dx + begin * s.H * s.W, end - begin);
      });
    };
    if (with_tiles<T>(s, run_tiles)) return;
    // Measured against the loop over windows: vectors of few lanes win in long rows only, or not at all.
    constexpr Index n = Simd<T>::size, enough_lanes = 8, long_row_vectors = 8, least_lanes_stride_1 = 16;
    if constexpr (Simd<T>::bytes >= least_paired_bytes)
      if (paired_windows(s) && (n >= enough_lanes || s.W >= long_row_vectors * n))
        return with_paired_window(
            s, [&](auto width, auto pad) { max_pool_backward_paired<T, width(), pad()>(dout, arg, dx, s); });
    if constexpr (n >= least_lanes_stride_1)
      if (small_windows(s) && s.stride_w == 1)
        return with_window(
            s, [&](auto width, auto) { max_pool_backward_stride_1<T, width()>(dout, arg, dx, s); });
  }
  max_pool_scatter(dout, arg, dx, s);
}

}  // namespace cnnlib::CNNLIB_ISA
