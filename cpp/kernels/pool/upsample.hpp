// Planes enlarged by whole factors: each pixel repeated, or interpolated between its neighbours. Both go by
// rows: a row of x is widened once, and rows of the result are copies or blends of widened rows.
#pragma once

#include "kernels/pool/avg_pool.hpp"

namespace cnnlib::CNNLIB_ISA {

// The grid of planes (H * scale_h, W * scale_w) by bands of `rows` rows.
inline PlaneGrid enlarged_grid(const UpsampleShape& s, Index rows, double operations) {
  const Index values = s.H * s.scale_h * s.W * s.scale_w;
  return PlaneGrid(s.planes, rows, 1, values, operations * double(s.planes) * double(values));
}

// The enlarged planes as the images of a pool whose windows are the repeated pixels.
inline PoolShape repeated_pixels(const UpsampleShape& s) {
  PoolShape pool = even_pool(s.planes, s.H, s.W, s.scale_h, s.scale_w);
  pool.sums = true;
  return pool;
}

// out[oh, ow] = x[oh / scale_h, ow / scale_w]
template <class T>
void upsample_nearest_forward(const T* x, T* out, const UpsampleShape& s) {
  const PoolShape pool = repeated_pixels(s);
  enlarged_grid(s, s.H, 1).each([=](const PlaneTask& task, int) {
    for (Index plane = task.first_plane; plane < task.last_plane; ++plane)
      for (Index h = plane * s.H + task.first_row; h < plane * s.H + task.last_row; ++h) {
        T* to = out + h * s.scale_h * pool.W;
        Index w = 0;
        for (; s.scale_w == 2 && w + Simd<T>::size <= s.W; w += Simd<T>::size)
          Simd<T>::store_pairs(to + 2 * w, Simd<T>::load(x + h * s.W + w), Simd<T>::load(x + h * s.W + w));
        for (; w < s.W; ++w) std::fill_n(to + w * s.scale_w, s.scale_w, x[h * s.W + w]);
        for (Index copy = 1; copy < s.scale_h; ++copy) std::copy_n(to, pool.W, to + copy * pool.W);
      }
  });
}

// dx[h, w] = sum of dout over the pixels that repeat it.
template <class T>
void upsample_nearest_backward(const T* dout, T* dx, const UpsampleShape& s) {
  avg_pool_forward(dout, dx, repeated_pixels(s));
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

// The tables of both axes.
template <class T>
struct BetweenTables {
  ScratchArray<Between<T>> memory;
  Between<T>*rows = memory.data(), *columns;

  explicit BetweenTables(const UpsampleShape& s)
      : memory(s.H * s.scale_h + s.W * s.scale_w), columns(rows + s.H * s.scale_h) {
    fill_between(rows, s.H, s.scale_h, s.align_corners);
    fill_between(columns, s.W, s.scale_w, s.align_corners);
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

// body(plane, first row, last row, scratch for two wide rows) for bands of `rows` rows of all planes.
template <class T, class Body>
void each_band_of_wide_rows(const UpsampleShape& s, Index rows, const Body& body) {
  const PlaneGrid grid = enlarged_grid(s, rows, 2);
  const ScratchArray<T, ThreadReserved> lines(grid.threads, 2 * s.W * s.scale_w);
  grid.each([&](const PlaneTask& task, int slot) {
    for (Index plane = task.first_plane; plane < task.last_plane; ++plane)
      body(plane, task.first_row, task.last_row, lines[slot]);
  });
}

template <class T>
void upsample_bilinear_forward(const T* x, T* out, const UpsampleShape& s) {
  using S = Simd<T>;
  const BetweenTables<T> tables(s);
  const Between<T>*rows = tables.rows, *columns = tables.columns;
  const Index OH = s.H * s.scale_h, OW = s.W * s.scale_w;
  each_band_of_wide_rows<T>(s, OH, [=](Index plane, Index first, Index last, T* scratch) {
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
    for (Index oh = first; oh < last; ++oh) {
      const T *upper = widened(rows[oh].before), *lower = widened(rows[oh].after);
      const auto share = S::fill(rows[oh].share), rest = S::fill(T(1) - rows[oh].share);
      write_vectors(out + (plane * OH + oh) * OW, OW, false, [=](Index i, Index count) {
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
  each_band_of_wide_rows<T>(s, s.H, [=](Index plane, Index first, Index last, T* scratch) {
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
      if (h < first || h >= last) return;
      T* to = wide.at(h);
      Index& held = wide.held[h % 2];
      const bool fresh = held != h;
      if (fresh && held >= 0) finish(held);
      held = h;
      const auto by = S::fill(factor);
      write_vectors(to, OW, false, [=](Index i, Index count) {
        const auto share = S::mul(load_first(grad + i, count), by);
        return fresh ? share : S::add(load_first<T>(to + i, count), in_register(share));
      });
    };
    const auto* row =
        std::lower_bound(rows, rows + OH, first, [](const auto& r, Index h) { return r.after < h; });
    for (Index oh = row - rows; oh < OH && rows[oh].before < last; ++oh) {
      const T* grad = dout + (plane * OH + oh) * OW;
      add(rows[oh].before, grad, T(1) - rows[oh].share);
      add(rows[oh].after, grad, rows[oh].share);
    }
    for (const Index h : wide.held)
      if (h >= 0) finish(h);
  });
}

template <class T>
void upsample_forward(const T* x, T* out, const UpsampleShape& s) {
  if (s.planes > 0) (s.bilinear ? upsample_bilinear_forward<T> : upsample_nearest_forward<T>)(x, out, s);
}
template <class T>
void upsample_backward(const T* dout, T* dx, const UpsampleShape& s) {
  if (s.planes > 0) (s.bilinear ? upsample_bilinear_backward<T> : upsample_nearest_backward<T>)(dout, dx, s);
}

}  // namespace cnnlib::CNNLIB_ISA
