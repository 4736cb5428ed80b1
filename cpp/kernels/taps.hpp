// Where the taps of a convolution read: staging planes in which every tap is one constant offset.
#pragma once

#include <cstring>

#include "arena.hpp"
#include "gemm.hpp"

namespace cnnlib::CNNLIB_ISA {

// One axis of the taps: tap a of output position i reads input position i * stride + at[a], and its
// weight lies weight[a] elements into the filter.
struct TapAxis {
  Index count, stride;
  const Index* at;
  const Index* weight;
};

// The input positions of one axis split by their remainder modulo the stride. Tap a reads phase
// number phase_of[a], shift[a] positions after the output's own; only phases that a tap reads exist.
struct AxisPhases {
  Index lowest = 0, reach = 0, count = 0;
  Index* phase_of;
  Index* shift;
  Index* remainder;  // of each phase

  void assign(Index* memory, Index taps) {  // of 3 * taps
    phase_of = memory;
    shift = memory + taps;
    remainder = memory + 2 * taps;
  }

  void plan(const TapAxis& taps) {
    if (taps.count == 0) return;
    lowest = taps.at[0];
    for (Index a = 1; a < taps.count; ++a) lowest = std::min(lowest, taps.at[a]);
    for (Index a = 0; a < taps.count; ++a) {
      const Index distance = taps.at[a] - lowest, rest = distance % taps.stride;
      Index phase = 0;
      while (phase < count && remainder[phase] != rest) ++phase;
      if (phase == count) remainder[count++] = rest;
      phase_of[a] = phase;
      shift[a] = distance / taps.stride;
      reach = std::max(reach, shift[a]);
    }
  }
};

// The part of an image that a block of `rows` x `cols` output positions reads, for some channels:
// [channel][row phase][column phase][rows + reach][pitch], zero outside the image.
struct Staging {
  AxisPhases y, x;
  Index stride_h, stride_w;
  Index rows, cols;  // of the largest block
  Index height, pitch, phase_size, channel_size;

  void plan(const TapAxis& row_taps, const TapAxis& col_taps) {
    stride_h = row_taps.stride;
    stride_w = col_taps.stride;
    y.plan(row_taps);
    x.plan(col_taps);
  }

  void set_block(Index block_rows, Index block_cols) {
    rows = block_rows;
    cols = block_cols;
    height = rows + y.reach;
    pitch = cols + x.reach;
    phase_size = height * pitch;
    channel_size = y.count * x.count * phase_size;
  }

  Index tap_offset(Index a, Index b) const {
    return (y.phase_of[a] * x.count + x.phase_of[b]) * phase_size + y.shift[a] * pitch + x.shift[b];
  }

  // Calls row(destination offset, input row or -1, first input column) for each staged row of a block.
  template <class Row>
  void each_row(Index oh, Index ow, Index H, const Row& row) const {
    for (Index p = 0; p < y.count; ++p)
      for (Index q = 0; q < x.count; ++q) {
        const Index column = ow * stride_w + x.lowest + x.remainder[q];
        for (Index r = 0; r < height; ++r) {
          const Index line = (oh + r) * stride_h + y.lowest + y.remainder[p];
          row((p * x.count + q) * phase_size + r * pitch, line >= 0 && line < H ? line : -1, column);
        }
      }
  }
};

// The columns [first, last) of a staged row that lie inside an image of width W, when column j reads
// input position start + j * stride.
struct Inside {
  Index first, last;
  Inside(Index start, Index stride, Index W, Index pitch)
      : first(start >= 0 ? 0 : std::min(pitch, (-start + stride - 1) / stride)),
        last(start >= W ? first : std::max(first, std::min(pitch, (W - 1 - start) / stride + 1))) {}
};

// Copies one channel plane (H, W), whose rows lie `stride` apart, into its staging planes, for the block
// that starts at (oh, ow).
template <class T>
void stage_plane(const T* plane, Index H, Index W, Index stride, const Staging& s, Index oh, Index ow,
                 T* staged) {
  s.each_row(oh, ow, H, [&](Index to, Index line, Index start) {
    T* dst = staged + to;
    if (line < 0) {
      std::memset(dst, 0, s.pitch * sizeof(T));
      return;
    }
    const Inside inside(start, s.stride_w, W, s.pitch);
    const T* src = plane + line * stride + start;
    for (Index j = 0; j < inside.first; ++j) dst[j] = T(0);
    if (s.stride_w == 1)
      std::memcpy(dst + inside.first, src + inside.first, (inside.last - inside.first) * sizeof(T));
    else if (s.stride_w == 2)
      for (Index j = inside.first; j < inside.last; ++j) dst[j] = src[2 * j];
    else
      for (Index j = inside.first; j < inside.last; ++j) dst[j] = src[j * s.stride_w];
    for (Index j = inside.last; j < s.pitch; ++j) dst[j] = T(0);
  });
}

}  // namespace cnnlib::CNNLIB_ISA
