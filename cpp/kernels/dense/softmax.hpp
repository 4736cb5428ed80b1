// Softmax over the axis of C of x (N, C, inner): y[n, c, i] = exp(x[n, c, i] - max) / sum, and its gradient
// dx = y * (dout - sum over c of dout * y). NaN and plus infinity make all of their C values NaN.
#pragma once

#include "kernels/dense/softmax_rows.hpp"
#include "kernels/simd/loops.hpp"
#include "threads/parallel.hpp"

namespace cnnlib::CNNLIB_ISA {

constexpr double softmax_work = 10;          // of a value, next to reading and writing it
constexpr double softmax_gradient_work = 2;  // the same
constexpr Index softmax_task = 2048;         // values worth a task
constexpr Index softmax_run = 64;            // channels whose sum is kept in T before it joins the whole
constexpr Index softmax_columns = 4;         // vectors of pixels that are computed side by side

// Some pixels of an image, their C values `inner` apart: a lane for each pixel.
template <class T>
struct SoftmaxPixels {
  using S = Simd<T>;
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
  [[gnu::always_inline]] void sum(Packet<T>* total, const Term& term) const {
    for (Index k = 0; k < softmax_columns; ++k) total[k] = S::zero();
    for (Index begin = 0; begin < C; begin += softmax_run) {
      Packet<T> part[softmax_columns];
      for (auto& p : part) p = S::zero();
      vectors(begin, std::min(C, begin + softmax_run),
              [&](Index k, Index from, Index lanes) { part[k] = S::add(part[k], term(k, from, lanes)); });
      for (Index k = 0; k < softmax_columns; ++k) total[k] = S::add(total[k], part[k]);
    }
  }

  // e = exp(x - most), with its largest value and its sum for each pixel.
  void exponentials(const T* x, T* e, Packet<T>* most, Packet<T>* total) const {
    for (Index k = 0; k < softmax_columns; ++k) most[k] = S::fill(-std::numeric_limits<T>::infinity());
    vectors(0, C, [&](Index k, Index from, Index lanes) {
      most[k] = S::max(most[k], load_first(x + from, lanes));
    });
    sum(total, [&](Index k, Index from, Index lanes) {
      const auto v = exp_of_negative<T>(S::sub(load_first(x + from, lanes), most[k]));
      store_first(e + from, lanes, v);
      return v;
    });
  }

  // `copy` gets y too, or is null; past the caches where it is `far`, whose vectors are then aligned.
  void forward(const T* x, T* y, T* copy, bool far) const {
    Packet<T> most[softmax_columns], total[softmax_columns];
    exponentials(x, y, most, total);
    for (auto& t : total) t = S::div(S::fill(T(1)), t);
    vectors(0, C, [&](Index k, Index from, Index lanes) {
      const auto value = S::mul(load_first<T>(y + from, lanes), total[k]);
      store_first(y + from, lanes, value);
      if (copy != nullptr) store_copy(copy + from, lanes, value, far);
    });
  }

  // The gradient reads a longer run of pixels along each channel in turn, as prefetchers like it, and once
  // more from the second level.
  static constexpr Index most_run = 512;
  static constexpr Index channels = 4;  // at a time: lines of both operands for the 8 ways of a set

  // Pixels of such a run: what is read of it takes up to half of the second level.
  static Index run_width(Index C) {
    const Index fitting = l2_for_blocks() / 2 / (2 * Index(sizeof(T)) * C);
    return std::clamp<Index>(fitting / S::size * S::size, width, most_run);
  }

  // sum[i], or 0 if nothing is `added` yet, + sum over n channels of dout * y
  template <int n>
  void add_products(const T* dout, const T* y, T* sum, bool added) const {
    each_vector<T>(0, count, [=](Index i, Index lanes) {
      auto part = added ? S::load(sum + i) : S::zero();
#pragma GCC unroll 4
      for (Index c = 0; c < n; ++c)
        part = S::fma(load_first(dout + c * inner + i, lanes), load_first(y + c * inner + i, lanes), part);
      S::store(sum + i, part);
    });
  }

