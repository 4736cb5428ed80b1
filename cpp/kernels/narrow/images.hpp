// Walks over images of narrow values, and their borders.
#pragma once

#include "kernels/pool/windows.hpp"
#include "narrow_shapes.hpp"
#include "threads/parallel.hpp"

namespace cnnlib::CNNLIB_ISA {

// The border of some images holds zero bytes, or the zero point of bytes. What is right of a row lies before
// what is left of the next one.
template <class Value>
void fill_border(const NarrowImage<Value>& s, int zero, std::uint8_t* y, Index images) {
  const Index sides = (s.left + s.right) * s.pixel();
  if (s.top + s.bottom + sides == 0) return;
  const Index row = s.row(), pixels = s.W * s.pixel(), before = s.first();
  const Index after = s.right * s.pixel() + s.bottom * row;
  const double work = double(images * (before + after + s.H * sides)) / 64;
  parallel_for(images, threads_for(work), [=](Index n, int) {
    std::uint8_t* at = y + n * s.bytes();
    std::memset(at, zero, std::size_t(before));
    at += before + pixels;
    for (Index h = 1; h < s.H; ++h, at += row) std::memset(at, zero, std::size_t(sides));
    std::memset(at, zero, std::size_t(after));
  });
}

// row(values of a, values of b, values of y, how many bytes) for each row of pixels; b may be null.
template <class Value, class Row>
void each_row(const NarrowImage<Value>& a, const NarrowImage<Value>& b, const NarrowImage<Value>& y,
              const std::uint8_t* x, const std::uint8_t* other, std::uint8_t* out, Index images,
              const Row& row) {
  parallel_grid({images, y.H}, threads_for(double(images * y.H * y.W * y.pixel()) / 4),
                [&](Index n, Index h, int) {
                  row(x + a.row_of(n, h), other == nullptr ? nullptr : other + b.row_of(n, h),
                      out + y.row_of(n, h), y.W * y.pixel());
                });
}

// body(image of x, row and column of the window, pixel of y) for each output of some images.
template <class Value, class Body>
void each_window(const NarrowPool<Value>& p, Index images, const Body& body) {
  const PoolShape& s = p.shape;
  const double work = double(images * s.OH * s.OW * s.PH * s.PW) * double(p.x.pixel()) / 4;
  parallel_grid({images, s.OH}, threads_for(work), [&](Index n, Index oh, int) {
    for (Index ow = 0; ow < s.OW; ++ow) body(p.x.row_of(n, 0), oh, ow, p.y.row_of(n, oh) + ow * p.y.pixel());
  });
}

// The first position of a window that lies inside of the image along an axis.
inline Index first_inside(Index start, Index dilation) {
  return start >= 0 ? start : start + ceil_div(-start, dilation) * dilation;
}

}  // namespace cnnlib::CNNLIB_ISA
