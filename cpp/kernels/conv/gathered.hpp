// A 1x1 kernel at a stride as a convolution at stride 1 of the points that it reads, some images at a time.
#pragma once

#include "kernels/conv/plan.hpp"
#include "kernels/conv/staging.hpp"
#include "kernels/simd/loops.hpp"
#include "threads/parallel.hpp"

namespace cnnlib::CNNLIB_ISA {

// The convolution of the points. Throws std::bad_alloc where no memory holds an image's points: the costs
// count them.
inline ConvShape shape_of_points(ConvShape s) {
  checked_product(s.C, checked_product(s.OH * s.OW, sizeof(double)));
  s.H = s.OH;
  s.W = s.OW;
  s.stride_h = s.stride_w = 1;
  s.pad_top = s.pad_left = 0;
  return s;
}

// points[n, c, i, j] = x[n, c](the position that output i, j reads), zero outside.
template <class T>
void gather_points(const T* x, const ConvShape& s, T* points) {
  const Inside inside(-s.pad_left, s.stride_w, s.W, s.OW);
  const T* end = x + s.N * s.C * s.H * s.W;
  parallel_for(s.N * s.C, threads_for(3.0 * s.N * s.C * s.OH * s.OW), [&](Index plane, int) {
    T* to = points + plane * s.OH * s.OW;
    for (Index i = 0; i < s.OH; ++i, to += s.OW) {
      const Index line = i * s.stride_h - s.pad_top;
      if (line < 0 || line >= s.H) {
        std::fill_n(to, s.OW, T(0));
        continue;
      }
      const T* row = x + (plane * s.H + line) * s.W;
      std::fill_n(to, inside.first, T(0));
      copy_strided(row - s.pad_left + inside.first * s.stride_w, inside.last - inside.first, s.stride_w, end,
                   to + inside.first);
      std::fill_n(to + inside.last, s.OW - inside.last, T(0));
    }
  });
}

// The opposite: the positions that no output reads get the bias (C,), or zero where it is null.
template <class T>
void spread_points(const T* points, const T* bias, const ConvShape& s, T* x) {
  using S = Simd<T>;
  const Inside inside(-s.pad_left, s.stride_w, s.W, s.OW);
  parallel_for(s.N * s.C, threads_for(3.0 * s.N * s.C * s.H * s.W), [&](Index plane, int) {
    const T background = bias != nullptr ? bias[plane % s.C] : T(0);
    const auto empty = S::fill(background);
    T *to = x + plane * s.H * s.W, *end = to + s.H * s.W;
    for (Index i = 0; i < s.H; ++i, to += s.W) {
      const Index out_row = (i + s.pad_top) / s.stride_h;
      if ((i + s.pad_top) % s.stride_h != 0 || out_row >= s.OH || inside.first >= inside.last) {
        fill_vectors(to, s.W, background);
        continue;
      }
      const T* from = points + (plane * s.OH + out_row) * s.OW;
      T* at = to - s.pad_left;
      Index j = inside.first;
      std::fill(to, at + j * s.stride_w, background);
      if (s.stride_w == 2)  // the last vector may run into the next row, which is written later
        for (; j + S::size <= inside.last && at + 2 * (j + S::size) <= end; j += S::size)
          S::store_pairs(at + 2 * j, S::load(from + j), empty);
      for (; j < inside.last; ++j) {
        at[j * s.stride_w] = from[j];
        std::fill(at + j * s.stride_w + 1, std::min(at + (j + 1) * s.stride_w, to + s.W), background);
      }
      if (at + j * s.stride_w < to + s.W) std::fill(at + j * s.stride_w, to + s.W, background);
    }
  });
}

template <class T>
double cost_gathered(const ConvShape& s, Pass pass) {
  const bool dx = pass == Pass::input_gradient;
  const Index rows = dx ? s.H : s.OH, columns = dx ? s.W : s.OW;
  return choose_method<T>(shape_of_points(s), pass).cycles * Rates::fmas_per_cycle +
         double(s.C) * (Rates::points * double(ceil_div(rows * columns, Simd<T>::size)) +
                        Rates::point_row * double(rows));
}

template <class T>
class Gathered {
 public:
  explicit Gathered(const ConvPlan& whole) : plan(whole), s(whole.shape) {}

  void describe(ConvPlan& to) const {
    const ConvPlan inner = describe_conv<T>(plan_of_points(images));
    to.packed_bytes = inner.packed_bytes;
    to.scratch_bytes = images * size * sizeof(T) + inner.scratch_bytes;
    fill_in(to, {inner.tile_rows, inner.tile_columns}, inner.threads, {{"images", images}});
  }

  void pack(const T* w, T* packed) const { pack_conv(plan_of_points(s.N), w, packed); }

  void run(const ConvOperands<T>& o) const {
    const bool dx = plan.pass == Pass::input_gradient;
    const Index in_size = s.C * s.H * s.W, out_size = s.F * s.OH * s.OW;
    const ScratchArray<T> memory(checked_product(images, size));
    T* points = memory.data();
    for (Index n = 0; n < s.N; n += images) {
      ConvShape some = s;
      some.N = std::min(images, s.N - n);
      ConvOperands<T> inner = o;
      inner.in = dx ? o.in + n * out_size : points;
      inner.out = dx ? points : o.out + n * out_size;
      if (!dx) gather_points(o.in + n * in_size, some, points);
      run_conv(plan_of_points(some.N), inner);
      if (dx) spread_points(points, o.epilogue.bias, some, o.out + n * in_size);
    }
  }

 private:
  ConvPlan plan_of_points(Index N) const {
    ConvShape points = shape_of_points(s);
    points.N = N;
    return plan_inner<T>(plan, points);
  }

  static constexpr Index most_bytes = 16 << 20;  // of points, which stay in the third-level cache
  const ConvPlan& plan;
  const ConvShape& s;
  Index bytes = checked_product(s.C, checked_product(s.OH* s.OW, sizeof(T)));  // of an image's points
  Index size = bytes / Index(sizeof(T)), images = std::clamp<Index>(most_bytes / bytes, 1, s.N);  // at a time
};

template <class T>
CorrelationSteps<T> gathered() {
  return {[](ConvPlan& plan) { Gathered<T>(plan).describe(plan); },
          [](const ConvPlan& plan, const T* w, T* packed) { Gathered<T>(plan).pack(w, packed); },
          [](const ConvPlan& plan, const ConvOperands<T>& o) { Gathered<T>(plan).run(o); }};
}

}  // namespace cnnlib::CNNLIB_ISA