  // sum = sum over channels [begin, end) of dout * y
  void find_sum(const T* dout, const T* y, T* sum, Index begin, Index end) const {
    Index c = begin;
    for (; c + channels <= end; c += channels)
      add_products<channels>(dout + c * inner, y + c * inner, sum, c > begin);
    for (; c < end; ++c) add_products<1>(dout + c * inner, y + c * inner, sum, c > begin);
  }

  void find_mean(const T* dout, const T* y, T* mean) const {
    T part[most_run];
    find_sum(dout, y, mean, 0, std::min(C, softmax_run));
    for (Index begin = softmax_run; begin < C; begin += softmax_run) {
      find_sum(dout, y, part, begin, std::min(C, begin + softmax_run));
      add_to(mean, part, count);
    }
  }

  void backward(const T* dout, const T* y, T* dx) const {
    T mean[most_run];
    find_mean(dout, y, mean);
    for (Index c = 0; c < C; ++c, dout += inner, y += inner, dx += inner)
      each_vector<T>(0, count, [&](Index i, Index lanes) {
        const auto centered = S::sub(load_first(dout + i, lanes), S::load(mean + i));
        store_first(dx + i, lanes, S::mul(load_first(y + i, lanes), centered));
      });
  }
};

// body(rows, offset, count) for ranges of N rows of C values, with what computes such rows: forward(x, y,
// copy, count), backward(dout, y, dx, count). `value_work` is what a value takes.
template <class T, class Body>
void each_softmax_range(Index N, Index C, double value_work, const Body& body) {
  const auto run = [=](auto rows) {
    parallel_ranges(N, std::max<Index>(1, softmax_task / C), value_work * double(C),
                    [=](Index begin, Index end) { body(rows, begin * C, end - begin); });
  };
  switch (ceil_div(C, Simd<T>::size)) {
    case 1: return run(ShortSoftmaxRows<T, 1>{C});
    case 2: return run(ShortSoftmaxRows<T, 2>{C});
    case 3: return run(ShortSoftmaxRows<T, 3>{C});
    case 4: return run(ShortSoftmaxRows<T, 4>{C});
    default: return run(SoftmaxRows<T>{C});
  }
}

// body(offset, count, run) for runs of up to `width` of the `inner` pixels of N images.
template <class Body>
void each_softmax_run(Index N, Index C, Index inner, Index width, double value_work, const Body& body) {
  const Index runs = ceil_div(inner, width), values = C * std::min(inner, width);
  parallel_ranges(N * runs, std::max<Index>(1, softmax_task / values), value_work * double(values),
                  [=](Index begin, Index end) {
                    for (Index r = begin; r < end; ++r) {
                      const Index first = r % runs * width;
                      body(r / runs * C * inner + first, std::min(width, inner - first), r);
                    }
                    store_fence();
                  });
}

// `copy` gets the result too, or is null.
template <class T>
void softmax_forward(const T* x, T* out, T* copy, Index N, Index C, Index inner) {
  const auto copy_at = [=](Index at) { return copy == nullptr ? nullptr : copy + at; };
  if (inner == 1)
    return each_softmax_range<T>(N, C, softmax_work, [=](const auto& rows, Index at, Index count) {
      rows.forward(x + at, out + at, copy_at(at), count);
    });
  const bool aligned = copy_past_caches(copy, N * C * inner) && inner % Simd<T>::size == 0;
  each_softmax_run(N, C, inner, SoftmaxPixels<T>::width, softmax_work, [=](Index at, Index count, Index) {
    SoftmaxPixels<T>{C, inner, count}.forward(x + at, out + at, copy_at(at), aligned);
  });
}

template <class T>
void softmax_backward(const T* dout, const T* y, T* dx, Index N, Index C, Index inner) {
  if (inner == 1)
    return each_softmax_range<T>(N, C, softmax_gradient_work, [=](const auto& rows, Index at, Index count) {
      rows.backward(dout + at, y + at, dx + at, count);
    });
  const Index width = SoftmaxPixels<T>::run_width(C);
  each_softmax_run(N, C, inner, width, softmax_gradient_work, [=](Index at, Index count, Index) {
    SoftmaxPixels<T>{C, inner, count}.backward(dout + at, y + at, dx + at);
  });
}

}  // namespace cnnlib::CNNLIB_ISA
