// The gradients of attention. For each block of queries and of keys the probabilities are found again from
// the rows' largest scores and sums:
//
//   p = e^(scores - m) / l,  dv += p^T dout,  dp = dout v^T,  ds = p (dp - delta),
//   dq += scale ds k,  dk += scale ds^T q,  dbias += ds,  where delta = sum over Dv of dout * out
//
// A task is a part of the keys of a head of k and v, with all the queries that look at it. Shares of dq of
// several parts are added up in their order.
#pragma once

#include "kernels.hpp"
#include "kernels/attention/scores.hpp"
#include "kernels/scratch_layout.hpp"
#include "threads/parallel.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
class AttentionBackward {
  using S = Simd<T>;
  static constexpr Index lanes = attention_lanes<T>, most_keys = AttentionCut<T>::most_keys;

 public:
  AttentionBackward(const AttentionGradients<T>& gradients, const AttentionShape& shape)
      : g(gradients), s(shape), cut(shape) {}

  [[gnu::cold]] void run() const {
    if (g.dbias != nullptr) clear(g.dbias, bias_size());
    if (s.N == 0) return;
    const int threads =
        threads_for(2.0 / 16 * 2.5 * double(s.N * s.heads) * double(s.L) * double(s.S) * double(s.D + s.Dv));
    Layout layout;
    const Memory memory(layout, threads, *this);
    const LayoutMemory scratch(layout);
    fill_row_offsets<T>(memory.offset.data());
    if (adds_bias()) clear(memory.bias_sums.data(), (cut.bias_sums - 1) * bias_size());
    for (Index n = 0; n < s.N; n += cut.chunk_samples)
      for (Index kv = 0; kv < s.kv_heads; kv += cut.chunk_kv) {
        const Chunk chunk{{n, std::min(s.N, n + cut.chunk_samples)},
                          {kv, std::min(s.kv_heads, kv + cut.chunk_kv)}};
        run_chunk(chunk, threads, memory);
        add_shares(chunk, memory);
      }
    add_bias_sums(memory);
  }

 private:
  // Samples, and heads of k and v.
  struct Chunk {
    Range samples, kv;
    Index count() const { return (samples.last - samples.first) * (kv.last - kv.first); }
  };

  // Scratch of each thread, and scratch that all share.
  struct Memory {
    // For a block of queries: q times the scale, dout and dq by lanes; q and dout by rows of whole vectors;
    // four numbers for each lane.
    ThreadReserved<T> queries, douts, dq, q_rows, dout_rows, of_lanes;
    // For a block of queries and one of keys: p, ds, the bias, and ds by queries.
    ThreadReserved<T> p, ds, spread, turned;
    ThreadReserved<T> dk, dv;       // of a part of the keys
    Reserved<T> shares, bias_sums;  // of dq [part - 1][head of the chunk], and of dbias
    Reserved<Index> offset;

    [[gnu::cold]] Memory(Layout& layout, int threads, const AttentionBackward& a)
        : queries(layout, threads, a.s.D * lanes),
          douts(layout, threads, a.s.Dv * lanes),
          dq(layout, threads, a.s.D * lanes),
          q_rows(layout, threads, whole(a.s.D) * lanes),
          dout_rows(layout, threads, whole(a.s.Dv) * lanes),
          of_lanes(layout, threads, 4 * lanes),
          p(layout, threads, most_keys * lanes),
          ds(layout, threads, most_keys * lanes),
          spread(layout, threads, a.g.bias != nullptr ? most_keys * lanes : 0),
          turned(layout, threads, a.adds_bias() ? most_keys * lanes : 0),
          dk(layout, threads, a.cut.longest_part() * whole(a.s.D)),
          dv(layout, threads, a.cut.longest_part() * whole(a.s.Dv)),
          shares(layout, (a.cut.parts - 1) * a.chunk_heads() * a.s.L * a.s.D),
          bias_sums(layout, a.adds_bias() ? (a.cut.bias_sums - 1) * a.bias_size() : 0),
          offset(layout, most_keys) {}
  };

