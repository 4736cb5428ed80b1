// Softmax over the axis of C of x (N, C, inner): y[n, c, i] = exp(x[n, c, i] - max) / sum, and its gradient
// dx = y * (dout - sum over c of dout * y). NaN and plus infinity make all of their C values NaN.
#pragma once

#include "kernels/simd/backward_copy.hpp"
#include "kernels/simd/exponential.hpp"
#include "kernels/simd/sums.hpp"
#include "threads/parallel.hpp"

namespace cnnlib::CNNLIB_ISA {

constexpr double softmax_work = 10;          // of a value, next to reading and writing it
constexpr double softmax_gradient_work = 2;  // the same
constexpr Index softmax_task = 2048;         // values worth a task
constexpr Index softmax_run = 64;            // channels whose sum is kept in T before it joins the whole
constexpr Index softmax_columns = 4;         // vectors of pixels that are computed side by side

// C values in a row.
template <class T>
struct SoftmaxRow {
  using S = Simd<T>;

  template <class Body>
  [[gnu::always_inline]] static void vectors(Index begin, Index end, const Body& body) {
    Index c = begin;
    for (; c + S::size <= end; c += S::size) body(c, Index(S::size));
    if (c < end) body(c, end - c);
  }

  // Sum over c of term(c, count), vectors whose lanes beyond `count` are 0.
  template <class Term>
  [[gnu::always_inline]] static double sum(Index C, const Term& term) {
    double total = 0;
    for (Index begin = 0; begin < C; begin += short_run) {
      auto part = S::zero();
      vectors(begin, std::min(C, begin + short_run),
              [&](Index c, Index count) { part = S::add(part, term(c, count)); });
      total += double(S::sum(part));
    }
    return total;
  }

  // `copy` gets y too, or is null.
  static void forward(const T* x, T* y, T* copy, Index C) {
    auto highest = S::fill(x[0]);
    vectors(0, C, [&](Index c, Index count) { highest = S::max(highest, load_first(x + c, count, x[0])); });
    const auto most = S::fill(S::max_of_lanes(highest));
    const double total = sum(C, [&](Index c, Index count) {
      const auto e =
          exp_of_negative<T>(S::sub(load_first(x + c, count, -std::numeric_limits<T>::infinity()), most));
      store_first(y + c, count, e);
      return e;
    });
    const auto scale = S::fill(T(1 / total));
    vectors(0, C, [&](Index c, Index count) {
      const auto value = S::mul(load_first<T>(y + c, count), scale);
      store_first(y + c, count, value);
      if (copy != nullptr) store_first(copy + c, count, value);
    });
  }

  static void backward(const T* dout, const T* y, T* dx, Index C) {
    const auto mean = S::fill(T(sum(C, [&](Index c, Index count) {
      return S::mul(load_first(dout + c, count), load_first(y + c, count));
    })));
    vectors(0, C, [&](Index c, Index count) {
      const auto centered = S::sub(load_first(dout + c, count), mean);
      store_first(dx + c, count, S::mul(load_first(y + c, count), centered));
    });
  }
};

// Some pixels of an image, their C values `inner` apart: a lane for each pixel.
template <class T>
struct SoftmaxPixels {
  using S = Simd<T>;
  using Packet = typename S::Packet;
  static constexpr Index width = softmax_columns * S::size;  // pixels at most
  Index C, inner, count;

  // body(k, from, lanes): at `from`, the k-th vector of a channel, which has so many pixels.
  template <class Body>
  [[gnu::always_inline]] void vectors(Index begin, Index end, const Body& body) const {
    for (Index c = begin; c < end; ++c) {
      const Index row = c * inner;
      if (count == width) {
#pragma GCC unroll 8
        for (Index k = 0; k < softmax_columns; ++k) body(k, row + k * S::size, Index(S::size));
      } else {
        for (Index k = 0, i = 0; i < count; ++k, i += S::size)
          body(k, row + i, std::min<Index>(S::size, count - i));
      }
    }
  }

