// Depthwise convolution of bytes: lanes are channels. Four taps make one dot product: of a column of the
// window for 3x3, any four otherwise.
#pragma once

#include "kernels/narrow/byte_cuts.hpp"
#include "kernels/narrow/images.hpp"

namespace cnnlib::CNNLIB_ISA {

// w (C, 1, KH, KW)
inline void pack_depthwise(const ByteConv& c, const std::int8_t* w,
                           const FilterNumbers<std::uint8_t>& numbers, void* packed) {
  const Index taps = c.shape.KH * c.shape.KW;
  const DepthwisePanels p{c};
  begin_packing(numbers, packed, p);
  auto* to = static_cast<std::uint8_t*>(packed);
  for (Index v = 0; v < p.vectors; ++v)
    for (Index step = 0; step < p.steps; ++step, to += IntLanes::weight_bytes) {
      std::int8_t four[4 * IntLanes::size] = {};
      for (Index i = 0; i < IntLanes::size; ++i)
        for (Index k = 0; k < 4; ++k) {
          const Index channel = p.filter_of(v, i), tap = tap_of(c, step, k);
          if (channel >= 0 && tap >= 0) four[4 * i + k] = w[channel * taps + tap];
        }
      IntLanes::pack_weights(four, to);
    }
}

// A vector of channels: its numbers, weights and what is stored where.
struct DepthwiseChannels {
  const ByteConv& c;
  Index channel;
  const std::uint8_t* weights;
  FilterVector numbers;
  const Requantization& epilogue;

