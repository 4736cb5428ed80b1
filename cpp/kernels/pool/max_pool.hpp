// Max pooling: out[oh, ow] = max of the window, and arg its tap kh * PW + kw, or the type's largest number
// for a window that holds padding alone. NaN is greater than every number, and of equals the first stays. x
// (planes, H, W), out and arg (planes, OH, OW). Where `Places` is false nothing is written to arg: only a
// gradient needs it.
#pragma once

#include "kernels/pool/window_maxima.hpp"
#include "kernels/pool_bands.hpp"

namespace cnnlib::CNNLIB_ISA {

// arg = the first tap in the image for the windows [first, last) of row oh whose maximum is minus infinity:
// they hold nothing else.
template <class T, class Arg>
[[gnu::noinline]] void find_first_taps(const PoolShape& s, Index oh, Index first, Index last, const T* out,
                                       Arg* arg) {
  const Index top = oh * s.stride_h - s.pad_top, kh = std::max<Index>(0, ceil_div(-top, s.dilation_h));
  for (Index ow = first; ow < last; ++ow) {
    if (out[ow] != -std::numeric_limits<T>::infinity()) continue;
    const Index left = ow * s.stride_w - s.pad_left, kw = std::max<Index>(0, ceil_div(-left, s.dilation_w));
    const bool inside =
        kh < s.PH && top + kh * s.dilation_h < s.H && kw < s.PW && left + kw * s.dilation_w < s.W;
    arg[ow] = inside ? static_cast<Arg>(kh * s.PW + kw) : std::numeric_limits<Arg>::max();
  }
}

// Small windows, by walks down a vector of columns. Places outside the image count as minus infinity.
template <class T, int PW, int Stride, bool Places>
[[gnu::noinline]] void max_pool_small_windows(const T* x, T* out, std::uint8_t* arg, const PoolShape& shape) {
  const PoolShape s = shape;  // a copy that no store of a byte can change
  using S = Simd<T>;
  using Line = Maxima<T, Places>;
  constexpr T lowest = -std::numeric_limits<T>::infinity();
  const Index outputs = s.planes * s.OH * s.OW;
  Line nothing{};
  nothing.value = S::fill(lowest);
  const T *next_x = x + s.planes * s.H * s.W, *next_out = out + outputs;
  const std::uint8_t* next_arg = arg + (Places ? outputs : 0);
  for (Index j = last_vector(s.OW, S::size); j >= 0; j -= S::size) {
    const WindowTaps<T, PW, Stride> taps(j * Stride - s.pad_left, s.W);
    T lanes[S::size];
    for (Index l = 0; l < S::size; ++l) lanes[l] = j + l < s.OW ? lowest : T(0);
    const Packet<T> no_window = S::load(lanes);  // above minus infinity in lanes behind the last window
    for (Index plane = 0; plane < s.planes; ++plane) {
      const T* image = x + plane * s.H * s.W;
      const auto line_of = [&](Index h) __attribute__((always_inline)) {
        Packet<T> tap[PW];
        prefetch_next<Stride * S::size>(next_x);
        taps.load(image + h * s.W, tap, lowest);
        Line best{tap[0], S::zero()};
#pragma GCC unroll 3
        for (int k = 1; k < PW; ++k) best.add({tap[k], S::zero()}, S::fill(T(k)));
        return best;
      };
      slide_windows_down(
          s, nothing, line_of, [&](Index oh, Line best, const Line& second, const Line& third) {
            const Index row = (plane * s.OH + oh) * s.OW;
            prefetch_next<S::size, true>(next_out);
            if (Places) prefetch_next<S::size, true>(next_arg);
            best.add(second, S::fill(T(PW)));
            if (s.PH == 3) best.add(third, S::fill(T(2 * PW)));
            store_in_rows(out + row, s.OW, j, out + outputs, best.value);
            if constexpr (Places) {
              const bool whole = row + j + S::size <= outputs;
              S::store_bytes(arg + row + j, best.tap,
                             whole ? Index(S::size) : std::min<Index>(S::size, s.OW - j));
              if (S::any(
                      S::equal(S::max(best.value, no_window), nothing.value)))  // perhaps of no place inside
                find_first_taps(s, oh, j, std::min(s.OW, j + S::size), out + row, arg + row);
            }
          });
    }
  }
}

// Windows of any size. Winners of adaptive ones, 64-bit numbers, are positions in the plane.
template <class T, class Arg>
void max_pool_any_windows(const T* x, T* out, Arg* arg, const PoolShape& s) {
  using S = Simd<T>;
  constexpr bool adaptive = sizeof(Arg) == 8;
  const auto axis = [](Index size, Index outputs, Index taps, Index dilation, Index stride,
                       Index pad) -> MaximaAxis {
    if (!adaptive) return {size, outputs, taps, taps, dilation, stride, 1, pad};
    const Index fewest = ceil_div(size, outputs), uneven = size % outputs != 0;
    return {size, outputs, fewest, fewest + uneven, 1, uneven ? size : fewest, uneven ? outputs : 1, 0};
  };
  const MaximaAxis rows = axis(s.H, s.OH, s.PH, s.dilation_h, s.stride_h, s.pad_top),
                   columns = axis(s.W, s.OW, s.PW, s.dilation_w, s.stride_w, s.pad_left);
  const auto lowest = S::fill(-std::numeric_limits<T>::infinity());
  WindowMaxima<T>(x, rows, columns)
      .each(s.planes, out, [=](Index row, Index ow, Index count, const Maxima<T, true>& best, Index first) {
        if (arg == nullptr) return;
        Arg* const winners = arg + row * s.OW;
        if constexpr (sizeof(Arg) == 1) {
          S::store_bytes(winners + ow, S::add(best.tap, S::fill(T(first))), count);
        } else {
          const Index top = adaptive ? rows.begin(row % s.OH) : 0;
          T tap[S::size];
          S::store(tap, best.tap);
          for (Index l = 0; l < count; ++l) {
            const Index at = first + Index(tap[l]), kh = adaptive ? at / columns.most : 0;
            const Index column = columns.begin(ow + l) + at - kh * columns.most;
            winners[ow + l] = static_cast<Arg>(adaptive ? (top + kh) * s.W + column : at);
          }
        }
        if constexpr (!adaptive)
          if (s.pad_top + s.pad_left > 0 && S::any(S::equal(best.value, lowest)))
            find_first_taps(s, row % s.OH, ow, ow + count, out + row * s.OW, winners);
      });
}

// `arg` is of numbers of s.winner_bytes(), or null.
template <class T>
void max_pool_forward(const T* x, T* out, void* arg, const PoolShape& s) {
  auto* const bytes = static_cast<std::uint8_t*>(arg);
  if (s.adaptive)
    max_pool_any_windows(x, out, static_cast<std::int64_t*>(arg), s);
  else if (small_windows(s))
    each_small_window(s, RowsOf::outputs, [&](const PoolBand& band, auto width, auto stride) {
      const auto run = [&](auto places) {
        max_pool_small_windows<T, width(), stride(), places()>(
            x + band.in, out + band.out, places ? bytes + band.out : nullptr, band.shape);
      };
      arg == nullptr ? run(std::false_type()) : run(std::true_type());
    });
  else if (s.winner_bytes() == 1)
    max_pool_any_windows(x, out, bytes, s);
  else
    max_pool_any_windows(x, out, static_cast<std::uint32_t*>(arg), s);
}

// The gradient, dx[h, w] = sum of dout over the windows whose winner it is. Small windows: by walks down a
// vector of columns of dx.
template <class T, int PW, int Stride>
[[gnu::noinline]] void max_pool_backward_small_windows(const T* dout, const std::uint8_t* arg, T* dx,
                                                       const PoolShape& s) {
  using S = Simd<T>;
  using Windows = ReachingWindows<T, PW, Stride>;
  struct Row {
    Packet<T> dout[Windows::vectors], winner[Windows::vectors];
  };
  constexpr Index step = Stride * S::size;
  const Index outputs = s.planes * s.OH * s.OW;
  const std::uint8_t* const end_arg = arg + outputs;
  const T* const end = dx + s.planes * s.H * s.W;
  const T *next_dout = dout + outputs, *next_dx = end;
  const std::uint8_t* next_arg = end_arg;
  for (Index w = last_vector(s.W, step); w >= 0; w -= step) {
    const Windows windows(s, w);
    for (Index plane = 0; plane < s.planes; ++plane)
      gather_windows_down<T, PW, Stride>(
          s, w, S::zero(), dx + plane * s.H * s.W, end,
          [&](Index oh) {
            const Index o = (plane * s.OH + oh) * s.OW;
            Row row;
            prefetch_next<S::size>(next_dout);
            prefetch_next<S::size>(next_arg);
            prefetch_next<Stride * Stride * S::size, true>(next_dx);
#pragma GCC unroll 3
            for (int i = 0; i < Windows::vectors; ++i) {
              row.dout[i] = windows.vector[i].load(dout + o);
              row.winner[i] = windows.vector[i].load_bytes(arg + o, arg, end_arg);
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
}

// The gradient of 2x2 windows side by side. Each row of OW outputs gives two rows of dx, and neither has a
// neighbour: the vectors of outputs are taken in the order of memory.
template <class T>
class PairedPixels {
  using S = Simd<T>;
  Packet<T> grad_, winner_;

 public:
  PairedPixels(const T* dout, const std::uint8_t* arg, Index count)
      : grad_(load_first(dout, count)), winner_(S::load_bytes(arg, 0, count)) {}

  // to[0, 2 * S::size) = row kh of the windows.
  [[gnu::always_inline]] void store(int kh, T* to) const {
    const auto share = [&](int kw) {
      return S::add(S::zero(), S::select(S::equal(winner_, S::fill(T(2 * kh + kw))), grad_, S::zero()));
    };
    S::store_pairs(to, share(0), share(1));
  }
};

// Rows of a vector or more.
template <class T>
void max_pool_backward_wide_pairs(const T* dout, const std::uint8_t* arg, T* dx, Index rows, Index OW) {
  using S = Simd<T>;
  constexpr Index size = S::size;
  const T *next_dout = dout + rows * OW, *next_dx = dx + 4 * rows * OW;
  const std::uint8_t* next_arg = arg + rows * OW;
  for (Index r = 0; r < rows; ++r, dout += OW, arg += OW, dx += 4 * OW)
    for (Index next = 0; next < OW; next += size) {
      prefetch_next<S::size>(next_dout);
      prefetch_next<S::size>(next_arg);
      prefetch_next<4 * S::size, true>(next_dx);
      const Index at = std::min(next, OW - size);  // the last vector repeats some
      const PairedPixels<T> pixels(dout + at, arg + at, size);
      pixels.store(0, dx + 2 * at);
      pixels.store(1, dx + 2 * (OW + at));
    }
}
// Rows of a part of a vector, whose size is a constant: as many at a time as fit.
template <class T, int OW>
void max_pool_backward_narrow_pairs(const T* dout, const std::uint8_t* arg, T* dx, Index rows) {
  constexpr Index size = Simd<T>::size, W = 2 * OW, rows_of_vector = size / OW;
  const auto some_rows = [=](Index first, Index count) __attribute__((always_inline)) {
    const PairedPixels<T> pixels(dout + first * OW, arg + first * OW, count * OW);
    T lines[2][2 * size];
    for (int kh = 0; kh < 2; ++kh) pixels.store(kh, lines[kh]);
    for (Index i = 0; i < count; ++i)
      for (int kh = 0; kh < 2; ++kh)
        std::memcpy(dx + (2 * (first + i) + kh) * W, lines[kh] + i * W, W * sizeof(T));
  };
  Index first = 0;
  for (; first + rows_of_vector <= rows; first += rows_of_vector) some_rows(first, rows_of_vector);
  if (first < rows) some_rows(first, rows - first);
}

inline bool has_paired_pixels(const PoolShape& s) {
  return s.PH == 2 && s.PW == 2 && s.stride_h == 2 && s.stride_w == 2 && !s.adaptive && s.pad_top == 0 &&
         s.pad_left == 0 && s.H == 2 * s.OH && s.W == 2 * s.OW && s.dilation_h == 1 && s.dilation_w == 1;
}
// The function for such windows, or null where rows are of another part of a vector.
template <class T>
auto paired_pixels_backward(Index OW) {
  using Run = void (*)(const T*, const std::uint8_t*, T*, Index rows, Index OW);
  Run run = OW >= Simd<T>::size ? &max_pool_backward_wide_pairs<T> : nullptr;
  const auto narrow = [&](auto size) {
    // Where lanes are left over, each load takes a mask, which is cheap with AVX-512 alone.
    constexpr bool whole = Simd<T>::size % size == 0, masks = InstructionSet::set == Set::avx512;
    if constexpr (size < Simd<T>::size && (whole || masks))
      if (OW == size)
        run = [](const T* dout, const std::uint8_t* arg, T* dx, Index rows, Index) {
          max_pool_backward_narrow_pairs<T, decltype(size)::value>(dout, arg, dx, rows);
        };
  };
  // The usual planes of 4, 8, 14, 16, 24 and 28 pixels.
  narrow(std::integral_constant<int, 2>());
  narrow(std::integral_constant<int, 4>());
  narrow(std::integral_constant<int, 7>());
  narrow(std::integral_constant<int, 8>());
  narrow(std::integral_constant<int, 12>());
  narrow(std::integral_constant<int, 14>());
  return run;
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
  if (s.adaptive)  // each output's gradient goes to where its maximum stands
    return add_to_winners(dout, dx, s.planes, AdaptiveWindows{s.H, s.OH}, s.OW, s.W, [=](Index, Index o) {
      return [place = static_cast<const std::int64_t*>(arg) + o](Index ow) { return place[ow]; };
    });
  if (const auto paired = has_paired_pixels(s) ? paired_pixels_backward<T>(s.OW) : nullptr) {
    const PlaneGrid grid(s.planes, s.OH, 1, s.H * s.W + s.OH * s.OW, pool_work(s));
    return grid.each([&](const PlaneTask& task, int) {
      const Index row = task.first_plane * s.OH + task.first_row,
                  rows = (task.last_plane - task.first_plane - 1) * s.OH + task.last_row - task.first_row;
      paired(dout + row * s.OW, bytes + row * s.OW, dx + 4 * row * s.OW, rows, s.OW);
    });
  }
  if (small_windows(s))
    return each_small_window(s, RowsOf::inputs, [&](const PoolBand& band, auto width, auto stride) {
      max_pool_backward_small_windows<T, width(), stride()>(dout + band.out, bytes + band.out, dx + band.in,
                                                            band.shape);
    });
  if (s.winner_bytes() == 1) return max_pool_backward_any_windows(dout, bytes, dx, s);
  max_pool_backward_any_windows(dout, static_cast<const std::uint32_t*>(arg), dx, s);
}

}  // namespace cnnlib::CNNLIB_ISA