  // A bias that all keys share changes no probability: its gradient is 0.
  bool adds_bias() const { return g.dbias != nullptr && s.bias[3] > 1; }
  Index bias_size() const { return s.bias[0] * s.bias[1] * s.bias[2] * s.bias[3]; }
  Index group() const { return s.heads / s.kv_heads; }
  Index chunk_heads() const { return cut.chunk_samples * cut.chunk_kv * group(); }
  static Index whole(Index columns) { return round_up(columns, S::size); }

  [[gnu::cold]] static void clear(T* to, Index size) {
    parallel_ranges(size, clear_grain, 1.0 / 8,
                    [=](Index begin, Index end) { std::fill(to + begin, to + end, T(0)); });
  }
  static constexpr Index clear_grain = 16384;  // values

  [[gnu::cold]] void run_chunk(const Chunk& chunk, int threads, const Memory& memory) const {
    const Index samples = chunk.samples.last - chunk.samples.first, kv = chunk.kv.last - chunk.kv.first;
    // A sum for dbias is one task's at a time.
    const bool shared = adds_bias() && s.bias[0] == 1 && s.N > 1;
    const Index sample_tasks = shared ? std::min(samples, cut.bias_sums) : samples;
    const Index head_tasks = adds_bias() && s.bias[1] == 1 && s.heads > 1 ? 1 : kv;
    parallel_grid(
        {sample_tasks, head_tasks, cut.parts}, threads, [&](Index first, Index head, Index part, int slot) {
          T* dbias = !adds_bias()            ? nullptr
                     : !shared || first == 0 ? g.dbias
                                             : memory.bias_sums.data() + (first - 1) * bias_size();
          for (Index n = first; n < samples; n += sample_tasks)
            for (Index at = head; at < kv; at += head_tasks)
              run_part(chunk, chunk.samples.first + n, chunk.kv.first + at, part, dbias, memory, slot);
        });
  }

  // The keys of a part, of a head of k and v.
  void run_part(const Chunk& chunk, Index n, Index kv, Index part, T* dbias, const Memory& memory,
                int slot) const {
    const Index begin = cut.part_first(part), end = cut.part_end(part);
    T *dk = memory.dk[slot], *dv = memory.dv[slot];
    std::fill_n(dk, (end - begin) * whole(s.D), T(0));
    std::fill_n(dv, (end - begin) * whole(s.Dv), T(0));
    for (Index head = kv * group(); head < (kv + 1) * group(); ++head) {
      const Index row = (n * s.heads + head) * s.L;
      T* dq = g.dq + row * s.D;
      if (part > 0) {
        const Index of_chunk = (n - chunk.samples.first) * (chunk.kv.last - chunk.kv.first) * group() + head -
                               chunk.kv.first * group();
        dq = memory.shares.data() + ((part - 1) * chunk.count() * group() + of_chunk) * s.L * s.D;
      }
      for (Index first = 0; first < s.L; first += lanes)
        run_queries({n, head, kv, first, begin, end}, dq + first * s.D, bias_of_head(dbias, s, n, head),
                    memory, slot);
    }
    const Index row = (n * s.kv_heads + kv) * s.S + begin;
    store_rows(dk, s.D, end - begin, T(s.scale), g.dk + row * s.D);
    store_rows(dv, s.Dv, end - begin, T(1), g.dv + row * s.Dv);
  }

  // A block of queries from `first` on, and keys [begin, end).
  struct Place {
    Index n, head, kv, first, begin, end;
  };

