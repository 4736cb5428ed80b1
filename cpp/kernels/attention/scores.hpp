// The scores of a block of queries with a block of keys, which both passes of attention find alike: the
// queries are the lanes, so that what softmax asks of a query's scores goes down a column.
#pragma once

#include <limits>

#include "kernels/attention/cuts.hpp"
#include "kernels/attention/row_product.hpp"
#include "kernels/scratch_layout.hpp"
#include "kernels/simd/exponential.hpp"
#include "kernels/simd/loops.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
constexpr T minus_infinity = -std::numeric_limits<T>::infinity();

// transpose(), whose code stands once.
template <class T>
[[gnu::noinline]] void transpose_block(const T* from, Index from_step, Index rows, Index columns, T* to,
                                       Index to_step) {
  transpose(from, from_step, rows, columns, to, to_step);
}

// to (columns, attention_lanes) = from (rows, columns), transposed; the lanes from `rows` on are 0.
template <class T>
void to_lanes(const T* from, Index rows, Index columns, T* to) {
  constexpr Index lanes = attention_lanes<T>;
  if (rows < lanes) std::fill_n(to, columns * lanes, T(0));
  transpose_block(from, columns, rows, columns, to, lanes);
}

// rows (rows, attention_lanes) times the lanes' factor, in so many vectors of a row.
template <class T>
[[gnu::noinline]] void multiply_lanes(T* rows, Index count, Index vectors, const T* factor) {
  using S = Simd<T>;
  for (Index row = 0; row < count; ++row, rows += attention_lanes<T>)
    for (Index l = 0; l < vectors * S::size; l += S::size)
      S::store(rows + l, S::mul(S::load(rows + l), S::load(factor + l)));
}

// The largest of `count` scores of each lane, and `most`.
template <class T>
Packet<T> highest(const T* scores, Index count, Packet<T> most) {
  using S = Simd<T>;
  constexpr Index lanes = attention_lanes<T>, ways = 4;  // which hide the latency of a maximum
  Packet<T> part[ways] = {most, most, most, most};
  Index j = 0;
  for (; j + ways <= count; j += ways)
#pragma GCC unroll 4
    for (Index way = 0; way < ways; ++way) part[way] = S::max(part[way], S::load(scores + (j + way) * lanes));
  for (; j < count; ++j) part[0] = S::max(part[0], S::load(scores + j * lanes));
  return S::max(S::max(part[0], part[1]), S::max(part[2], part[3]));
}

// Returns the number that is subtracted from a row's scores before the exponential: its largest score, or 0
// for a row that sees no key, whose exponentials are 0 then.
template <class T>
Packet<T> base_of(Packet<T> most) {
  using S = Simd<T>;
  return S::select(S::equal(most, S::fill(minus_infinity<T>)), S::zero(), most);
}

// 1 / total, or 0 in a row that sees no key.
template <class T>
Packet<T> inverse_of(Packet<T> total) {
  using S = Simd<T>;
  return S::select(S::equal(total, S::zero()), S::zero(), S::div(S::fill(T(1)), total));
}

// The scores of some queries of a head.
template <class T>
struct Scores {
  using S = Simd<T>;
  static constexpr Index lanes = attention_lanes<T>;

  const AttentionShape& s;
  const T* bias;       // of the head, or null
  T* spread;           // room for a block of it (keys, lanes)
  Index first, count;  // queries
  const T* queries;    // (D, lanes), times the scale

  Index vectors() const { return ceil_div(count, S::size); }
  // Of the keys that they see.
  Index keys_end() const { return s.causal ? std::min(s.S, first + count) : s.S; }

  // scores (keys, lanes) of keys [begin, end) of k.
  void find(const T* k, Index begin, Index end, T* scores) const {
    multiply_along_rows(end - begin, s.D, count, k + begin * s.D, s.D, queries, lanes, scores, lanes, false);
    if (bias != nullptr) add_bias(begin, end, scores);
    if (s.causal)
      for (Index key = begin; key < end; ++key)
        std::fill_n(scores + (key - begin) * lanes, std::clamp<Index>(key - first, 0, count),
                    minus_infinity<T>);
  }

 private:
  [[gnu::noinline]] void add_bias(Index begin, Index end, T* scores) const {
    const bool by_query = s.bias[2] > 1, by_key = s.bias[3] > 1;
    const T* from = bias + (by_query ? first * s.bias[3] : 0) + (by_key ? begin : 0);
    if (count < lanes) std::fill_n(spread, (end - begin) * lanes, T(0));
    if (by_query && by_key) transpose_block(from, s.bias[3], count, end - begin, spread, lanes);
    if (by_query && !by_key) std::copy_n(from, count, spread);
    for (Index key = 0; key < end - begin; ++key)
      for (Index l = 0; l < vectors() * S::size; l += S::size) {
        const auto term =
            by_query ? S::load(spread + (by_key ? key * lanes : 0) + l) : S::fill(from[by_key ? key : 0]);
        S::store(scores + key * lanes + l, S::add(S::load(scores + key * lanes + l), term));
      }
  }
};

// Returns the bias of a head of sample n.
template <class T>
T* bias_of_head(T* bias, const AttentionShape& s, Index n, Index head) {
  if (bias == nullptr) return nullptr;
  const Index plane = s.bias[2] * s.bias[3];
  return bias + (s.bias[0] > 1 ? n * s.bias[1] * plane : 0) + (s.bias[1] > 1 ? head * plane : 0);
}

// For products whose second operand is scores: offset[k] of row k.
template <class T>
void fill_row_offsets(Index* offset) {
  for (Index key = 0; key < AttentionCut<T>::most_keys; ++key) offset[key] = key * attention_lanes<T>;
}

}  // namespace cnnlib::CNNLIB_ISA
