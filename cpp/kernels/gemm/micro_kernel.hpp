// The micro-kernel on which convolution and matrix products stand: a tile of sums in registers, R rows of
// single values times V vectors, and what it leaves in memory.
//
//   packed a, a panel of R rows:  [k][m]   a(0,0) a(1,0) .. a(R-1,0) | a(0,1) a(1,1) .. | ..
//   b, V vectors of each row k:   [k][l]   wherever offset[k] says; packed: V * size values, row after row
//
// A step k broadcasts each of the R values of a, and multiplies it with the V vectors of b.
#pragma once

#include <algorithm>

#include "kernels/clamp.hpp"
#include "kernels/gemm/broadcast_tile.hpp"
#include "kernels/gemm/kernels_by_rows.hpp"
#include "kernels/simd/transpose.hpp"

namespace cnnlib::CNNLIB_ISA {

// The usual tile: MR x tile_vectors sums are as many as the registers hold.
constexpr int MR = InstructionSet::MR;
constexpr int tile_vectors = 2;
constexpr int most_vectors = 8;  // of any tile

template <class T>
constexpr int NR = tile_vectors * Simd<T>::size;

// The prefetch distance in packed b: 8 steps of the usual tile with AVX-512, in whose time the second-level
// cache answers.
constexpr Index prefetch_distance_bytes = 1024;

// A later call's b, prefetched into the second-level cache meanwhile: a row of it for every so many rows of
// this one, since several calls may share the work.
template <class T>
struct Fetch {
  const T* next;  // b[0] of the later call
  const Index* offset;
  Index every;
  T* packed;  // where Prefetch::pack writes this call's b, packed
};

// Names what a micro-kernel prefetches, which depends on how b lies:
//   none   nothing: b is in the first-level cache, or the processor's own prefetcher follows it
//   run    b is packed, and comes from the second-level cache: prefetch_distance_bytes ahead
//   next   b's rows are scattered: the vectors that follow in each row, for the next calls
//   fetch  as `run`, and a later call's b
//   pack   b's rows are scattered: a later call's b, and this one is packed on the way
enum class Prefetch { none, run, next, fetch, pack };

// Where a tile goes: vector v of row m to to[v] + m * step, added to what lies there (`add`), to `row` (V
// vectors) in every row and to bias[m], as far as they are given, then through the activation.
template <class T>
struct Target {
  T* to[most_vectors];
  Index step;
  const T *bias = nullptr, *row = nullptr;
  bool add = false;
  Clamp<T> activation{};
  Fetch<T> fetch{};

  // Rows of V vectors, one after the other.
  static Target rows(T* tile, int V) {
    Target target;
    for (int v = 0; v < V; ++v) target.to[v] = tile + v * Simd<T>::size;
    target.step = V * Simd<T>::size;
    return target;
  }
};

// The end of multiply_tile: `sum` to its target.
template <class T, int R, int V>
[[gnu::always_inline]] inline void finish_tile(Packet<T> (&sum)[R][V], const Target<T>& target) {
  using S = Simd<T>;
  if (target.add) {
#pragma GCC unroll 16
    for (int m = 0; m < R; ++m)
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) sum[m][v] = S::add(sum[m][v], S::load(target.to[v] + m * target.step));
  }
  if (target.row != nullptr) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      const Packet<T> row = S::load(target.row + v * S::size);
#pragma GCC unroll 16
      for (int m = 0; m < R; ++m) sum[m][v] = S::add(sum[m][v], row);
    }
  }
  if (target.bias != nullptr) {
#pragma GCC unroll 16
    for (int m = 0; m < R; ++m) {
      const Packet<T> bias = S::fill(target.bias[m]);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) sum[m][v] = S::add(sum[m][v], bias);
    }
  }
  if (target.activation.changes()) {
#pragma GCC unroll 16
    for (int m = 0; m < R; ++m)
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) sum[m][v] = clamp(target.activation, sum[m][v]);
  }
#pragma GCC unroll 16
  for (int m = 0; m < R; ++m)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) S::store(target.to[v] + m * target.step, sum[m][v]);
}