  void run_queries(const Place& at, T* dq_rows, T* dbias, const Memory& memory, int slot) const {
    const Index count = std::min(lanes, s.L - at.first);
    const Index row = (at.n * s.heads + at.head) * s.L + at.first, kv_row = (at.n * s.kv_heads + at.kv) * s.S;
    T *queries = memory.queries[slot], *douts = memory.douts[slot], *dq = memory.dq[slot];
    T *p = memory.p[slot], *ds = memory.ds[slot], *of_lanes = memory.of_lanes[slot];
    T* factor = of_lanes + 3 * lanes;
    const Scores<T> scores{
        s, bias_of_head(g.bias, s, at.n, at.head), memory.spread[slot], at.first, count, queries};
    std::fill_n(factor, lanes, T(s.scale));
    to_lanes(g.q + row * s.D, count, s.D, queries);
    multiply_lanes(queries, s.D, scores.vectors(), factor);
    to_lanes(g.dout + row * s.Dv, count, s.Dv, douts);
    const T* q_rows = whole_rows(g.q + row * s.D, s.D, count, memory.q_rows[slot]);
    const T* dout_rows = whole_rows(g.dout + row * s.Dv, s.Dv, count, memory.dout_rows[slot]);
    find_lanes(row, count, of_lanes);
    std::fill_n(dq, s.D * lanes, T(0));
    for (Index key = at.begin, stop = std::min(at.end, scores.keys_end()); key < stop; key += cut.keys.size) {
      const Index keys = std::min(cut.keys.size, stop - key);
      const T *k = g.k + kv_row * s.D, *v = g.v + kv_row * s.Dv;
      T* dk = memory.dk[slot] + (key - at.begin) * whole(s.D);
      T* dv = memory.dv[slot] + (key - at.begin) * whole(s.Dv);
      scores.find(k, key, key + keys, p);
      multiply_along_rows(keys, s.Dv, count, v + key * s.Dv, s.Dv, douts, lanes, ds, lanes, false);
      differentiate(p, ds, keys, scores.vectors(), of_lanes);
      multiply_along_rows(keys, count, s.Dv, p, lanes, dout_rows, whole(s.Dv), dv, whole(s.Dv), true);
      multiply_along_rows(keys, count, s.D, ds, lanes, q_rows, whole(s.D), dk, whole(s.D), true);
      multiply_along_columns(s.D, keys, count, k + key * s.D, s.D, ds, memory.offset.data(), dq, lanes, true);
      if (dbias != nullptr) add_to_bias(dbias, at.first, key, keys, count, ds, memory.turned[slot]);
    }
    multiply_lanes(dq, s.D, scores.vectors(), factor);
    transpose_block<T>(dq, lanes, s.D, count, dq_rows, s.D);
  }

  // Rows whose vectors are whole: where they lie, or copies.
  [[gnu::noinline]] static const T* whole_rows(const T* rows, Index columns, Index count, T* copy) {
    if (columns == whole(columns)) return rows;
    for (Index row = 0; row < count; ++row) {
      T* to = copy + row * whole(columns);
      std::fill_n(std::copy_n(rows + row * columns, columns, to), whole(columns) - columns, T(0));
    }
    return copy;
  }

  // to = rows of whole vectors, times a factor.
  [[gnu::noinline]] static void store_rows(T* rows, Index columns, Index count, T factor, T* to) {
    for (Index row = 0; row < count; ++row, rows += whole(columns), to += columns) {
      for (Index i = 0; i < columns; i += S::size)
        S::store(rows + i, S::mul(S::load(rows + i), S::fill(factor)));
      std::copy_n(rows, columns, to);
    }
  }

  // What is subtracted from a lane's scores, 1 / l, and delta; 0 of lanes without a query.
  [[gnu::noinline]] void find_lanes(Index row, Index count, T* to) const {
    T *base = to, *inverse = to + lanes, *delta = to + 2 * lanes;
    std::fill_n(to, 3 * lanes, T(0));
    std::copy_n(g.most + row, count, base);
    std::copy_n(g.total + row, count, inverse);
    for (Index l = 0; l < count; l += S::size) {
      S::store(base + l, base_of<T>(S::load(base + l)));
      S::store(inverse + l, inverse_of<T>(S::load(inverse + l)));
    }
    for (Index l = 0; l < count; ++l) {
      const T *dout = g.dout + (row + l) * s.Dv, *out = g.out + (row + l) * s.Dv;
      auto sum = S::zero();
      Index i = 0;
      for (; i + S::size <= s.Dv; i += S::size) sum = S::fma(S::load(dout + i), S::load(out + i), sum);
      delta[l] = S::sum(sum);
      for (; i < s.Dv; ++i) delta[l] += dout[i] * out[i];
    }
  }

