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

  // The parts take a vector each in turn, which hides the latency of joining one to them.
  template <int parts, class Join>
  [[gnu::always_inline]] static void gather(Index begin, Index end, Packet<T> (&part)[parts],
                                            const Join& join) {
    Index c = begin;
    for (; c + parts * S::size <= end; c += parts * S::size)
#pragma GCC unroll 4
      for (int k = 0; k < parts; ++k) part[k] = join(part[k], c + k * S::size, Index(S::size));
    each_vector<T>(c, end, [&](Index i, Index count) { part[0] = join(part[0], i, count); });
  }
  template <int parts, class Join>
  [[gnu::always_inline]] static Packet<T> joined(const Packet<T> (&part)[parts], const Join& join) {
    Packet<T> all = part[0];
    for (int k = 1; k < parts; ++k) all = join(all, part[k]);
    return all;
  }

  // Sum over c of term(c, count), vectors whose lanes beyond `count` are 0.
  template <int parts, class Term>
  [[gnu::always_inline]] static double sum(Index C, const Term& term) {
    double total = 0;
    for (Index begin = 0; begin < C; begin += short_run) {
      Packet<T> part[parts];
      for (auto& p : part) p = S::zero();
      gather(begin, std::min(C, begin + short_run), part,
             [&](Packet<T> p, Index c, Index count) { return S::add(p, term(c, count)); });
      total += double(S::sum(joined(part, S::add)));
    }
    return total;
  }

  static T highest(const T* x, Index C) {
    Packet<T> part[4];
    for (auto& p : part) p = S::fill(x[0]);
    gather(0, C, part,
           [=](Packet<T> p, Index c, Index count) { return S::max(p, load_first(x + c, count, x[0])); });
    return S::max_of_lanes(joined(part, S::max));
  }

  // e = exp(x - most), whose sum is returned.
  static double exponentials(const T* x, T most, T* e, Index C) {
    return sum<1>(C, [&](Index c, Index count) {
      const auto v = exp_of_negative<T>(
          S::sub(load_first(x + c, count, -std::numeric_limits<T>::infinity()), S::fill(most)));
      store_first(e + c, count, v);
      return v;
    });
  }
};

template <class T>
struct SoftmaxRows {
  using S = Simd<T>;
  using Row = SoftmaxRow<T>;
  Index C;

  // `copy` gets y too, or is null.
  void forward(const T* x, T* y, T* copy, Index rows) const {
    for (const T* end = y + rows * C; y < end; x += C, y += C) {
      const auto scale = S::fill(T(1 / Row::exponentials(x, Row::highest(x, C), y, C)));
      each_vector<T>(0, C, [=](Index c, Index count) {
        const auto value = S::mul(load_first<T>(y + c, count), scale);
        store_first(y + c, count, value);
        if (copy != nullptr) store_first(copy + c, count, value);
      });
      if (copy != nullptr) copy += C;
    }
  }
  void backward(const T* dout, const T* y, T* dx, Index rows) const {
    for (const T* end = dx + rows * C; dx < end; dout += C, y += C, dx += C) {
      const auto mean = S::fill(T(Row::template sum<4>(C, [=](Index c, Index count) {
        return S::mul(load_first(dout + c, count), load_first(y + c, count));
      })));
      each_vector<T>(0, C, [=](Index c, Index count) {
        const auto centered = S::sub(load_first(dout + c, count), mean);
        store_first(dx + c, count, S::mul(load_first(y + c, count), centered));
      });
    }
  }
};

// Rows of C values that so many vectors hold: all in registers, from the first load to the last store.
template <class T, int vectors>
struct ShortSoftmaxRows {
  using S = Simd<T>;
  static constexpr Index before = (vectors - 1) * S::size;  // values before the last vector
  Index C;
  struct Row {
    Packet<T> v[vectors];
  };

  [[gnu::always_inline]] Row load(const T* p, T other) const {
    Row row;
    for (int k = 0; k + 1 < vectors; ++k) row.v[k] = S::load(p + k * S::size);
    row.v[vectors - 1] = S::load_lanes(p + before, 0, C - before, other);
    return row;
  }
  // The last vector spills over into the next row, which comes later, but not beyond `end`.
  [[gnu::always_inline]] void store(T* p, const T* end, const Row& row) const {
    for (int k = 0; k + 1 < vectors; ++k) S::store(p + k * S::size, row.v[k]);
    if (p + before + S::size <= end)
      S::store(p + before, row.v[vectors - 1]);
    else
      S::store_lanes(p + before, row.v[vectors - 1], 0, C - before);
  }

  // `copy` gets y too, or is null.
  void forward(const T* x, T* y, T* copy, Index rows) const {
    const T *y_end = y + rows * C, *copy_end = copy + (copy == nullptr ? 0 : rows * C);
    for (; y < y_end; x += C, y += C) {
      Row row = load(x, -std::numeric_limits<T>::infinity());
      const auto most = S::fill(S::max_of_lanes(SoftmaxRow<T>::joined(row.v, S::max)));
      for (auto& v : row.v) v = exp_of_negative<T>(S::sub(v, most));
      const auto scale = S::fill(T(1) / S::sum(SoftmaxRow<T>::joined(row.v, S::add)));
      for (auto& v : row.v) v = S::mul(v, scale);
      store(y, y_end, row);
      if (copy != nullptr) {
        store(copy, copy_end, row);
        copy += C;
      }
    }
  }

  void backward(const T* dout, const T* y, T* dx, Index rows) const {
    for (const T* end = dx + rows * C; dx < end; dout += C, y += C, dx += C) {
      const Row d = load(dout, T(0)), v = load(y, T(0));
      Row out;
      for (int k = 0; k < vectors; ++k) out.v[k] = S::mul(d.v[k], v.v[k]);
      const auto mean = S::fill(S::sum(SoftmaxRow<T>::joined(out.v, S::add)));
      for (int k = 0; k < vectors; ++k) out.v[k] = S::mul(v.v[k], S::sub(d.v[k], mean));
      store(dx, end, out);
    }
  }
};

}  // namespace cnnlib::CNNLIB_ISA
