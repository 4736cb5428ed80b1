// Planes enlarged by whole factors: each pixel repeated, or interpolated between its neighbours. Both go by
// rows: a row of x is widened once, and rows of the result are copies or blends of widened rows.
#pragma once

#include <algorithm>
#include <cmath>

#include "kernels/simd/loops.hpp"
#include "memory/scratch.hpp"
#include "threads/parallel.hpp"

namespace cnnlib::CNNLIB_ISA {

// body(plane, scratch) for every plane, with `values` of scratch; `work` is what a plane takes.
template <class T, class Body>
void each_plane_with_scratch(Index planes, double work, Index values, const Body& body) {
  const int threads = threads_for(double(planes) * work);
  const Index stride = round_up(values, Index(buffer_alignment / sizeof(T)));
  const Scratch scratch(checked_product(std::size_t(stride) * sizeof(T), std::size_t(threads)));
  T* all = static_cast<T*>(scratch.data());
  parallel_for(planes, threads, [=](Index plane, int slot) { body(plane, all + slot * stride); });
}

// to[i] = value(i, count) in vectors.
template <class T, class Value>
[[gnu::always_inline]] inline void fill_row(T* to, Index n, const Value& value) {
  write_vectors(to, n, false, value);
}

// to[w * scale], ... , to[w * scale + scale - 1] = from[w]
template <class T>
void repeat_values(const T* from, Index W, Index scale, T* to) {
  using S = Simd<T>;
  Index w = 0;
  if (scale == 2)
    for (; w + S::size <= W; w += S::size) {
      const auto v = S::load(from + w);
      S::store_pairs(to + 2 * w, v, v);
    }
  for (; w < W; ++w) std::fill_n(to + w * scale, scale, from[w]);
}

// to[w] = from[w * scale] + ... + from[w * scale + scale - 1]
template <class T>
void sum_neighbours(const T* from, Index W, Index scale, T* to) {
  using S = Simd<T>;
  Index w = 0;
  if (scale == 2)
    for (; w + S::size <= W; w += S::size) {
      typename S::Packet even, odd;
      S::load_pairs(from + 2 * w, even, odd);
      S::store(to + w, S::add(even, odd));
    }
  for (; w < W; ++w) {
    T sum = from[w * scale];
    for (Index i = 1; i < scale; ++i) sum += from[w * scale + i];
    to[w] = sum;
  }
}

// out[oh, ow] = x[oh / scale_h, ow / scale_w]
template <class T>
void upsample_nearest_forward(const T* x, T* out, const UpsampleShape& s) {
  const Index OW = s.W * s.scale_w;
  each_plane_with_scratch<T>(s.planes, double(s.H * s.scale_h * OW), 0, [=](Index plane, T*) {
    for (Index h = plane * s.H; h < (plane + 1) * s.H; ++h) {
      T* first = out + h * s.scale_h * OW;
      repeat_values(x + h * s.W, s.W, s.scale_w, first);
      for (Index i = 1; i < s.scale_h; ++i) std::copy_n(first, OW, first + i * OW);
    }
  });
}

// dx[h, w] = sum of dout over the pixels that repeat it.
template <class T>
void upsample_nearest_backward(const T* dout, T* dx, const UpsampleShape& s) {
  using S = Simd<T>;
  const Index OW = s.W * s.scale_w;
  each_plane_with_scratch<T>(s.planes, double(s.H * s.scale_h * OW), OW, [=](Index plane, T* sums) {
    for (Index h = plane * s.H; h < (plane + 1) * s.H; ++h) {
      const T* rows = dout + h * s.scale_h * OW;
      fill_row(sums, OW, [=](Index i, Index count) {
        auto sum = load_first(rows + i, count);
        for (Index k = 1; k < s.scale_h; ++k) sum = S::add(sum, load_first(rows + k * OW + i, count));
        return sum;
      });
      sum_neighbours(sums, s.W, s.scale_w, dx + h * s.W);
    }
  });
}

// Where outputs of an axis lie between inputs: output o is input[before] * (1 - share) + input[after] *
// share.
template <class T>
struct Between {
  std::int32_t before, after;
  T share;
};

// With align_corners the first and last pixels of both lie on each other; without it their outer edges do.
template <class T>
void fill_between(Between<T>* between, Index size, Index scale, bool align_corners) {
  const Index outputs = size * scale;
  for (Index o = 0; o < outputs; ++o) {
    const double place = align_corners ? outputs > 1 ? double(o) * double(size - 1) / double(outputs - 1) : 0
                                       : std::max(0.0, (double(o) + 0.5) / double(scale) - 0.5);
    const Index before = std::min(static_cast<Index>(place), size - 1);
    between[o] = {static_cast<std::int32_t>(before),
                  static_cast<std::int32_t>(std::min(before + 1, size - 1)), T(place - double(before))};
  }
}

// The tables of both axes in one piece of scratch.
template <class T>
struct BetweenTables {
  Scratch scratch;
  const Between<T>*rows, *columns;

