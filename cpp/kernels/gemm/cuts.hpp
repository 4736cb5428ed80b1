// How a long sum is cut into chunks, at whose ends it is rounded. A cut follows from the shape and the
// instruction set alone. kernels/cuts.cpp compiles this header where those of threads and of the machine are
// errors.
#pragma once

#include "kernels/gemm/micro_kernel.hpp"

namespace cnnlib::CNNLIB_ISA {

// A sum of `terms` in chunks of `size`, each added up in order, and then the chunks in theirs.
struct SumCut {
  Index terms, size, chunks;

  SumCut(Index all, Index of_chunk)
      : terms(all), size(of_chunk), chunks(std::max<Index>(1, ceil_div(all, of_chunk))) {}
  static SumCut even(Index terms, Index most) {
    return {terms, even_part(terms, std::clamp<Index>(most, 1, terms))};
  }

  Index first(Index chunk) const { return chunk * size; }
  Index count(Index chunk) const { return std::min(size, terms - first(chunk)); }
  Index most() const { return std::min(size, terms); }  // terms of a chunk
};

// A matrix product over K. A panel of b is `NR` columns of a chunk: at most 64 KB, from the
// second-level cache. A longer chunk would not fit; a shorter one would load and store c more often.
inline SumCut product_cut(Index K) {
  constexpr Index KC = 512;
  return {K, KC};
}

}  // namespace cnnlib::CNNLIB_ISA
