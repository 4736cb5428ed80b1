// What the norms share: y = (x - mean) / sqrt(var + eps) * gamma + beta.
//
// Statistics are double, from one pass over x: in short runs deviations from the run's first values and
// their squares are added up in T, and the runs' sums in double, which is as exact as the textbook's two
// passes. Means are split into a T and the rest, so that x - mean stays exact where x is large.
#pragma once

#include <cmath>

#include "kernels/scratch_layout.hpp"
#include "kernels/simd/loops.hpp"
#include "kernels/simd/sums.hpp"
#include "threads/parallel.hpp"

namespace cnnlib::CNNLIB_ISA {

// Values of a task: many times what starting it costs.
constexpr Index sum_grain = 8192, write_grain = 16384;

// 1 / sqrt(var + eps), or 0 of a single value: as its own mean it has no part in y, and dx is 0 rather than
// the rounding of dout - mean of dout times 1 / sqrt(eps).
inline double inverse_deviation(Index count, double var, double eps) {
  return (count > 1 ? 1.0 : 0.0) / std::sqrt(var + eps);
}

struct TwoSums {
  double a = 0, b = 0;

  void add(const TwoSums& more) {
    a += more.a;
    b += more.b;
  }
};

// run(position, planes, size) for parts of at most short_run values of `planes` planes of `size` values that
// lie `stride` apart.
template <class Run>
void each_run(Index planes, Index size, Index stride, const Run& run) {
  const Index run_planes = planes == 1 || size >= short_run ? 1 : short_run / std::max<Index>(1, size);
  for (Index n = 0; n < planes; n += run_planes)
    for (Index i = 0; i < size; i += short_run)
      run(n * stride + i, std::min(run_planes, planes - n), std::min(short_run, size - i));
}

// Two sums over a run: body(position, lanes, a, b) adds a vector's share to the packets a and b.
template <class T, class Body>
[[gnu::always_inline]] inline TwoSums run_sums(Index planes, Index size, Index stride, const Body& body) {
  using S = Simd<T>;
  constexpr int chains = 4;  // of additions, which hide their latency
  Packet<T> a[chains], b[chains];
  for (int k = 0; k < chains; ++k) a[k] = b[k] = S::zero();
  for (Index n = 0; n < planes; ++n) {
    Index i = n * stride;
    const Index last = i + size;
    for (; i + chains * S::size <= last; i += chains * S::size)
#pragma GCC unroll 4
      for (int k = 0; k < chains; ++k) body(i + k * S::size, S::size, a[k], b[k]);
    for (; i < last; i += S::size) body(i, std::min<Index>(S::size, last - i), a[0], b[0]);
  }
  return {double(S::sum(S::add(S::add(a[0], a[1]), S::add(a[2], a[3])))),
          double(S::sum(S::add(S::add(b[0], b[1]), S::add(b[2], b[3]))))};
}

// How many values there are, and the sums of d = x - origin and of d * d. What makes and adds up sums of
// parts is not inlined: which of its products become multiply-adds must not depend on who calls.
struct Deviations {
  double count = 0, origin = 0;
  TwoSums sums;

  void add(const Deviations& more) {
    if (count == 0)
      *this = more;
    else
      shift_and_add(more);
  }
  void moments_to(double* mean, double* var) const {  // the variance is the biased one
    const double shift = sums.a / count, square = sums.b / count - shift * shift;
    *mean = origin + shift;
    *var = square < 0 ? 0 : square;  // NaN stays NaN
  }

