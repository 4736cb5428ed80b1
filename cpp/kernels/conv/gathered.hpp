// A 1x1 kernel at a stride as a convolution at stride 1 of the points that it reads, some images at a time.
#pragma once

#include "kernels/conv/method.hpp"
#include "kernels/conv/strided_1x1.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
ConvPlan plan_conv(const ConvShape&, Pass);
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

template <class T>
void describe_gathered(ConvPlan& plan) {
  const ConvShape& s = plan.shape;
  plan.threads = threads_for(2.0 / 16 * double(s.N * s.F) * double(points_of_image<T>(s) / s.groups));
  plan.scratch_bytes = images_at_once<T>(s) * points_of_image<T>(s) * sizeof(T);
  name_blocks(plan, {{"images", images_at_once<T>(s)}});
}

// body(first image, shape of some images, room for their points)
template <class T, class Body>
void each_gathered(const ConvShape& s, const Body& body) {
  const Index images = images_at_once<T>(s);
  Layout layout;
  const auto piece = layout.array<T>(checked_product(images, points_of_image<T>(s)));
  const Scratch scratch(layout.bytes());
  for (Index n = 0; n < s.N; n += images) {
    ConvShape part = s;
    part.N = std::min(images, s.N - n);
    body(n, part, piece.in(scratch.data()));
  }
}

template <class T>
void run_gathered(const ConvPlan& plan, const ConvOperands<T>& o) {
  each_gathered<T>(plan.shape, [&](Index n, const ConvShape& s, T* points) {
    gather_points(o.in + n * s.C * s.H * s.W, s, points);
    ConvOperands<T> inner = o;
    inner.in = points;
    inner.out = o.out + n * s.F * s.OH * s.OW;
    run_conv(plan_conv<T>(gathered(s), plan.pass), inner);
  });
}

template <class T>
void run_gathered_input_gradient(const ConvPlan& plan, const ConvOperands<T>& o) {
  each_gathered<T>(plan.shape, [&](Index n, const ConvShape& s, T* points) {
    ConvOperands<T> inner = o;
    inner.in = o.in + n * s.F * s.OH * s.OW;
    inner.out = points;
    run_conv(plan_conv<T>(gathered(s), plan.pass), inner);
    spread_points(points, o.epilogue.bias, s, o.out + n * s.C * s.H * s.W);
  });
}

}  // namespace cnnlib::CNNLIB_ISA
