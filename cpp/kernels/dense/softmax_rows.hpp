// Softmax of rows of C values and its gradient, as softmax.hpp defines them.
#pragma once

#include "kernels/simd/exponential.hpp"
#include "kernels/simd/loops.hpp"
#include "kernels/simd/sums.hpp"

namespace cnnlib::CNNLIB_ISA {

// C values in a row.
template <class T>
struct SoftmaxRow {
  using S = Simd<T>;
  using Packet = typename S::Packet;

  template <class Body>
  [[gnu::always_inline]] static void vectors(Index begin, Index end, const Body& body) {
    Index c = begin;
    for (; c + S::size <= end; c += S::size) body(c, Index(S::size));
    if (c < end) body(c, end - c);
  }

  // The parts take a vector each in turn, which hides the latency of joining one to them.
  template <int parts, class Join>
  [[gnu::always_inline]] static void gather(Index begin, Index end, Packet (&part)[parts], const Join& join) {
    Index c = begin;
    for (; c + parts * S::size <= end; c += parts * S::size)
#pragma GCC unroll 4
      for (int k = 0; k < parts; ++k) part[k] = join(part[k], c + k * S::size, Index(S::size));
    vectors(c, end, [&](Index i, Index count) { part[0] = join(part[0], i, count); });
  }
  template <int parts, class Join>
  [[gnu::always_inline]] static Packet joined(const Packet (&part)[parts], const Join& join) {
    Packet all = part[0];
    for (int k = 1; k < parts; ++k) all = join(all, part[k]);
    return all;
  }

  // Sum over c of term(c, count), vectors whose lanes beyond `count` are 0.
  template <int parts, class Term>
  [[gnu::always_inline]] static double sum(Index C, const Term& term) {
    double total = 0;
    for (Index begin = 0; begin < C; begin += short_run) {
      Packet part[parts];
      for (auto& p : part) p = S::zero();
      gather(begin, std::min(C, begin + short_run), part,
             [&](Packet p, Index c, Index count) { return S::add(p, term(c, count)); });
      total += double(S::sum(joined(part, S::add)));
    }
    return total;
  }

  static T highest(const T* x, Index C) {
    Packet part[4];
    for (auto& p : part) p = S::fill(x[0]);
    gather(0, C, part,
           [=](Packet p, Index c, Index count) { return S::max(p, load_first(x + c, count, x[0])); });
    return S::max_of_lanes(joined(part, S::max));
  }

  // e = exp(x - most), whose sum is returned. Whole vectors are stored where e has room for them: a load of
  // what was stored under a mask waits for the first level.
  static double exponentials(const T* x, T most, T* e, Index C, bool has_room = false) {
    return sum<1>(C, [&](Index c, Index count) {
      const auto v = exp_of_negative<T>(
          S::sub(load_first(x + c, count, -std::numeric_limits<T>::infinity()), S::fill(most)));
      store_first(e + c, has_room ? Index(S::size) : count, v);
      return v;
    });
  }

  // `copy` gets y too, or is null.
  static void forward(const T* x, T* y, T* copy, Index C) {
    T short_row[short_run];
    const bool has_room = C <= short_run;
    T* const e = has_room ? short_row : y;
    const auto scale = S::fill(T(1 / exponentials(x, highest(x, C), e, C, has_room)));
    vectors(0, C, [&](Index c, Index count) {
      const auto value = S::mul(load_first<T>(e + c, has_room ? Index(S::size) : count), scale);
      store_first(y + c, count, value);
      if (copy != nullptr) store_first(copy + c, count, value);
    });
  }

  static void backward(const T* dout, const T* y, T* dx, Index C) {
    const auto mean = S::fill(T(sum<4>(C, [&](Index c, Index count) {
      return S::mul(load_first(dout + c, count), load_first(y + c, count));
    })));
    vectors(0, C, [&](Index c, Index count) {
      const auto centered = S::sub(load_first(dout + c, count), mean);
      store_first(dx + c, count, S::mul(load_first(y + c, count), centered));
    });
  }
};

}  // namespace cnnlib::CNNLIB_ISA