  template <class Term>
  [[gnu::always_inline]] void sum(Packet* total, const Term& term) const {
    for (Index k = 0; k < softmax_columns; ++k) total[k] = S::zero();
    for (Index begin = 0; begin < C; begin += softmax_run) {
      Packet part[softmax_columns];
      for (auto& p : part) p = S::zero();
      vectors(begin, std::min(C, begin + softmax_run),
              [&](Index k, Index from, Index lanes) { part[k] = S::add(part[k], term(k, from, lanes)); });
      for (Index k = 0; k < softmax_columns; ++k) total[k] = S::add(total[k], part[k]);
    }
  }

  // `copy` gets y too, or is null; past the caches where it is `far`, whose vectors are then aligned.
  void forward(const T* x, T* y, T* copy, bool far) const {
    Packet most[softmax_columns], total[softmax_columns];
    for (auto& m : most) m = S::fill(-std::numeric_limits<T>::infinity());
    vectors(0, C, [&](Index k, Index from, Index lanes) {
      most[k] = S::max(most[k], load_first(x + from, lanes));
    });
    sum(total, [&](Index k, Index from, Index lanes) {
      const auto e = exp_of_negative<T>(S::sub(load_first(x + from, lanes), most[k]));
      store_first(y + from, lanes, e);
      return e;
    });
    for (auto& t : total) t = S::div(S::fill(T(1)), t);
    vectors(0, C, [&](Index k, Index from, Index lanes) {
      const auto value = S::mul(load_first<T>(y + from, lanes), total[k]);
      store_first(y + from, lanes, value);
      if (copy != nullptr) store_copy(copy + from, lanes, value, far);
    });
  }

  void backward(const T* dout, const T* y, T* dx) const {
    Packet mean[softmax_columns];
    sum(mean, [&](Index, Index from, Index lanes) {
      return S::mul(load_first(dout + from, lanes), load_first(y + from, lanes));
    });
    vectors(0, C, [&](Index k, Index from, Index lanes) {
      const auto centered = S::sub(load_first(dout + from, lanes), mean[k]);
      store_first(dx + from, lanes, S::mul(load_first(y + from, lanes), centered));
    });
  }
};

// row(offset) for each row of C values; pixels(offset, SoftmaxPixels) for blocks of pixels. `value_work` is
// what a value takes.
template <class T, class Row, class Pixels>
void each_softmax(Index N, Index C, Index inner, double value_work, const Row& row, const Pixels& pixels) {
  if (inner == 1) {
    parallel_ranges(N, std::max<Index>(1, softmax_task / C), value_work * double(C),
                    [=](Index begin, Index end) {
                      for (Index n = begin; n < end; ++n) row(n * C);
                    });
    return;
  }
  constexpr Index width = SoftmaxPixels<T>::width;
  const Index blocks = ceil_div(inner, width);
  const double work = value_work * double(C) * double(std::min(inner, width));
  parallel_ranges(
      N * blocks, std::max<Index>(1, softmax_task / (C * width)), work, [=](Index begin, Index end) {
        for (Index b = begin; b < end; ++b) {
          const Index first = b % blocks * width;
          pixels(b / blocks * C * inner + first, SoftmaxPixels<T>{C, inner, std::min(width, inner - first)});
        }
        store_fence();
      });
}

// `copy` gets the result too, or is null.
template <class T>
void softmax_forward(const T* x, T* out, T* copy, Index N, Index C, Index inner) {
  const auto copy_at = [=](Index at) { return copy == nullptr ? nullptr : copy + at; };
  const bool aligned = copy_past_caches(copy, N * C * inner) && inner % Simd<T>::size == 0;
  each_softmax<T>(
      N, C, inner, softmax_work, [=](Index at) { SoftmaxRow<T>::forward(x + at, out + at, copy_at(at), C); },
      [=](Index at, const SoftmaxPixels<T>& block) {
        block.forward(x + at, out + at, copy_at(at), aligned);
      });
}

template <class T>
void softmax_backward(const T* dout, const T* y, T* dx, Index N, Index C, Index inner) {
  each_softmax<T>(
      N, C, inner, softmax_gradient_work,
      [=](Index at) { SoftmaxRow<T>::backward(dout + at, y + at, dx + at, C); },
      [=](Index at, const SoftmaxPixels<T>& block) { block.backward(dout + at, y + at, dx + at); });
}

}  // namespace cnnlib::CNNLIB_ISA
