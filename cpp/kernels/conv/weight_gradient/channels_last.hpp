// Operands of the methods whose lanes are channels: images with channels last, and packed panels of dout.
#pragma once

#include <utility>

#include "kernels/conv/weight_gradient/blocks.hpp"

namespace cnnlib::CNNLIB_ISA {

// Copies `channels` planes (H, W) of one image to staged[position][width], the channels being lanes.
template <class T>
void stage_channels_last(const T* planes, Index channels, Index H, Index W, const Staging& s, Index oh,
                         Index ow, Index width, T* line_buffer, T* staged) {
  s.each_row(oh, ow, H, W, [&](Index to, Index line, Index start, const Inside& inside) {
    T* dst = staged + to * width;
    if (line < 0 || channels < width || inside.first > 0 || inside.last < s.width)
      std::memset(dst, 0, s.pitch * width * sizeof(T));
    const Index count = inside.last - inside.first;
    if (line < 0 || count <= 0) return;
    const T* src = planes + line * W + start + inside.first * s.stride_w;
    dst += inside.first * width;
    if (s.stride_w == 1) return transpose(src, H * W, channels, count, dst, width);
    for (Index c = 0; c < channels; ++c)
      copy_strided(src + c * H * W, count, s.stride_w, planes + channels * H * W, line_buffer + c * count);
    transpose(line_buffer, count, channels, count, dst, width);
  });
}

// Where the staged positions of a block begin, `width` values each.
template <class T>
void staged_positions(const WeightGradient<T>& g, Index block, Index width, Index* offset) {
  g.each_image(block, [&](Index, Index image, Index, Index, Index rows, Index cols, Index at) {
    for (Index i = 0; i < rows; ++i)
      for (Index j = 0; j < cols; ++j)
        offset[at + i * cols + j] = (image * g.staging.channel_size + i * g.staging.pitch + j) * width;
  });
}

// The rows of dout's filters [f, f + height) for the `terms` positions of a block, packed for the matrix
// kernel.
template <class T>
void pack_filters(const WeightGradient<T>& g, Index block, Index group, Index f, Index height, Index terms,
                  const T* dout, T* packed) {
  const Index plane = g.OH * g.OW;
  g.each_image(block, [&](Index n, Index, Index oh, Index ow, Index rows, Index cols, Index at) {
    const T* grad = dout + ((n * g.s.groups + group) * g.F + f) * plane + oh * g.OW + ow;
    if (cols == g.OW) cols *= std::exchange(rows, 1);  // rows lie one after the other
    for (Index i = 0; i < rows; ++i)
      pack_panel<T>([&](Index m) { return grad + m * plane + i * g.OW; }, height, cols,
                    packed + (at + i * cols) * height, terms - at - (i + 1) * cols);
  });
}

}  // namespace cnnlib::CNNLIB_ISA
