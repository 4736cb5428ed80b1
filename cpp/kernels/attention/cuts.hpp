// How attention cuts its queries and keys. A cut follows from the shape and the instruction set alone.
// kernels/cuts.cpp compiles this header where those of threads and of the machine are errors.
#pragma once

#include "kernels/gemm/cuts.hpp"

namespace cnnlib::CNNLIB_ISA {

// Queries of a block: the lanes of some vectors, of which every set's tile takes a whole number.
template <class T>
constexpr Index attention_lanes = 256 / Index(sizeof(T));

template <class T>
struct AttentionCut {
  // Keys whose scores are found at a time: those of a block of queries, 24 KB, stay in the first-level cache.
  static constexpr Index most_keys = 96;
  // The backward pass takes parts of the keys, whose shares of dq are added up in their order: long enough
  // for the sums to cost nothing beside them, and so many that threads have something to share.
  static constexpr Index part_keys = 256, most_parts = 8;
  // Bytes of such shares, or of sums for dbias, that wait to be added.
  static constexpr Index waiting_bytes = 32 << 20;
  // Sums that the samples' shares of dbias are cut into, where all samples have one bias.
  static constexpr Index most_bias_sums = 8;

  SumCut keys;
  Index part_blocks, parts;       // blocks of keys of a part; parts
  Index chunk_samples, chunk_kv;  // whose shares of dq are kept at a time; heads of k and v of a sample
  Index bias_sums;

  [[gnu::cold]] explicit AttentionCut(const AttentionShape& s)
      : keys(SumCut::even(s.S, most_keys)),
        part_blocks(ceil_div(keys.chunks, std::clamp<Index>(s.S / part_keys, 1, most_parts))),
        parts(ceil_div(keys.chunks, part_blocks)) {
    const double head = double(parts - 1) * double(s.L) * double(s.D) * sizeof(T);
    chunk_kv = fitting(head * double(s.heads / s.kv_heads), s.kv_heads);
    chunk_samples = chunk_kv < s.kv_heads ? 1 : fitting(head * double(s.heads), s.N);
    bias_sums = s.bias[0] > 1 ? 1
                              : fitting(double(s.bias[1]) * double(s.bias[2]) * double(s.bias[3]) * sizeof(T),
                                        std::min(s.N, most_bias_sums));
  }

  Index part_first(Index part) const { return keys.first(part * part_blocks); }
  Index part_end(Index part) const { return std::min(keys.terms, part_first(part + 1)); }
  Index longest_part() const { return std::min(keys.terms, part_blocks * keys.size); }

 private:
  // How many of `all` things of so many bytes may wait.
  static Index fitting(double bytes, Index all) {
    return std::max<Index>(1, bytes * double(all) <= waiting_bytes ? all : Index(waiting_bytes / bytes));
  }
};

}  // namespace cnnlib::CNNLIB_ISA
