// The register-blocked micro-kernel on which convolution and dense layers stand, and its packing.
#pragma once

#include <algorithm>
#include <array>
#include <utility>

#include "kernels/simd/transpose.hpp"

namespace cnnlib::CNNLIB_ISA {

// The largest register block: rows of single values times vectors.
constexpr int max_rows = InstructionSet::tile_rows;
constexpr int tile_vectors = 2;

template <class T>
constexpr int tile_lanes = tile_vectors * Simd<T>::size;

constexpr int most_vectors = 8;  // of a tile

// Input besides that of a product, brought while its arithmetic units are busy: rows of a later b, as many as
// that takes if several calls share the work, for the second-level cache.
template <class T>
struct Fetch {
  const T* next;  // b[0] of the later one
  const Index* offset;
  Index every;  // one row of it for so many of this one
  T* packed;    // where Ahead::pack writes this b, in one run
};

// How a product gets b: as it comes; in one run from the second-level cache, asked for some time ahead
// (`run`); from scattered rows, asking for what follows in each (`next`); or it also fetches what comes
// later, while it reads such a run (`fetch`) or scattered rows, which it writes down in one run for others
// (`pack`).
enum class Ahead { none, run, next, fetch, pack };

// Where a tile goes: row m of vector v to to[v] + m * step, added to what lies there, to `row` in
// every row and to bias[m], as far as they are given, then through ReLU.
template <class T>
struct Target {
  T* to[most_vectors];
  Index step;
  const T *bias = nullptr, *row = nullptr;
  bool add = false, relu = false;
  Fetch<T> fetch{};

  // Rows of V vectors, one after the other.
  static Target rows(T* tile, int V) {
    Target target;
    for (int v = 0; v < V; ++v) target.to[v] = tile + v * Simd<T>::size;
    target.step = V * Simd<T>::size;
    return target;
  }
};

// Row m, lane l of the target <- sum over k of a[k * step + m] * b[l / size][offset[k] + l % size], for m < R
// and l < V * size. The sum starts at zero, so that adding it to an earlier partial sum rounds once.
template <class T, int R, int V, Ahead ahead = Ahead::none>
void multiply_tile(Index K, const T* a, Index step, const Index* offset, const T* const* b,
                   const Target<T>& target) {
  using S = Simd<T>;
  using Packet = typename S::Packet;
  Packet sum[R][V];
#pragma GCC unroll 16
  for (int m = 0; m < R; ++m)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) sum[m][v] = S::zero();
  const T* base[V];
#pragma GCC unroll 8
  for (int v = 0; v < V; ++v) base[v] = b[v];
  if (target.add)  // what is added to arrives in the meantime
    for (int m = 0; m < R; ++m)
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) __builtin_prefetch(target.to[v] + m * target.step, 1);
  Fetch<T> fetch = target.fetch;
  Index until_next = 1;
  const auto multiply = [&](Index k, const T* a_row) {
    const Index at = offset[k];
    if constexpr (ahead == Ahead::fetch || ahead == Ahead::pack) {
      if (--until_next == 0) {
        until_next = fetch.every;
        prefetch<2>(fetch.next + *fetch.offset++, V * S::size);
      }
    }
    Packet bv[V];
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      bv[v] = S::load(base[v] + at);
      if constexpr (ahead == Ahead::run || ahead == Ahead::fetch)
        __builtin_prefetch(base[v] + at + 1024 / sizeof(T));
      if constexpr (ahead == Ahead::next) __builtin_prefetch(base[v] + at + V * S::size);
      if constexpr (ahead == Ahead::pack) S::store(fetch.packed + v * S::size, bv[v]);
    }
