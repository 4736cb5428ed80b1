// The vectors that cover a block of output positions, and how their lanes are stored.
#pragma once

#include "kernels/conv/direct/correlation.hpp"

namespace cnnlib::CNNLIB_ISA {

// A run of vector lanes and where its outputs go.
struct LaneRange {
  Index lane, count, to;
};

// The vectors that cover a block of output positions: vector v reads the block's input from source[v] on; its
// useful lanes are ranges first[v] to first[v + 1].
struct VectorCover {
  Index* source;
  Index* first;
  LaneRange* ranges;
  Index rows = 0, cols = 0;  // of the block at hand
  Index vectors = 0;
  bool all_whole = false;  // every vector useful in every lane, in one row

  static Index most_vectors(Index rows, Index cols, Index pitch, Index lanes) {
    return std::max(rows * (ceil_div(cols, lanes)), ceil_div(rows * pitch, lanes)) + 1;
  }

  // Whether vectors [v, v + count) are useful in every lane, each in one row.
  bool whole(Index v, Index count, Index lanes) const {
    if (v + count > vectors) return false;
    if (all_whole) return true;
    for (Index u = v; u < v + count; ++u)
      if (first[u + 1] != first[u] + 1 || ranges[first[u]].count != lanes) return false;
    return true;
  }

  // Either each row starts a vector, or vectors run on over the rows' margins: whichever takes less time,
  // where an output is the sum of `products`. `inside`: nothing outside a row may be read, so the last
  // vector, where it is not full, begins earlier. `once`: outputs are stored and never added to, so that
  // overlapping vectors may both write one.
  void set_block(Index block_rows, Index block_cols, Index pitch, Index lanes, Index out_row, Index out_col,
                 Index products, bool inside, bool once) {
    if (pitch == block_cols && out_row == block_cols &&
        out_col == 1) {  // rows without margins are one long row
      block_cols *= block_rows;
      block_rows = 1;
    }
    if (rows == block_rows && cols == block_cols) return;
    rows = block_rows;
    cols = block_cols;
    const Index per_row = ceil_div(cols, lanes);
    const Index running = ceil_div((rows - 1) * pitch + cols, lanes);
    const bool twice = once && out_col == 1 && cols >= lanes;
    // The multiply-adds in whose time a vector that goes on in the next row is stored in two parts.
    constexpr Index parted = 48;
    vectors = 0;
    Index n = 0;
    if (inside || (rows * per_row - running) * products <= (twice ? rows * parted : 0)) {
      for (Index i = 0; i < rows; ++i)
        for (Index j = 0; j < cols; j += lanes) {
          const Index count = std::min(lanes, cols - j), earlier = inside || twice ? lanes - count : 0;
          source[vectors] = i * pitch + j - earlier;
          first[vectors++] = n;
          ranges[n++] = twice ? LaneRange{0, lanes, i * out_row + j - earlier}
                              : LaneRange{earlier, count, i * out_row + j * out_col};
        }
    } else {
      for (Index v = 0; v < running; ++v) {
        source[vectors] = v * lanes;
        first[vectors++] = n;
        for (Index lane = 0; lane < lanes;) {
          const Index i = (v * lanes + lane) / pitch, j = (v * lanes + lane) % pitch;
          if (i >= rows) break;
          const Index left = std::min(lanes - lane, pitch - j), useful = std::min(left, cols - j);
          if (useful > 0) ranges[n++] = {lane, useful, i * out_row + j * out_col};
          lane += left;
        }
      }
    }
    first[vectors] = n;
    all_whole = true;
    for (Index v = 0; v < vectors && all_whole; ++v)
      all_whole = first[v + 1] == first[v] + 1 && ranges[first[v]].count == lanes;
  }
};

// Adds the useful lanes of one vector of a tile to the output, or starts it, from the bias and what is to be
// added to: in the order of finish_tile, which stores the vectors whose every lane is useful.
template <class T>
void store_lanes(const Correlation<T>& p, const T* tile, Index tile_stride, Index rows, Index filter,
                 const LaneRange& s, bool start, bool finish, T* out) {
  using S = Simd<T>;
  const auto activation = finish ? p.epilogue.activation : Clamp<T>{};
  const bool fresh = start && !p.epilogue.add;
  for (Index m = 0; m < rows; ++m) {
    const T* from = tile + m * tile_stride + s.lane;
    T* to = out + m * p.out_plane + s.to;
    const T initial = start && p.epilogue.bias != nullptr ? p.epilogue.bias[filter + m] : T(0);
    if (s.count == S::size && p.out_col == 1) {
      auto v = S::load(from);
      if (!fresh) v = S::add(v, S::load(to));
      S::store(to, clamp(activation, S::add(v, S::fill(initial))));
    } else if (p.out_col == 1) {
      auto v = S::load(from - s.lane);
      if (!fresh) v = S::add(v, S::load_lanes(to - s.lane, s.lane, s.count));
      S::store_lanes(to - s.lane, clamp(activation, S::add(v, S::fill(initial))), s.lane, s.count);
    } else {
      for (Index l = 0; l < s.count; ++l) {
        const T v = from[l] + (fresh ? T(0) : to[l * p.out_col]) + initial;
        to[l * p.out_col] = clamp(activation, v);
      }
    }
  }
}

// The same for two tiles, of the even and of the odd columns, of which `columns` are left from the range's
// first on.
template <class T>
void store_pairs(const Correlation<T>& p, const T* even, const T* odd, Index tile_stride, Index rows,
                 Index filter, const LaneRange& s, Index columns, bool start, bool finish, T* out) {
  using S = Simd<T>;
  constexpr Index lanes = S::size;
  const auto activation = finish ? p.epilogue.activation : Clamp<T>{};
  const bool fresh = start && !p.epilogue.add;
  const Index last = 2 * s.lane + std::min(2 * s.count, columns);  // of the joined lanes
  const auto part = [&](auto v, T* to, Index half, T initial) {
    const Index begin = std::max(2 * s.lane - half, Index{0}), count = std::min(last - half, lanes) - begin;
    if (count <= 0) return;
    v = S::add(v, S::fill(initial));
    if (!fresh) v = S::add(v, S::load_lanes(to + half, begin, count));
    S::store_lanes(to + half, clamp(activation, v), begin, count);
  };
  for (Index m = 0; m < rows; ++m) {
    T* to = out + m * p.out_plane + s.to - 2 * s.lane;
    const T initial = start && p.epilogue.bias != nullptr ? p.epilogue.bias[filter + m] : T(0);
    typename S::Packet low, high;
    S::join_pairs(S::load(even + m * tile_stride), S::load(odd + m * tile_stride), low, high);
    part(low, to, 0, initial);
    part(high, to, lanes, initial);
  }
}

}  // namespace cnnlib::CNNLIB_ISA
