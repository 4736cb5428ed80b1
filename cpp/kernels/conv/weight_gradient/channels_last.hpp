// Operands of the methods whose lanes are channels, for one block of output positions:
//
//   staged[image][position of x][lane]                   packed[panel of filters][position][filter]
//
//            x(c0) x(c1) x(c2) ..                                     d(f0) d(f1) ..
//     (0, 0)   .     .     .                              (0, 0)        .     .
//     (0, 1)   .     .     .                              (0, 1)        .     .
//     ..     a tap is one constant offset of positions    ..
#pragma once

#include "kernels/conv/weight_gradient/blocks.hpp"

namespace cnnlib::CNNLIB_ISA {

// Channels [c0, c0 + width) of a group of image i of a block, zero where there are none. `line_buffer` has
// room for a staged row of each.
template <class T>
void stage_channels(const WeightGradient<T>& g, const PositionBlock& block, Index i, Index group, Index c0,
                    Index width, const T* x, T* line_buffer, T* staged) {
  const Staging& s = g.staging;
  const Index channels = std::min(width, g.C - c0), plane = g.H * g.W;
  const T* planes = x + (((block.first_image + i) * g.s.groups + group) * g.C + c0) * plane;
  staged += i * s.channel_size * width;
  s.each_row(block.oh, block.ow, g.H, g.W, [&](Index to, Index line, Index start, const Inside& inside) {
    T* dst = staged + to * width;
    if (line < 0 || channels < width || inside.first > 0 || inside.last < s.width)
      std::memset(dst, 0, s.pitch * width * sizeof(T));
    const Index count = inside.last - inside.first;
    if (line < 0 || count <= 0) return;
    const T* src = planes + line * g.W + start + inside.first * s.stride_w;
    dst += inside.first * width;
    if (s.stride_w == 1) return transpose(src, plane, channels, count, dst, width);
    for (Index c = 0; c < channels; ++c)
      copy_strided(src + c * plane, count, s.stride_w, planes + channels * plane, line_buffer + c * count);
    transpose(line_buffer, count, channels, count, dst, width);
  });
}

// Where the staged positions of a block begin, `width` values each.
template <class T>
void staged_positions(const WeightGradient<T>& g, const PositionBlock& block, Index width, Index* offset) {
  for (Index image = 0; image < block.images; ++image)
    for (Index i = 0; i < block.rows; ++i)
      for (Index j = 0; j < block.cols; ++j)
        *offset++ = (image * g.staging.channel_size + i * g.staging.pitch + j) * width;
}

// Filters [f, f + height) of dout, a panel of the matrix kernel.
template <class T>
void pack_filters(const WeightGradient<T>& g, const PositionBlock& block, Index group, Index f, Index height,
                  const T* dout, T* packed) {
  const bool in_one_run = block.cols == g.OW;  // rows lie one after the other
  const Index runs = in_one_run ? 1 : block.rows, length = block.image_positions() / runs;
  Index left = block.positions();
  for (Index i = 0; i < block.images; ++i) {
    const T* grad = g.dout_of(dout, block, block.first_image + i, group, f);
    for (Index r = 0; r < runs; ++r, packed += length * height) {
      left -= length;
      pack_panel<T>([&](Index m) { return grad + m * g.OH * g.OW + r * g.OW; }, height, length, packed, left);
    }
  }
}

}  // namespace cnnlib::CNNLIB_ISA