#pragma GCC unroll 16
    for (int m = 0; m < R; ++m) {
      const Packet am = S::fill(a_row[m]);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) sum[m][v] = S::fma(am, bv[v], sum[m][v]);
    }
    if constexpr (ahead == Ahead::pack) fetch.packed += V * S::size;
  };
  Index k = 0;
  if constexpr (ahead == Ahead::none || ahead == Ahead::run)
    for (; k + 2 <= K; k += 2, a += 2 * step) {  // two at a time: less to count
      multiply(k, a);
      multiply(k + 1, a + step);
    }
  for (; k < K; ++k, a += step) multiply(k, a);
  if (target.add) {
#pragma GCC unroll 16
    for (int m = 0; m < R; ++m)
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) sum[m][v] = S::add(sum[m][v], S::load(target.to[v] + m * target.step));
  }
  if (target.row != nullptr) {
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) {
      const Packet row = S::load(target.row + v * S::size);
#pragma GCC unroll 16
      for (int m = 0; m < R; ++m) sum[m][v] = S::add(sum[m][v], row);
    }
  }
  if (target.bias != nullptr) {
#pragma GCC unroll 16
    for (int m = 0; m < R; ++m) {
      const Packet bias = S::fill(target.bias[m]);
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) sum[m][v] = S::add(sum[m][v], bias);
    }
  }
  if (target.relu) {
#pragma GCC unroll 16
    for (int m = 0; m < R; ++m)
#pragma GCC unroll 8
      for (int v = 0; v < V; ++v) sum[m][v] = S::relu(sum[m][v]);
  }
#pragma GCC unroll 16
  for (int m = 0; m < R; ++m)
#pragma GCC unroll 8
    for (int v = 0; v < V; ++v) S::store(target.to[v] + m * target.step, sum[m][v]);
}

template <class T>
using TileKernel = void (*)(Index K, const T* a, Index step, const Index* offset, const T* const* b,
                            const Target<T>& target);

template <class T, int V, Ahead ahead, int... R>
constexpr std::array<TileKernel<T>, sizeof...(R)> tile_kernels(std::integer_sequence<int, R...>) {
  return {&multiply_tile<T, R + 1, V, ahead>...};
}

// The kernel for `rows` rows (1 to max_rows) of V vectors.
template <class T, int V = tile_vectors, Ahead ahead = Ahead::none>
TileKernel<T> tile_kernel(Index rows) {
  static constexpr auto table = tile_kernels<T, V, ahead>(std::make_integer_sequence<int, max_rows>());
  return table[rows - 1];
}

// The same for b in one run of packed vectors.
template <class T, int V = tile_vectors>
TileKernel<T> packed_tile_kernel(Index rows) {
  return tile_kernel<T, V, Ahead::run>(rows);
}

// Few rows need more vectors to keep the arithmetic units busy, as far as there are registers.
constexpr int vectors_of_three = max_rows > 6 ? 4 : 3;
inline int vectors_for(Index rows) {
  return rows == 1 ? 8 : rows == 2 ? 4 : rows == 3 ? vectors_of_three : tile_vectors;
}

// The kernel for `rows` rows of vectors_for(rows) vectors.
template <class T>
TileKernel<T> wide_tile_kernel(Index rows) {
  if (rows == 1) return &multiply_tile<T, 1, 8>;
  if (rows == 2) return &multiply_tile<T, 2, 4>;
  if (rows == 3) return &multiply_tile<T, 3, vectors_of_three>;
  return tile_kernel<T>(rows);
}

// Values of the largest tile of any kernel.
template <class T>
constexpr Index tile_size =
    Index{Simd<T>::size} * (max_rows * tile_vectors > 12 ? max_rows * tile_vectors : 12);

// `total` rows cut into equal panels of at most `most`: the first `longer` have one row more.
struct Panels {
  Index count, height, longer;

  explicit Panels(Index total, Index most = max_rows)
      : count((total + most - 1) / most),
        height(count > 0 ? total / count : 0),
        longer(count > 0 ? total % count : 0) {}
  Index rows(Index panel) const { return height + (panel < longer ? 1 : 0); }
  Index first(Index panel) const { return panel * height + std::min(panel, longer); }
};

}  // namespace cnnlib::CNNLIB_ISA
