// The gradient of max pooling: dx[h, w] = sum of dout over the windows whose winner it is. dout and arg
// (planes, OH, OW), dx (planes, H, W).
#pragma once

#include "kernels/pool/windows.hpp"
#include "kernels/pool_bands.hpp"

namespace cnnlib::CNNLIB_ISA {

// A vector of columns of dx for small windows.
template <class T, int PW, int Stride>
class ColumnOfMaxGradients {
  using S = Simd<T>;
  using Windows = ReachingWindows<T, PW, Stride>;

 public:
  ColumnOfMaxGradients(const PoolShape& shape, Index first_column)
      : s(shape), column(first_column), windows(s, column) {}

  // A plane of dx, whose array ends at `end`; that of arg is [first_arg, end_arg).
  void run(const T* dout, const std::uint8_t* arg, const std::uint8_t* first_arg, const std::uint8_t* end_arg,
           T* dx, const T* end, Ahead<false>& next_dout, Ahead<false>& next_arg, Ahead<true>& next_dx) const {
    struct Row {
      Packet<T> dout[Windows::vectors], winner[Windows::vectors];
    };
    gather_windows_down<T, PW, Stride>(
        s, column, S::zero(), dx, end,
        [&](Index oh) {
          Row row;
          next_dout.template step<S::bytes>();
          next_arg.template step<S::size>();
          next_dx.template step<Stride * Stride * S::bytes>();
#pragma GCC unroll 3
          for (int i = 0; i < Windows::vectors; ++i) {
            row.dout[i] = windows.vector[i].load(dout + oh * s.OW);
            row.winner[i] = windows.vector[i].load_bytes(arg + oh * s.OW, first_arg, end_arg);
          }
          return row;
        },
        [&](const Row& row, int kh) {
          const auto share = [&](int i, int kw) {
            return S::select(S::equal(row.winner[i], S::fill(T(kh * PW + kw))), row.dout[i], S::zero());
          };
          return windows.gather(share,
                                [&](Packet<T> sum, int i, int kw) { return S::add(sum, share(i, kw)); });
        },
        [](Packet<T> sum) { return sum; });
  }

 private:
  PoolShape s;
  Index column;
  Windows windows;
};

template <class T, int PW, int Stride>
[[gnu::noinline]] void max_pool_backward_small_windows(const T* dout, const std::uint8_t* arg, T* dx,
                                                       const PoolShape& s) {
  constexpr Index step = Stride * Simd<T>::size;
  const Index size = s.H * s.W, outputs = s.OH * s.OW;
  Ahead<false> next_dout(dout + s.planes * outputs), next_arg(arg + s.planes * outputs);
  Ahead<true> next_dx(dx + s.planes * size);
  for (Index w = last_vector(s.W, step); w >= 0; w -= step) {
    const ColumnOfMaxGradients<T, PW, Stride> column(s, w);
    for (Index plane = 0; plane < s.planes; ++plane)
      column.run(dout + plane * outputs, arg + plane * outputs, arg, arg + s.planes * outputs,
                 dx + plane * size, dx + s.planes * size, next_dout, next_arg, next_dx);
  }
}

// dx[place(i)] += dout[i], i < n, for places in [first, last). Not inlined, for want of registers.
template <class T, class Place>
[[gnu::noinline]] void add_to_places(const T* dout, Index n, const Place& place, Index first, Index last,
                                     T* dx) {
  const auto count = static_cast<std::size_t>(last - first);
  for (Index i = 0; i < n; ++i) {
    const Index at = place(i);
    if (static_cast<std::size_t>(at - first) < count) dx[at] += dout[i];
  }
}

// dx[place] += dout window by window, where winners(oh, o)(ow) is the place in its plane for window ow of row
// oh, whose first one is window o of all. One outside the rows of its window, which only an altered cache
// holds, takes nothing.
template <class T, class Rows, class Winners>
[[gnu::noinline]] void add_to_winners(const T* dout, T* dx, Index planes, const Rows& rows, Index OW, Index W,
                                      const Winners& winners) {
  const Index size = rows.size * W, outputs = rows.outputs * OW;
  const PlaneGrid grid(planes, rows.size, 1, size + outputs, double(planes) * double(size + outputs));
  grid.each([&](const PlaneTask& task, int) {
    const Index begin = rows.first_reaching(task.first_row), end = rows.last_reaching(task.last_row - 1);
    for (Index plane = task.first_plane; plane < task.last_plane; ++plane) {
      T* const to = dx + plane * size;
      std::fill(to + task.first_row * W, to + task.last_row * W, T(0));
      for (Index oh = begin; oh < end; ++oh) {
        const Index o = (plane * rows.outputs + oh) * OW;
        add_to_places(dout + o, OW, winners(oh, o), std::max(rows.begin(oh), task.first_row) * W,
                      std::min(rows.end(oh), task.last_row) * W, to);
      }
    }
  });
}

// dx from dout and the taps that forward left in arg, for windows of any size.
template <class T, class Arg>
void max_pool_backward_any_windows(const T* dout, const Arg* arg, T* dx, const PoolShape& s) {
  constexpr bool few = sizeof(Arg) == 1;  // taps, so that none has to be divided
  const auto width = static_cast<std::uint32_t>(s.PW);
  const auto offset_of = [=](std::uint32_t tap) -> Index {  // from the window's first
    const Index kh = tap / width, none = (s.H + s.pad_top) * s.W + s.pad_left;
    return kh < s.PH ? kh * s.dilation_h * s.W + (tap - kh * s.PW) * s.dilation_w : none;
  };
  Index offsets[few ? 256 : 1];
  if constexpr (few)
    for (std::uint32_t tap = 0; tap < 256; ++tap) offsets[tap] = offset_of(tap);
  add_to_winners(dout, dx, s.planes, row_windows(s), s.OW, s.W, [&](Index oh, Index o) {
    const Index first = (oh * s.stride_h - s.pad_top) * s.W - s.pad_left;
    return [=, stride = s.stride_w, tap = arg + o, offset = &offsets[0]](Index ow) {
      return first + ow * stride + (few ? offset[tap[ow]] : offset_of(tap[ow]));
    };
  });
}

template <class T>
void max_pool_backward(const T* dout, const void* arg, T* dx, const PoolShape& s) {
  const auto* const bytes = static_cast<const std::uint8_t*>(arg);
  if (small_windows(s))
    each_small_window(s, PoolBands::Of::inputs, [&](const PoolBand& band, auto width, auto stride) {
      max_pool_backward_small_windows<T, width(), stride()>(dout + band.out, bytes + band.out, dx + band.in,
                                                            band.shape);
    });
  else if (s.winner_bytes() == 1)
    max_pool_backward_any_windows(dout, bytes, dx, s);
  else
    max_pool_backward_any_windows(dout, static_cast<const std::uint32_t*>(arg), dx, s);
}

}  // namespace cnnlib::CNNLIB_ISA