  // p = e^(p - base) / l, ds = p (ds - delta)
  static void differentiate(T* p, T* ds, Index keys, Index vectors, const T* of_lanes) {
    for (Index l = 0; l < vectors * S::size; l += S::size) {
      const auto base = S::load(of_lanes + l), inverse = S::load(of_lanes + lanes + l);
      const auto delta = S::load(of_lanes + 2 * lanes + l);
      for (Index at = l; at < keys * lanes; at += lanes) {
        const auto value = S::mul(exp_of_negative<T>(S::sub(S::load(p + at), base)), inverse);
        S::store(p + at, value);
        S::store(ds + at, S::mul(value, S::sub(S::load(ds + at), delta)));
      }
    }
  }

  // dbias, of a head, += ds (keys, lanes), of queries from `first` and keys from `key` on.
  [[gnu::noinline]] void add_to_bias(T* dbias, Index first, Index key, Index keys, Index count, const T* ds,
                                     T* turned) const {
    if (s.bias[2] == 1) {  // lanes without a query have a ds of 0
      for (Index j = 0; j < keys; ++j) {
        auto sum = S::zero();
        for (Index l = 0; l < count; l += S::size) sum = S::add(sum, S::load(ds + j * lanes + l));
        dbias[key + j] += S::sum(sum);
      }
      return;
    }
    transpose_block<T>(ds, lanes, keys, count, turned, most_keys);
    for (Index query = 0; query < count; ++query) {
      T* to = dbias + (first + query) * s.bias[3] + key;
      const T* from = turned + query * most_keys;
      Index j = 0;
      for (; j + S::size <= keys; j += S::size) S::store(to + j, S::add(S::load(to + j), S::load(from + j)));
      for (; j < keys; ++j) to[j] += from[j];
    }
  }

  // dq += the parts' shares, in their order.
  [[gnu::cold]] void add_shares(const Chunk& chunk, const Memory& memory) const {
    if (cut.parts == 1) return;
    const Index samples = chunk.samples.last - chunk.samples.first;
    const Index heads = (chunk.kv.last - chunk.kv.first) * group(), size = s.L * s.D;
    for (Index n = 0; n < samples; ++n) {
      const Index head = (chunk.samples.first + n) * s.heads + chunk.kv.first * group();
      add_all(g.dq + head * size, memory.shares.data() + n * heads * size, heads * size, cut.parts - 1,
              samples * heads * size);
    }
  }
  [[gnu::cold]] void add_bias_sums(const Memory& memory) const {
    if (adds_bias()) add_all(g.dbias, memory.bias_sums.data(), bias_size(), cut.bias_sums - 1, bias_size());
  }
  // to += from[0], from[1], ... of so many values, which lie a step apart.
  static void add_all(T* to, const T* from, Index size, Index count, Index step) {
    if (count == 0) return;
    parallel_ranges(size, clear_grain, double(count) / 4, [=](Index begin, Index end) {
      write_vectors(to + begin, end - begin, false, [=](Index i, Index n) {
        auto sum = load_first<T>(to + begin + i, n);
        for (Index at = 0; at < count; ++at) sum = S::add(sum, load_first(from + at * step + begin + i, n));
        return sum;
      });
    });
  }

  const AttentionGradients<T>& g;
  const AttentionShape& s;
  const AttentionCut<T> cut;
};

template <class T>
void attention_backward(const AttentionGradients<T>& gradients, const AttentionShape& s) {
  AttentionBackward<T>(gradients, s).run();
}

}  // namespace cnnlib::CNNLIB_ISA
