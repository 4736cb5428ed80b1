// A 1x1 kernel at a stride as a convolution at stride 1 of the points that it reads, some images at a time.
#pragma once

#include "kernels/conv/method.hpp"
#include "kernels/conv/rates.hpp"
#include "kernels/conv/staging.hpp"
#include "kernels/simd/loops.hpp"
#include "threads/parallel.hpp"

namespace cnnlib::CNNLIB_ISA {

inline bool strided_points(const ConvShape& s) {
  return s.N > 0 && s.KH == 1 && s.KW == 1 && s.stride_h * s.stride_w > 1;
}

// The convolution of the gathered positions.
inline ConvShape gathered(ConvShape s) {
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
ConvPlan plan_conv(const ConvShape&, Pass);
template <class T>
ConvPlan describe_conv(ConvPlan);
template <class T>
void pack_conv(const ConvPlan&, const T* w, T* packed);
template <class T>
void run_conv(const ConvPlan&, const ConvOperands<T>&);
template <class T>
ConvCost choose_method(const ConvShape&, Pass);

template <class T>
Index points_of_image(const ConvShape& s) {
  return s.C * s.OH * s.OW;
}
// So many that their points stay in the third-level cache.
template <class T>
Index images_at_once(const ConvShape& s) {
  constexpr Index bytes = 16 << 20;
  return std::clamp<Index>(bytes / (points_of_image<T>(s) * Index(sizeof(T))), 1, s.N);
}

template <class T, Pass pass>
double cost_gathered(const ConvShape& s) {
  const bool dx = pass == Pass::input_gradient;
  const Index rows = dx ? s.H : s.OH, columns = dx ? s.W : s.OW;
  return choose_method<T>(gathered(s), pass).cycles * Rates::fmas_per_cycle +
         double(s.C) * (Rates::points * double(ceil_div(rows * columns, Simd<T>::size)) +
                        Rates::point_row * double(rows));
}

// The convolution of the points.
template <class T>
ConvPlan plan_gathered(const ConvPlan& plan, const ConvShape& s) {
  ConvPlan inner = plan_conv<T>(gathered(s), plan.pass);
  inner.prepacked = plan.prepacked;
  return inner;
}

template <class T>
void describe_gathered(ConvPlan& plan) {
  const ConvShape& s = plan.shape;
  ConvShape some = s;  // at a time
  some.N = images_at_once<T>(s);
  const ConvPlan inner = describe_conv<T>(plan_gathered<T>(plan, some));
  plan.packed_bytes = inner.packed_bytes;
  plan.threads = threads_for(2.0 / 16 * double(s.N * s.F) * double(points_of_image<T>(s) / s.groups));
  plan.scratch_bytes = some.N * points_of_image<T>(s) * sizeof(T) + inner.scratch_bytes;
  name_blocks(plan, {{"images", some.N}});
}

// body(first image, shape of some images, room for their points)
template <class T, class Body>
void each_gathered(const ConvShape& s, const Body& body) {
  const Index images = images_at_once<T>(s);
  const ScratchArray<T> memory(checked_product(images, points_of_image<T>(s)));
  for (Index n = 0; n < s.N; n += images) {
    ConvShape part = s;
    part.N = std::min(images, s.N - n);
    body(n, part, memory.data());
  }
}

template <class T>
void pack_gathered(const ConvPlan& plan, const T* w, T* packed) {
  pack_conv(plan_gathered<T>(plan, plan.shape), w, packed);
}

template <class T>
void run_gathered(const ConvPlan& plan, const ConvOperands<T>& o) {
  each_gathered<T>(plan.shape, [&](Index n, const ConvShape& s, T* points) {
    gather_points(o.in + n * s.C * s.H * s.W, s, points);
    ConvOperands<T> inner = o;
    inner.in = points;
    inner.out = o.out + n * s.F * s.OH * s.OW;
    run_conv(plan_gathered<T>(plan, s), inner);
  });
}

template <class T>
void run_gathered_input_gradient(const ConvPlan& plan, const ConvOperands<T>& o) {
  each_gathered<T>(plan.shape, [&](Index n, const ConvShape& s, T* points) {
    ConvOperands<T> inner = o;
    inner.in = o.in + n * s.F * s.OH * s.OW;
    inner.out = points;
    run_conv(plan_gathered<T>(plan, s), inner);
    spread_points(points, o.epilogue.bias, s, o.out + n * s.C * s.H * s.W);
  });
}

}  // namespace cnnlib::CNNLIB_ISA
