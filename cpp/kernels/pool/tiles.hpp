// Windows of 2x2 that tile the images, but for a last row or column that may be left over. Every value
// belongs to one window at most, so that whole rows go from vectors to vectors:
//
//   row 2r      a0 b0 a1 b1 ..   <->  tap 0: a0 a1 ..   tap 1: b0 b1 ..
//   row 2r + 1  c0 d0 c1 d1 ..   <->  tap 2: c0 c1 ..   tap 3: d0 d1 ..
//
// gather(x, planes, use) calls use(tap, at, count) with the taps of the windows from `at` on, of which
// `count` may be stored; spread(dx, planes, taps_of) writes the taps that taps_of(at, count, tap) gives for
// `count` windows.
#pragma once

#include "kernels/simd/packet.hpp"

namespace cnnlib::CNNLIB_ISA {

// One row of windows after the other. The last vector of a long row overlaps the one before; that of a short
// row, shorter than a vector, spills over into the next row, which is written after it, but where there is no
// room behind.
template <class T, bool Short>
class TileRows {
  using S = Simd<T>;
  using Packet = typename S::Packet;
  static constexpr Index n = S::size;

 public:
  explicit TileRows(const PoolShape& s) : H(s.H), W(s.W), rows(s.OH), cols(s.OW) {}

  template <class Use>
  [[gnu::noinline]] void gather(const T* x, Index planes, const Use& use) const {
    each_row(
        planes,
        [=](Index from, Index at, Index col, auto room) {
          Packet tap[4];
          for (int line = 0; line < 2; ++line)
            load_pairs(x + from + line * W + 2 * col, room, tap[2 * line], tap[2 * line + 1]);
          use(tap, at + col, room ? n : cols);
        },
        [](Index, auto) {});
  }

  template <class TapsOf>
  [[gnu::noinline]] void spread(T* dx, Index planes, const TapsOf& taps_of) const {
    each_row(
        planes,
        [=](Index to, Index at, Index col, auto room) {
          Packet tap[4];
          taps_of(at + col, Short ? cols : n, room ? n : cols, tap);
          for (int line = 0; line < 2; ++line) {
            Packet low, high;
            S::join_pairs(tap[2 * line], tap[2 * line + 1], low, high);
            T* row = dx + to + line * W;
            store_pairs(row + 2 * col, room, low, high);
            if (!Short && W > 2 * cols) row[W - 1] = T(0);
          }
        },
        [=](Index to, auto room) {  // the row that is left over
          Short ? store_pairs(dx + to, room, S::zero(), S::zero()) : void(std::fill_n(dx + to, W, T(0)));
        });
  }

 private:
  // vector(position of the row in the images, in the outputs, window, whether there is room behind the row
  // for whole vectors), and left_over(position, room) below the windows where there is such a row.
  template <class Vector, class LeftOver>
  void each_row(Index planes, const Vector& vector, const LeftOver& left_over) const {
    const Index outputs = planes * rows * cols, inputs = planes * H * W;
    Index at = 0, in = 0;
    for (Index plane = 0; plane < planes; ++plane) {
      for (Index r = 0; r < rows; ++r, at += cols, in += 2 * W) {
        if constexpr (Short) {
          vector(in, at, Index(0), at + n <= outputs && in + W + 2 * n <= inputs);
        } else {
          Index col = 0;
          for (; col + n <= cols; col += n) vector(in, at, col, std::true_type());
          if (col < cols) vector(in, at, cols - n, std::true_type());
        }
      }
      if (H > 2 * rows) {
        left_over(in, in + 2 * n <= inputs);
        in += W;
      }
    }
  }

  void load_pairs(const T* row, bool room, Packet& even, Packet& odd) const {
    const Index count = 2 * cols;
    if (room) return S::load_pairs(row, even, odd);
    const auto high = count > n ? S::load_lanes(row + n, 0, count - n) : S::zero();
    S::split_pairs(S::load_lanes(row, 0, std::min(n, count)), high, even, odd);
  }

  // A short row is stored as a whole.
  void store_pairs(T* row, bool room, Packet low, Packet high) const {
    if (room) {
      S::store(row, low);
      if (!Short || W > n) S::store(row + n, high);
    } else {
      S::store_lanes(row, low, 0, std::min(n, W));
      if (W > n) S::store_lanes(row + n, high, 0, W - n);
    }
  }

  Index H, W, rows, cols;
};

// Whether 2x2 windows tile the images.
inline bool tiled_windows(const PoolShape& s) {
  return s.PH == 2 && s.PW == 2 && s.stride_h == 2 && s.stride_w == 2 && s.dilation_h == 1 &&
         s.dilation_w == 1 && s.pad_top == 0 && s.pad_left == 0 && s.H / 2 == s.OH && s.W / 2 == s.OW;
}

// Calls body with the tiles that suit such images.
template <class T, class Body>
void with_tiles(const PoolShape& s, const Body& body) {
  if (s.OW < Simd<T>::size)
    body(TileRows<T, true>(s));
  else
    body(TileRows<T, false>(s));
}

}  // namespace cnnlib::CNNLIB_ISA