  explicit BetweenTables(const UpsampleShape& s)
      : scratch(checked_product(sizeof(Between<T>), std::size_t(s.H * s.scale_h + s.W * s.scale_w))) {
    auto* all = static_cast<Between<T>*>(scratch.data());
    fill_between(all, s.H, s.scale_h, s.align_corners);
    fill_between(all + s.H * s.scale_h, s.W, s.scale_w, s.align_corners);
    rows = all;
    columns = all + s.H * s.scale_h;
  }
};

// Two rows of an image, the last ones used: row h in place h % 2.
template <class T>
struct TwoRows {
  T* values;
  Index size;
  Index held[2] = {-1, -1};
  T* at(Index h) { return values + h % 2 * size; }
};

template <class T>
void upsample_bilinear_forward(const T* x, T* out, const UpsampleShape& s) {
  using S = Simd<T>;
  const BetweenTables<T> tables(s);
  const Between<T>*rows = tables.rows, *columns = tables.columns;
  const Index OH = s.H * s.scale_h, OW = s.W * s.scale_w;
  each_plane_with_scratch<T>(s.planes, 2 * double(OH * OW), 2 * OW, [=](Index plane, T* scratch) {
    TwoRows<T> wide{scratch, OW};
    const auto widened = [&](Index h) {
      T* to = wide.at(h);
      if (wide.held[h % 2] != h) {
        const T* from = x + (plane * s.H + h) * s.W;
        for (Index o = 0; o < OW; ++o) {
          const Between<T>& c = columns[o];
          to[o] = from[c.before] * (T(1) - c.share) + from[c.after] * c.share;
        }
        wide.held[h % 2] = h;
      }
      return to;
    };
    for (Index oh = 0; oh < OH; ++oh) {
      const T *upper = widened(rows[oh].before), *lower = widened(rows[oh].after);
      const auto share = S::fill(rows[oh].share), rest = S::fill(T(1) - rows[oh].share);
      fill_row(out + (plane * OH + oh) * OW, OW, [=](Index i, Index count) {
        return S::fma(load_first(lower + i, count), share, S::mul(load_first(upper + i, count), rest));
      });
    }
  });
}

// The transpose of the forward pass: rows of dout are gathered into two wide rows, and each of these, when it
// is complete, into its row of dx.
template <class T>
void upsample_bilinear_backward(const T* dout, T* dx, const UpsampleShape& s) {
  using S = Simd<T>;
  const BetweenTables<T> tables(s);
  const Between<T>*rows = tables.rows, *columns = tables.columns;
  const Index OH = s.H * s.scale_h, OW = s.W * s.scale_w;
  each_plane_with_scratch<T>(s.planes, 2 * double(OH * OW), 2 * OW, [=](Index plane, T* scratch) {
    TwoRows<T> wide{scratch, OW};
    const auto finish = [&](Index h) {
      T* to = dx + (plane * s.H + h) * s.W;
      const T* from = wide.at(h);
      std::fill_n(to, s.W, T(0));
      for (Index o = 0; o < OW; ++o) {
        to[columns[o].before] += from[o] * (T(1) - columns[o].share);
        to[columns[o].after] += from[o] * columns[o].share;
      }
    };
    const auto add = [&](Index h, const T* grad, T factor) {
      T* to = wide.at(h);
      Index& held = wide.held[h % 2];
      const bool fresh = held != h;
      if (fresh && held >= 0) finish(held);
      held = h;
      const auto by = S::fill(factor);
      fill_row(to, OW, [=](Index i, Index count) {
        const auto share = S::mul(load_first(grad + i, count), by);
        return fresh ? share : S::add(load_first<T>(to + i, count), in_register(share));
      });
    };
    for (Index oh = 0; oh < OH; ++oh) {
      const T* grad = dout + (plane * OH + oh) * OW;
      add(rows[oh].before, grad, T(1) - rows[oh].share);
      add(rows[oh].after, grad, rows[oh].share);
    }
    for (const Index h : wide.held)
      if (h >= 0) finish(h);
  });
}

}  // namespace cnnlib::CNNLIB_ISA