  // call(a function that stores sums at y, with the bytes at other): what does not change stays in registers.
  template <class Call>
  [[gnu::always_inline]] void with_store(const Call& call) const {
    const Index count = c.y.channels() - channel;
    const FilterVector n = numbers;
    const Requantization e = epilogue;
    if (c.epilogue.add)
      call([&](IntLanes::Sums sums, const std::uint8_t* other, std::uint8_t* y) {
        e.store(sums, n, other, y, count);
      });
    else if (count >= IntLanes::size)
      call([&](IntLanes::Sums sums, const std::uint8_t*, std::uint8_t* y) {
        e.store(sums, n, y, IntLanes::size);
      });
    else
      call([&](IntLanes::Sums sums, const std::uint8_t*, std::uint8_t* y) { e.store(sums, n, y, count); });
  }
};

// A row of outputs, or with `rows` two of them; x is the first window's place.
template <int rows, int stride>
inline void column_rows(const DepthwiseChannels& d, const std::uint8_t* x, const std::uint8_t* other,
                        std::uint8_t* y) {
  const ByteConv& c = d.c;
  const Index pixel = c.x.channels(), row = c.x.row(), last = (rows == 2 ? 3 : 2) * row;
  const auto column = [&](Index w) {
    const std::uint8_t* const p = x + w * pixel;
    return IntLanes::interleave(p, p + row, p + 2 * row, p + last);
  };
  IntLanes::Weights w[3 * rows];
  for (int k = 0; k < 3 * rows; ++k) w[k] = IntLanes::load_weights(d.weights + k * IntLanes::weight_bytes);
  const Index other_pixel = c.other.channels(), other_row = c.other.row();
  const Index y_pixel = c.y.channels(), y_row = c.y.row();
  d.with_store([&](const auto& store) {
    IntLanes::Values left = column(0), middle = stride == 1 ? column(1) : left;
    for (Index i = 0; i < c.shape.OW; ++i) {
      if (stride == 2) middle = column(2 * i + 1);
      const IntLanes::Values right = column(stride * i + 2);
#pragma GCC unroll 2
      for (int r = 0; r < rows; ++r) {
        IntLanes::Sums sums = IntLanes::dot(IntLanes::zero(), left, w[3 * r]);
        sums = IntLanes::dot(IntLanes::dot(sums, middle, w[3 * r + 1]), right, w[3 * r + 2]);
        store(sums, other + r * other_row + i * other_pixel, y + r * y_row + i * y_pixel);
      }
      left = stride == 1 ? middle : right;
      middle = right;
    }
  });
}

// The same of a block of four vectors, from `vector` on.
template <int rows, int stride, class L = IntLanes>
inline void block_rows(const ByteConv& c, const std::uint8_t* weights,
                       const FilterNumbers<std::uint8_t>& numbers, Index vector, const std::uint8_t* x,
                       std::uint8_t* y) {
  if constexpr (L::has_blocks) {
    const Index pixel = c.x.channels(), row = c.x.row(), last = (rows == 2 ? 3 : 2) * row;
    const Index y_pixel = c.y.channels(), y_row = c.y.row();
    const typename L::Rounding rounding(c.epilogue.zero, c.epilogue.activation.low,
                                        c.epilogue.activation.high);
    typename L::Values columns[3][4];
    const auto load = [&](Index w, int to) {
      const std::uint8_t* const p = x + w * pixel;
      L::interleave_block({p, p + row, p + 2 * row, p + last}, columns[to]);
    };
    const auto store = [&](Index i) {
#pragma GCC unroll 2
      for (int r = 0; r < rows; ++r) {
        typename L::Scales v[4];
#pragma GCC unroll 4
        for (int j = 0; j < 4; ++j) {
          const auto w = [&](int k) {
            return L::load_weights(weights + ((vector + j) * column_steps + 3 * r + k) * L::weight_bytes);
          };
          typename L::Sums sums = L::load(numbers.bias + (vector + j) * L::size);
#pragma GCC unroll 3
          for (int k = 0; k < 3; ++k) sums = L::dot(sums, columns[k][j], w(k));
          v[j] = L::scaled(sums, L::load_scales(numbers.multiplier + (vector + j) * L::size));
        }
        L::store_block(v, rounding, y + r * y_row + i * y_pixel);
      }
    };
    load(0, 0);
    if constexpr (stride == 1) load(1, 1);
    for (Index i = 0; i < c.shape.OW; ++i) {
      if constexpr (stride == 2) load(2 * i + 1, 1);
      load(stride * i + 2, 2);
      store(i);
      if constexpr (stride == 1) std::copy_n(columns[1], 4, columns[0]);
      std::copy_n(columns[2], 4, columns[2 - stride]);
    }
  }
}

// A row of outputs by any taps, whose places in the window are `offsets`.
inline void tap_row(const DepthwiseChannels& d, const std::uint8_t* x, const std::uint8_t* other,
                    std::uint8_t* y, const Index* offsets) {
  const ByteConv& c = d.c;
  const Index steps = depthwise_steps(c);
  d.with_store([&](const auto& store) {
    for (Index i = 0; i < c.shape.OW; ++i) {
      const std::uint8_t* const at = x + i * c.shape.stride_w * c.x.channels();
      IntLanes::Sums sums = IntLanes::zero();
      for (Index g = 0; g < steps; ++g) {
        const Index* o = offsets + 4 * g;
        sums = IntLanes::dot(sums, IntLanes::interleave(at + o[0], at + o[1], at + o[2], at + o[3]),
                             IntLanes::load_weights(d.weights + g * IntLanes::weight_bytes));
      }
      store(sums, other + i * c.other.channels(), y + i * c.y.channels());
    }
  });
}

inline void depthwise(const ByteConv& c, const std::uint8_t* x, const std::uint8_t* other, const void* packed,
                      void* y, Index images) {
  const ConvShape& s = c.shape;
  const DepthwisePanels p{c};
  const Index taps = s.KH * s.KW;
  const bool columns = by_columns(c);
  Index offsets[most_depthwise_taps + 3];
  for (Index t = 0; t < ceil_div(taps, 4) * 4; ++t) {
    const Index tap = std::min(t, taps - 1);  // those beyond have no weight
    offsets[t] = tap / s.KW * s.dilation_h * c.x.row() + tap % s.KW * s.dilation_w * c.x.channels();
  }
  const auto* weights = static_cast<const std::uint8_t*>(packed);
  const FilterNumbers<std::uint8_t> numbers = numbers_in(packed, p);
  auto* out = static_cast<std::uint8_t*>(y);
  fill_border(c.y, c.epilogue.zero, out, images);
  const Index most_rows = columns && s.stride_h == 1 && s.stride_w == 1 ? 2 : 1,
              tasks = ceil_div(s.OH, most_rows);
  const auto run = s.stride_w == 1 ? column_rows<1, 1> : column_rows<1, 2>;
  const double work = double(images * s.OH * s.OW) * double(p.numbers() * p.steps);
  parallel_grid({images, tasks}, threads_for(work), [&](Index image, Index task, int) {
    const Requantization epilogue(c.epilogue);
    const Index h = task * most_rows;
    const std::uint8_t* const window = x + c.window_row(image, h);
    std::uint8_t* const row = out + c.y.row_of(image, h);
    const bool two_rows = most_rows == 2 && h + 1 < s.OH;
    for (Index v = 0; v < p.blocks; v += 4)
      (two_rows ? block_rows<2, 1>
       : s.stride_w == 1
           ? block_rows<1, 1>
           : block_rows<1, 2>)(c, weights, numbers, v, window + v * IntLanes::size, row + v * IntLanes::size);
    for (Index v = p.blocks; v < p.vectors; ++v) {
      const Index channel = v * IntLanes::size;
      const DepthwiseChannels d{c, channel, weights + v * p.steps * IntLanes::weight_bytes,
                                FilterVector(numbers, channel), epilogue};
      const std::uint8_t* const from = window + channel;
      const std::uint8_t* const term = c.epilogue.add ? other + c.other.row_of(image, h) + channel : from;
      std::uint8_t* const to = row + channel;
      if (!columns)
        tap_row(d, from, term, to, offsets);
      else if (two_rows)
        column_rows<2, 1>(d, from, term, to);
      else
        run(d, from, term, to);
    }
  });
}

}  // namespace cnnlib::CNNLIB_ISA