 private:
  [[gnu::noinline]] void shift_and_add(const Deviations& more) {
    const double shift = more.origin - origin;
    count += more.count;
    sums.a += more.sums.a + more.count * shift;
    sums.b += more.sums.b + shift * (2 * more.sums.a + more.count * shift);
  }
};

template <class T>
[[gnu::noinline]] Deviations deviations_of(const T* x, Index planes, Index size, Index stride) {
  using S = Simd<T>;
  Deviations total;
  each_run(planes, size, stride, [&](Index at, Index run_planes, Index run_size) {
    const T* p = x + at;
    const Index first = std::min<Index>(S::size, run_size);
    const T origin = S::sum(S::mul(load_first(p, first), S::fill(T(1) / T(first))));
    const auto middle = S::fill(origin);
    const auto sums = run_sums<T>(run_planes, run_size, stride, [&](Index i, Index count, auto& a, auto& b) {
      const auto d = S::sub(load_first(p + i, count, origin), middle);
      a = S::add(a, d);
      b = S::fma(d, d, b);
    });
    Deviations run;
    run.count = double(run_planes) * double(run_size);
    run.origin = double(origin);
    run.sums = sums;
    total.add(run);
  });
  return total;
}

// What the low part of a mean, mean - high, takes from a sum or a shift that is `by` times as large: nothing
// where that is not finite, since it must not make NaN of what is infinite.
template <class T>
double low_part(double mean, double by) {
  const double part = (mean - double(T(mean))) * by;
  return std::isfinite(part) ? part : 0;
}

// y = finish((x - high) * scale + shift), with the low part of the mean folded into shift.
template <class T>
struct Affine {
  T high, scale, shift;
  Affine(double mean, double scale_, double shift_)
      : high(T(mean)), scale(T(scale_)), shift(T(shift_ - low_part<T>(mean, scale_))) {}
  template <class Finish>
  void apply(const T* x, T* y, Index n, bool non_temporal, const Finish& finish) const {
    using S = Simd<T>;
    const auto h = S::fill(high), by = S::fill(scale), plus = S::fill(shift);
    write_vectors(y, n, non_temporal, [&](Index i, Index count) {
      return finish(S::fma(S::sub(load_first(x + i, count), h), by, plus));
    });
  }
};

// What batch norm makes of a channel.
template <class T>
Affine<T> forward_affine(const double* mean, const double* inv_std, const T* gamma, const T* beta, Index c) {
  return Affine<T>(mean[c], inv_std[c] * double(gamma[c]), double(beta[c]));
}

// through(dout, x - high, position, lanes): the gradient of x-hat * gamma + beta from that of the result,
// where that is the result itself.
struct Identity {
  template <class Packet>
  Packet operator()(Packet dout, Packet, Index, Index) const {
    return dout;
  }
};

// The same where the result is its ReLU. Its sign is computed anew: reading it would cost as much as reading
// x.
template <class T>
class ReluGradient {
  using S = Simd<T>;

 public:
  explicit ReluGradient(const Affine<T>& affine) : by(S::fill(affine.scale)), plus(S::fill(affine.shift)) {}
  Packet<T> operator()(Packet<T> dout, Packet<T> d, Index, Index) const {
    return S::select(S::less_equal(S::fma(d, by, plus), S::zero()), S::zero(), dout);
  }

 private:
  Packet<T> by, plus;
};

// dx = dout * by_dout + (x - high) * by_x + constant.
template <class T>
struct NormGradient {
  T high, by_dout, by_x = 0, constant = 0;

  // mean_dout and mean_dot (of dout * xhat) are both zero where the statistics did not depend on x.
  NormGradient(double mean, double inv_std, double gamma, double mean_dout, double mean_dot)
      : high(T(mean)), by_dout(T(gamma * inv_std)) {
    if (mean_dout == 0 && mean_dot == 0) return;  // and inv_std may be infinite
    const double slope = gamma * inv_std * inv_std * mean_dot;
    by_x = T(-slope);
    constant = T(low_part<T>(mean, slope) - gamma * inv_std * mean_dout);
  }

  template <class Through = Identity>
  void apply(const T* dout, const T* x, T* dx, Index n, bool non_temporal,
             const Through& through = Through()) const {
    using S = Simd<T>;
    const auto h = S::fill(high), bd = S::fill(by_dout), bx = S::fill(by_x), c = S::fill(constant);
    const auto from_mean = [&](Index i, Index count) { return S::sub(load_first(x + i, count), h); };
    if (by_x == 0)  // NaN in x has no part in dx
      return write_vectors(dx, n, non_temporal, [&](Index i, Index count) {
        return S::fma(through(load_first(dout + i, count), from_mean(i, count), i, count), bd, c);
      });
    write_vectors(dx, n, non_temporal, [&](Index i, Index count) {
      const auto d = from_mean(i, count);
      return S::fma(through(load_first(dout + i, count), d, i, count), bd, S::fma(d, bx, c));
    });
  }
};

// sum dout and sum dout * (x - mean), from the sums around the T nearest to the mean.
template <class T, class Through = Identity>
[[gnu::noinline]] TwoSums gradient_sums(const T* dout, const T* x, double mean, Index planes, Index size,
                                        Index stride, const Through& through = Through()) {
  using S = Simd<T>;
  const T high = T(mean);
  const auto middle = S::fill(high);
  TwoSums total;
  each_run(planes, size, stride, [&](Index at, Index run_planes, Index run_size) {
    const T *grad = dout + at, *from = x + at;
    const auto sums = run_sums<T>(run_planes, run_size, stride, [&](Index i, Index count, auto& a, auto& b) {
      const auto d = S::sub(load_first(from + i, count, high), middle);
      const auto g = through(load_first(grad + i, count), d, at + i, count);
      a = S::add(a, g);
      b = S::fma(g, d, b);
    });
    total.add(sums);
  });
  total.b -= low_part<T>(mean, total.a);
  return total;
}

}  // namespace cnnlib::CNNLIB_ISA