// Row m, lane l of the target <- sum over k of a[k * step + m] * b[l / size][offset[k] + l % size], for m < R
// and l < V * size. The sum starts at zero, so that adding it to an earlier partial sum rounds once.
template <class T, int R, int V, Prefetch ahead = Prefetch::none>
void multiply_tile(Index K, const T* a, Index step, const Index* offset, const T* const* b,
                   const Target<T>& target) {
  using S = Simd<T>;
  BroadcastTile<T, R, V> tile;
  const T* base[V];
#pragma GCC unroll 8
  for (int v = 0; v < V; ++v) base[v] = b[v];
  if (target.add)  // what is added to arrives in the meantime
    for (int m = 0; m < R; ++m)
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) prefetch<3, true>(target.to[v] + m * target.step);
  constexpr int calls_ahead = R > 3 ? 1 : 2;  // calls of few rows take less time than memory
  Fetch<T> fetch = target.fetch;
  Index until_next = 1;
  const auto multiply = [&](Index k, const T* a_row) {
    const Index at = offset[k];
    if constexpr (ahead == Prefetch::fetch || ahead == Prefetch::pack) {
      if (--until_next == 0) {
        until_next = fetch.every;
        prefetch<2>(fetch.next + *fetch.offset++, V * S::size);
      }
    }
    tile.add_product(a_row, [&](int v) __attribute__((always_inline)) {
      const auto bv = S::load(base[v] + at);
      if constexpr (ahead == Prefetch::run || ahead == Prefetch::fetch)
        prefetch(base[v] + at + prefetch_distance_bytes / Index(sizeof(T)));
      if constexpr (ahead == Prefetch::next) prefetch(base[v] + at + calls_ahead * V * S::size);
      if constexpr (ahead == Prefetch::pack) S::store(fetch.packed + v * S::size, bv);
      return bv;
    });
    if constexpr (ahead == Prefetch::pack) fetch.packed += V * S::size;
  };
  Index k = 0;
  constexpr bool room = BroadcastValues<T, R>::vectors <= 4;  // for the values of two steps, beside the sums
  if constexpr (room && (ahead == Prefetch::none || ahead == Prefetch::run))
    for (; k + 2 <= K; k += 2, a += 2 * step) {  // two at a time: less to count
      multiply(k, a);
      multiply(k + 1, a + step);
    }
  for (; k < K; ++k, a += step) multiply(k, a);
  finish_tile<T, R, V>(tile.sum, target);
}

template <class T>
using TileKernel = void (*)(Index K, const T* a, Index step, const Index* offset, const T* const* b,
                            const Target<T>& target);

// The kernel for `rows` rows (1 to MR) of V vectors.
template <class T, int V = tile_vectors, Prefetch ahead = Prefetch::none>
TileKernel<T> tile_kernel(Index rows) {
  static constexpr auto table = kernels_by_rows<MR>([](auto R) { return &multiply_tile<T, R(), V, ahead>; });
  return table[rows - 1];
}

// The same for b in one run of packed vectors.
template <class T, int V = tile_vectors>
TileKernel<T> packed_tile_kernel(Index rows) {
  return tile_kernel<T, V, Prefetch::run>(rows);
}

// Compiled once a set, in gemm.cpp.
#define TILE_KERNELS(T, template_of)                                              \
  template_of TileKernel<T> tile_kernel<T, 1, Prefetch::none>(Index);             \
  template_of TileKernel<T> tile_kernel<T, 1, Prefetch::run>(Index);              \
  template_of TileKernel<T> tile_kernel<T, tile_vectors, Prefetch::none>(Index);  \
  template_of TileKernel<T> tile_kernel<T, tile_vectors, Prefetch::run>(Index);   \
  template_of TileKernel<T> tile_kernel<T, tile_vectors, Prefetch::next>(Index);  \
  template_of TileKernel<T> tile_kernel<T, tile_vectors, Prefetch::fetch>(Index); \
  template_of TileKernel<T> tile_kernel<T, tile_vectors, Prefetch::pack>(Index);
TILE_KERNELS(float, extern template)
TILE_KERNELS(double, extern template)

// Tiles of 1 to 3 rows need more vectors to keep the arithmetic units busy, as far as there are registers for
// the sums, b and a value of a.
constexpr int vectors_of_three = 3 * 4 + 4 + 1 <= InstructionSet::registers ? 4 : 3;
inline int vectors_for(Index rows) {
  return rows == 1 ? 8 : rows == 2 ? 4 : rows == 3 ? vectors_of_three : tile_vectors;
}

// The kernel for `rows` rows of vectors_for(rows) vectors.
template <class T, Prefetch ahead = Prefetch::none>
TileKernel<T> wide_tile_kernel(Index rows) {
  if (rows == 1) return &multiply_tile<T, 1, 8, ahead>;
  if (rows == 2) return &multiply_tile<T, 2, 4, ahead>;
  if (rows == 3) return &multiply_tile<T, 3, vectors_of_three, ahead>;
  return tile_kernel<T, tile_vectors, ahead>(rows);
}

// Values of the largest tile of any kernel.
template <class T>
constexpr Index tile_size = Index{Simd<T>::size} * std::max(MR * tile_vectors, 3 * 4);

// `total` rows cut into equal panels of at most `most`: the first `longer` have one row more.
struct Panels {
  Index count, height, longer;

  explicit Panels(Index total, Index most = MR)
      : count(ceil_div(total, most)),
        height(count > 0 ? total / count : 0),
        longer(count > 0 ? total % count : 0) {}
  Index rows(Index panel) const { return height + (panel < longer ? 1 : 0); }
  Index first(Index panel) const { return panel * height + std::min(panel, longer); }
};

}  // namespace cnnlib::CNNLIB_ISA
