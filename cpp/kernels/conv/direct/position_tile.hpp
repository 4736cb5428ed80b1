// The micro-kernel whose rows are output positions and whose vector lanes are filters.
#pragma once

#include "kernels/conv/direct/correlation.hpp"
#include "kernels/gemm/micro_kernel.hpp"

namespace cnnlib::CNNLIB_ISA {

constexpr int tile_registers = MR * tile_vectors;

// Sums over k of x[offset[k] + m] * w[k][v], m < R, v < V vectors, started in or added to a tile whose rows
// lie `step` values apart. Prefetch::next brings what the next positions read, Prefetch::fetch a line from
// `later` on for `every` rows.
template <class T, int R, int V, Prefetch ahead>
void multiply_positions(Index K, const T* x, const Index* offset, const T* w, T* tile, Index step, bool add,
                        const T* later, Index every) {
  BroadcastTile<T, R, V> sums;
  Index until_next = 1;
  for (Index k = 0; k < K; ++k, w += V * Simd<T>::size) {
    if constexpr (ahead == Prefetch::next) prefetch(x + offset[k] + 2 * R, R);
    if constexpr (ahead == Prefetch::fetch) {
      if (--until_next == 0) {
        until_next = every;
        prefetch<2>(later);
        later += line_values<T>;
      }
    }
    sums.add_product(x + offset[k], [=](int v) { return Simd<T>::load(w + v * Simd<T>::size); });
  }
  sums.store(tile, step, add);
}

// The kernel for `rows` positions of V vectors.
template <class T, int V, Prefetch ahead = Prefetch::none>
auto position_kernel(Index rows) {
  static constexpr auto table = kernels_by_rows<std::min(MR, tile_registers / V)>(
      [](auto R) { return &multiply_positions<T, R(), V, ahead>; });
  return table[rows - 1];
}
// The same of so many vectors as vectors_beside() allows.
template <class T>
auto position_kernel(Index rows, Index vectors) {
  return vectors == 1   ? position_kernel<T, 1>(rows)
         : vectors == 2 ? position_kernel<T, 2>(rows)
         : vectors == 3 ? position_kernel<T, 3>(rows)
                        : position_kernel<T, 4>(rows);
}

// The vectors of a tile of at most `rows` positions.
inline Index vectors_beside(Index rows) { return std::clamp<Index>(tile_registers / rows, 1, 4); }

// out[filter][position] <- bias + sum_of(position, filter), a vector of filters, and what is to be added to,
// added(place) for a place in out, through the activation; `bias` for these filters. The positions of a pair
// of columns are positions of their own.
template <class T, class Sum, class Added>
void write_positions(const Correlation<T>& p, const Sum& sum_of, Index positions, Index filters,
                     const T* bias, const Added& added, T* out) {
  using S = Simd<T>;
  constexpr int lanes = S::size;
  for (Index f = 0; f < filters; f += lanes) {
    const Index count = std::min<Index>(lanes, filters - f);
    const auto start = bias != nullptr ? S::load_lanes(bias + f, 0, count) : S::zero();
    const auto finished = [&](Index position) {
      const auto v = S::add(sum_of(position, f), start);
      return p.epilogue.add ? v : clamp(p.epilogue.activation, v);
    };
    const auto sum = [&](typename S::Packet v, const T* to, Index count) {
      return p.epilogue.add ? clamp(p.epilogue.activation, S::add(v, S::load_lanes(added(to), 0, count))) : v;
    };
    T* to = out + f * p.out_plane;
    for (Index first = 0; first < positions; first += lanes) {
      const Index rows = std::min<Index>(lanes, positions - first);
      typename S::Packet square[lanes];
#pragma GCC unroll 16
      for (int i = 0; i < lanes; ++i) square[i] = finished(first + std::min<Index>(i, rows - 1));
      transpose_packets(square);
      if (p.out_col == 1 || p.kinds() == 2) {
#pragma GCC unroll 16
        for (int i = 0; i < lanes; ++i)
          if (T* row = to + i * p.out_plane + first; i < count)
            S::store_lanes(row, sum(square[i], row, rows), 0, rows);
        continue;
      }
      T turned[lanes * lanes];
#pragma GCC unroll 16
      for (int i = 0; i < lanes; ++i) S::store(turned + i * lanes, square[i]);
      for (Index i = 0; i < count; ++i)
        for (Index j = 0; j < rows; ++j) {
          T& value = to[i * p.out_plane + (first + j) * p.out_col];
          value = p.epilogue.add ? clamp(p.epilogue.activation, turned[i * lanes + j] + *added(&value))
                                 : turned[i * lanes + j];
        }
    }
  }
}

}  // namespace cnnlib::CNNLIB_ISA
