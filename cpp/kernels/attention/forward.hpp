// Attention, block by block of keys with a running maximum and sum: T. Dao, D. Y. Fu, S. Ermon, A. Rudra,
// C. Re, "FlashAttention", 2022.
//
//   m' = max(m, scores),  l' = l e^(m - m') + sum of e^(scores - m'),  o' = o e^(m - m') + e^(scores - m') v
//
// and out = o / l behind the last block. A task is a block of a head's queries.
#pragma once

#include "kernels/attention/scores.hpp"
#include "kernels/scratch_layout.hpp"
#include "threads/parallel.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
class AttentionForward {
  using S = Simd<T>;
  static constexpr Index lanes = attention_lanes<T>;

 public:
  AttentionForward(const T* q, const T* k, const T* v, const T* bias, T* out, T* copy, T* most, T* total,
                   const AttentionShape& shape)
      : q_(q), k_(k), v_(v), bias_(bias), out_(out), copy_(copy), most_(most), total_(total), s(shape) {}

  [[gnu::cold]] void run() const {
    if (s.N == 0) return;
    const int threads =
        threads_for(2.0 / 16 * double(s.N * s.heads) * double(s.L) * double(s.S) * double(s.D + s.Dv));
    Layout layout;
    const Memory memory(layout, threads, s, bias_ != nullptr);
    const LayoutMemory scratch(layout);
    fill_row_offsets<T>(memory.offset.data());
    parallel_grid(
        {s.N, s.heads, ceil_div(s.L, lanes)}, threads,
        [&](Index n, Index head, Index block, int slot) { attend(n, head, block * lanes, memory, slot); });
  }

 private:
  // Scratch of each thread, and scratch that all share.
  struct Memory {
    ThreadReserved<T> queries, scores, spread, sums, rows;
    Reserved<Index> offset;

    [[gnu::cold]] Memory(Layout& layout, int threads, const AttentionShape& s, bool has_bias)
        : queries(layout, threads, s.D * lanes),
          scores(layout, threads, AttentionCut<T>::most_keys * lanes),
          spread(layout, threads, has_bias ? AttentionCut<T>::most_keys * lanes : 0),
          sums(layout, threads, s.Dv * lanes),
          rows(layout, threads, 3 * lanes),
          offset(layout, AttentionCut<T>::most_keys) {}
  };

  // m, l and e^(m - m') of the lanes.
  struct Running {
    T *most, *total, *factor;
  };

  // Queries from `first` on.
  void attend(Index n, Index head, Index first, const Memory& memory, int slot) const {
    const AttentionCut<T> cut(s);
    const Index row = (n * s.heads + head) * s.L + first;  // of q, out and the statistics
    const Index kv_head = n * s.kv_heads + head / (s.heads / s.kv_heads);
    const T *k = k_ + kv_head * s.S * s.D, *v = v_ + kv_head * s.S * s.Dv;
    const Index count = std::min(lanes, s.L - first);
    T *queries = memory.queries[slot], *p = memory.scores[slot], *o = memory.sums[slot];
    T* rows = memory.rows[slot];
    const Running running{rows, rows + lanes, rows + 2 * lanes};
    const Scores<T> scores{s, bias_of_head(bias_, s, n, head), memory.spread[slot], first, count, queries};
    std::fill_n(running.factor, lanes, T(s.scale));
    to_lanes(q_ + row * s.D, count, s.D, queries);
    multiply_lanes(queries, s.D, scores.vectors(), running.factor);
    std::fill_n(running.most, lanes, minus_infinity<T>);
    std::fill_n(running.total, lanes, T(0));
    for (Index block = 0; block < cut.keys.chunks; ++block) {
      const Index begin = cut.keys.first(block);
      const Index keys = std::min(begin + cut.keys.count(block), scores.keys_end()) - begin;
      if (keys <= 0) break;
      scores.find(k, begin, begin + keys, p);
      if (exponentials(p, keys, scores.vectors(), running) && block > 0)
        multiply_lanes(o, s.Dv, scores.vectors(), running.factor);
      multiply_along_columns(s.Dv, keys, count, v + begin * s.Dv, s.Dv, p, memory.offset.data(), o, lanes,
                             block > 0);
    }
    for (Index l = 0; l < lanes; l += S::size)
      S::store(running.factor + l, inverse_of<T>(S::load(running.total + l)));
    multiply_lanes(o, s.Dv, scores.vectors(), running.factor);
    transpose_block<T>(o, lanes, s.Dv, count, out_ + row * s.Dv, s.Dv);
    if (copy_ != nullptr) std::copy_n(out_ + row * s.Dv, count * s.Dv, copy_ + row * s.Dv);
    if (most_ == nullptr) return;
    std::copy_n(running.most, count, most_ + row);
    std::copy_n(running.total, count, total_ + row);
  }

  // p = e^(p - m'); m and l move. Whether any lane's m did.
  static bool exponentials(T* p, Index keys, Index vectors, const Running& running) {
    bool moved = false;
    for (Index l = 0; l < vectors * S::size; l += S::size) {
      const auto before = S::load(running.most + l), most = highest(p + l, keys, before);
      const auto base = base_of<T>(most);
      auto sum = S::zero();
      for (Index key = 0; key < keys; ++key) {
        T* at = p + key * lanes + l;
        const auto e = exp_of_negative<T>(S::sub(S::load(at), base));
        S::store(at, e);
        sum = S::add(sum, e);
      }
      const auto factor = exp_of_negative<T>(S::sub(before, base));
      S::store(running.most + l, most);
      S::store(running.total + l, S::fma(S::load(running.total + l), factor, sum));
      S::store(running.factor + l, factor);
      moved |= S::bits(S::equal(before, most)) != (1u << S::size) - 1;
    }
    return moved;
  }

  const T *q_, *k_, *v_, *bias_;
  T *out_, *copy_, *most_, *total_;
  const AttentionShape& s;
};

template <class T>
void attention_forward(const T* q, const T* k, const T* v, const T* bias, T* out, T* copy, T* most, T* total,
                       const AttentionShape& s) {
  AttentionForward<T>(q, k, v, bias, out, copy, most, total, s).run();
}

}  // namespace cnnlib::CNNLIB_ISA
