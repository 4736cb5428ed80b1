// Softmax over the axis of C of x (N, C, inner): y[n, c, i] = exp(x[n, c, i] - max) / sum, and its gradient
// dx = y * (dout - sum over c of dout * y). NaN and plus infinity make all of their C values NaN.
#pragma once

#include "kernels/simd/exponential.hpp"
#include "kernels/simd/loops.hpp"
#include "kernels/simd/sums.hpp"
#include "parallel.hpp"

namespace cnnlib::CNNLIB_ISA {

constexpr double softmax_work = 10;   // of a value, next to reading and writing it
constexpr Index softmax_task = 2048;  // values worth a task
constexpr Index softmax_run = 64;     // channels whose sum is kept in T before it joins the whole
constexpr Index softmax_columns = 4;  // vectors of pixels that are computed side by side

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

  static void forward(const T* x, T* y, Index C) {
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
      store_first(y + c, count, S::mul(load_first<T>(y + c, count), scale));
    });
  }

  static void backward(const T* dout, const T* x, T* dx, Index C) {
    forward(x, dx, C);
    const auto mean = S::fill(T(sum(C, [&](Index c, Index count) {
      return S::mul(load_first(dout + c, count), load_first<T>(dx + c, count));
    })));
    vectors(0, C, [&](Index c, Index count) {
      const auto y = load_first<T>(dx + c, count);
      store_first(dx + c, count, S::mul(y, S::sub(load_first(dout + c, count), mean)));
    });
  }
};

// Some pixels of an image, their C values `inner` apart: a lane for each pixel.
template <class T>
struct SoftmaxPixels {
  using S = Simd<T>;
  using Packet = typename S::Packet;
  Index C, inner, count;  // pixels, of which softmax_columns vectors have room

  // body(c, k, from, lanes): at `from`, the k-th vector of channel c, which has so many pixels.
  template <class Body>
  [[gnu::always_inline]] void vectors(Index begin, Index end, const Body& body) const {
    for (Index c = begin; c < end; ++c) {
      const Index row = c * inner;
      for (Index k = 0, i = 0; i < count; ++k, i += S::size)
        body(k, row + i, std::min<Index>(S::size, count - i));
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

  void forward(const T* x, T* y) const {
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
      store_first(y + from, lanes, S::mul(load_first<T>(y + from, lanes), total[k]));
    });
  }

  void backward(const T* dout, const T* x, T* dx) const {
    forward(x, dx);
    Packet mean[softmax_columns];
    sum(mean, [&](Index, Index from, Index lanes) {
      return S::mul(load_first(dout + from, lanes), load_first<T>(dx + from, lanes));
    });
    vectors(0, C, [&](Index k, Index from, Index lanes) {
      const auto y = load_first<T>(dx + from, lanes);
      store_first(dx + from, lanes, S::mul(y, S::sub(load_first(dout + from, lanes), mean[k])));
    });
  }
};

// row(offset) for each row of C values; pixels(offset, SoftmaxPixels) for blocks of pixels.
template <class T, class Row, class Pixels>
void each_softmax(Index N, Index C, Index inner, const Row& row, const Pixels& pixels) {
  if (inner == 1) {
    parallel_ranges(N, std::max<Index>(1, softmax_task / C), softmax_work * double(C),
                    [=](Index begin, Index end) {
                      for (Index n = begin; n < end; ++n) row(n * C);
                    });
    return;
  }
  const Index width = softmax_columns * Simd<T>::size, blocks = ceil_div(inner, width);
  const double work = softmax_work * double(C) * double(std::min(inner, width));
  parallel_ranges(
      N * blocks, std::max<Index>(1, softmax_task / (C * width)), work, [=](Index begin, Index end) {
        for (Index b = begin; b < end; ++b) {
          const Index first = b % blocks * width;
          pixels(b / blocks * C * inner + first, SoftmaxPixels<T>{C, inner, std::min(width, inner - first)});
        }
      });
}

template <class T>
void softmax_forward(const T* x, T* out, Index N, Index C, Index inner) {
  each_softmax<T>(
      N, C, inner, [=](Index at) { SoftmaxRow<T>::forward(x + at, out + at, C); },
      [=](Index at, const SoftmaxPixels<T>& block) { block.forward(x + at, out + at); });
}

template <class T>
void softmax_backward(const T* dout, const T* x, T* dx, Index N, Index C, Index inner) {
  each_softmax<T>(
      N, C, inner, [=](Index at) { SoftmaxRow<T>::backward(dout + at, x + at, dx + at, C); },
      [=](Index at, const SoftmaxPixels<T>& block) { block.backward(dout + at, x + at, dx + at); });
}

}  // namespace cnnlib::CNNLIB_ISA
