// Correlation with output positions as the rows of a tile and filters as its vector lanes: rows of an image
// that fit no vector waste nothing.
#pragma once

#include "correlation.hpp"

namespace cnnlib::CNNLIB_ISA {

constexpr int tile_registers = max_rows * tile_vectors;

// tile[m][v] = (add ? tile[m][v] : 0) + sum over k of x[offset[k] + m] * w[k][v], m < R, v < V vectors.
template <class T, int R, int V>
void multiply_positions(Index K, const T* x, const Index* offset, const T* w, T* tile, bool add) {
  using S = Simd<T>;
  typename S::Packet sum[R][V];
#pragma GCC unroll 16
  for (int m = 0; m < R; ++m)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) sum[m][v] = S::zero();
  for (Index k = 0; k < K; ++k, w += V * S::size) {
    const T* xk = x + offset[k];
    typename S::Packet wk[V];
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) wk[v] = S::load(w + v * S::size);
#pragma GCC unroll 16
    for (int m = 0; m < R; ++m) {
      const auto xm = S::fill(xk[m]);
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sum[m][v] = S::fma(xm, wk[v], sum[m][v]);
    }
  }
  if (add) {
#pragma GCC unroll 16
    for (int m = 0; m < R; ++m)
#pragma GCC unroll 4
      for (int v = 0; v < V; ++v) sum[m][v] = S::add(sum[m][v], S::load(tile + (m * V + v) * S::size));
  }
#pragma GCC unroll 16
  for (int m = 0; m < R; ++m)
#pragma GCC unroll 4
    for (int v = 0; v < V; ++v) S::store(tile + (m * V + v) * S::size, sum[m][v]);
}

template <class T>
using PositionKernel = void (*)(Index K, const T* x, const Index* offset, const T* w, T* tile, bool add);

template <class T, int V, int... R>
constexpr std::array<PositionKernel<T>, sizeof...(R)> position_kernels(std::integer_sequence<int, R...>) {
  return {&multiply_positions<T, R + 1, V>...};
}

// The kernel for `rows` positions of `vectors` vectors, as vectors_beside() allows.
template <class T>
PositionKernel<T> position_kernel(Index rows, Index vectors) {
  const auto up_to = [](int V) { return std::min(max_rows, tile_registers / V); };
  static constexpr auto one = position_kernels<T, 1>(std::make_integer_sequence<int, up_to(1)>());
  static constexpr auto two = position_kernels<T, 2>(std::make_integer_sequence<int, up_to(2)>());
  static constexpr auto three = position_kernels<T, 3>(std::make_integer_sequence<int, up_to(3)>());
  static constexpr auto four = position_kernels<T, 4>(std::make_integer_sequence<int, up_to(4)>());
  return vectors == 1   ? one[rows - 1]
         : vectors == 2 ? two[rows - 1]
         : vectors == 3 ? three[rows - 1]
                        : four[rows - 1];
}

// The vectors of a tile of at most `rows` positions.
inline Index vectors_beside(Index rows) { return std::clamp<Index>(tile_registers / rows, 1, 4); }

// out[filter][position] <- bias + tile[position][filter], through ReLU if asked; `bias` for these filters.
template <class T>
void write_positions(const Correlation<T>& p, const T* tile, Index width, Index positions, Index filters,
                     const T* bias, T* out) {
  using S = Simd<T>;
  constexpr int lanes = S::size;
  for (Index f = 0; f < filters; f += lanes) {
    const Index count = std::min<Index>(lanes, filters - f);
    const auto start = bias != nullptr ? S::load_lanes(bias + f, 0, count) : S::zero();
    const auto finished = [&](Index position) {
      const auto v = S::add(S::load(tile + position * width + f), start);
      return p.relu ? S::relu(v) : v;
    };
    T* to = out + f * p.out_plane;
    for (Index first = 0; first < positions; first += lanes) {
      const Index rows = std::min<Index>(lanes, positions - first);
      Eigen::internal::PacketBlock<typename S::Packet, lanes> square;
#pragma GCC unroll 16
      for (int i = 0; i < lanes; ++i) square.packet[i] = finished(first + std::min<Index>(i, rows - 1));
      Eigen::internal::ptranspose(square);
      if (p.out_col == 1) {
#pragma GCC unroll 16
        for (int i = 0; i < lanes; ++i)
          if (i < count) S::store_lanes(to + i * p.out_plane + first, square.packet[i], 0, rows);
        continue;
      }
      T turned[lanes * lanes];
#pragma GCC unroll 16
      for (int i = 0; i < lanes; ++i) S::store(turned + i * lanes, square.packet[i]);
      for (Index i = 0; i < count; ++i)
        for (Index j = 0; j < rows; ++j)
          to[i * p.out_plane + (first + j) * p.out_col] = turned[i * lanes + j];
    }
  }
}

// How the work is cut: into blocks whose input stays in the second-level cache for all filters, and into
// panels of filters and chunks of channels whose weights stay in the first-level cache for all tiles.
struct FilterBlocks {
  Index row_blocks, col_blocks, filter_parts;
  Index vectors, most_vectors;  // of all filters; of a panel
  Index channels, chunks;       // channels of a chunk
  int threads;
};

template <class T>
FilterBlocks choose_filter_blocks(const Correlation<T>& p, Staging& staging) {
  constexpr Index lanes = Simd<T>::size, staged_bytes = 512 << 10, weight_bytes = 32 << 10,
                  most_positions = 1024;
  const Index taps = p.rows.count * p.cols.count;
  FilterBlocks b;
  b.threads = threads_for(2.0 / 16 * p.N * p.groups * p.F * p.OH * p.OW * p.C * taps);
  Index cols = even_part(p.OW, most_positions), rows = 1;
  const auto fits = [&](Index r, Index c) {
    staging.set_block(r, c);
    return r * c <= most_positions && double(p.C) * staging.channel_size * sizeof(T) <= staged_bytes;
  };
  while (cols > max_rows && !fits(1, cols)) cols = even_part(p.OW, (cols + 1) / 2);
  while (rows < p.OH && fits(std::min(2 * rows, p.OH), cols)) rows = std::min(2 * rows, p.OH);
  // Enough blocks for every thread to have two, as long as they are worth a panel's way to the cache.
  const auto blocks = [&] {
    return p.N * p.groups * ((p.OW + cols - 1) / cols) * ((p.OH + rows - 1) / rows);
  };
  const Index wanted = b.threads > 1 ? 2 * b.threads : 1;
  while (blocks() < wanted && rows * cols >= 8 * max_rows) {
    if (rows > 1)
      rows = (rows + 1) / 2;
    else
      cols = (cols + 1) / 2;
  }
  rows = even_part(p.OH, rows);
  cols = even_part(p.OW, cols);
  staging.set_block(rows, cols);
  b.row_blocks = (p.OH + rows - 1) / rows;
  b.col_blocks = (p.OW + cols - 1) / cols;
  b.vectors = (p.F + lanes - 1) / lanes;
  b.most_vectors = std::min(b.vectors, vectors_beside(Panels(cols).rows(0)));
  const Index panels = Panels(b.vectors, b.most_vectors).count;
  b.filter_parts = std::min(panels, (wanted + blocks() - 1) / blocks());
  const Index products = weight_bytes / (b.most_vectors * lanes * Index(sizeof(T)));
  b.channels = even_part(p.C, std::clamp<Index>(products / taps, 1, p.C));
  b.chunks = (p.C + b.channels - 1) / b.channels;
  return b;
}

// The weights of filters [first, first + filters) and channels [c0, c0 + channels) of a group, to
// packed[c, a, b][width], zero where there is no filter. `turned` has room for (w_filter + size) * width.
template <class T>
void pack_lanes(const Correlation<T>& p, Index group, Index first, Index filters, Index width, Index c0,
                Index channels, T* turned, T* packed) {
  const Index taps = p.rows.count * p.cols.count;
  const T* w = p.w + group * p.w_group + first * p.w_filter + c0 * p.w_channel;
  if (filters < width)
    for (Index k = 0; k < channels * taps; ++k)
      std::fill(packed + k * width + filters, packed + (k + 1) * width, T(0));
  if (p.w_channel == taps) return transpose(w, p.w_filter, filters, channels * taps, packed, width);
  const T* end = p.w + p.groups * p.w_group;
  for (Index c = 0; c < channels; ++c, w += p.w_channel) {
    if (p.w_filter > 1) transpose_freely(w, p.w_filter, filters, p.w_filter, end, turned, width);
    const T* from = p.w_filter > 1 ? turned : w;
    for (Index a = 0; a < p.rows.count; ++a)
      for (Index k = 0; k < p.cols.count; ++k, packed += width)
        std::copy_n(from + (p.rows.weight[a] + p.cols.weight[k]) * width, filters, packed);
  }
}

// The input of a block as tiles read it. With several taps these are the staging planes, whose neighbouring
// positions share them; a single tap gets panels[tile][channel][position], which are read in one run.
template <class T>
class BlockInput {
  static constexpr Index lanes = Simd<T>::size;

 public:
  BlockInput(const Correlation<T>& correlation, const Staging& planes)
      : p(correlation),
        staging(planes),
        single(p.rows.count * p.cols.count == 1),
        pitch(Panels(staging.cols).rows(0)),
        panel_size(p.C * pitch + lanes) {}

  Index size() const {
    return single ? staging.rows * Panels(staging.cols).count * panel_size : p.C * staging.channel_size;
  }
  Index offset(Index c, Index a, Index k) const {
    return single ? c * pitch : c * staging.channel_size + staging.tap_offset(a, k);
  }
  // Where tile number `tile`, which begins at (row, col) of the block, reads channels from c0 on.
  const T* at(const T* staged, Index tile, Index row, Index col, Index c0) const {
    return single ? staged + tile * panel_size + c0 * pitch
                  : staged + c0 * staging.channel_size + row * staging.pitch + col;
  }

  void stage(const T* x, Index oh, Index ow, Index rows, const Panels& segments, T* staged) const {
    for (Index c = 0; c < p.C; ++c, x += p.x_plane) {
      if (!single) {
        stage_plane(x, p.H, p.W, p.x_row, staging, oh, ow, staged + c * staging.channel_size);
        continue;
      }
      T* to = staged + c * pitch;
      for (Index i = 0; i < rows; ++i) {
        const Index line = (oh + i) * p.rows.stride + p.rows.at[0];
        const T* row = line >= 0 && line < p.H ? x + line * p.x_row : nullptr;
        for (Index s = 0; s < segments.count; ++s, to += panel_size)
          stage_segment(row, (ow + segments.first(s)) * p.cols.stride + p.cols.at[0], segments.rows(s), to);
      }
    }
  }

 private:
  // Whole vectors are written: what follows belongs to the next channel, which comes later, or to nobody.
  void stage_segment(const T* row, Index start, Index count, T* to) const {
    using S = Simd<T>;
    const Index stride = p.cols.stride;
    if (row != nullptr && stride <= 2 && start >= 0) {
      Index j = 0;
      for (; j < count && start + stride * (j + lanes) <= p.W; j += lanes) {
        typename S::Packet even, odd;
        if (stride == 1)
          even = S::load(row + start + j);
        else
          S::load_pairs(row + start + 2 * j, even, odd);
        S::store(to + j, even);
      }
      if (j >= count) return;
    }
    for (Index j = 0; j < count; ++j) {
      const Index column = start + j * stride;
      to[j] = row != nullptr && column >= 0 && column < p.W ? row[column] : T(0);
    }
  }

  const Correlation<T>& p;
  const Staging& staging;
  bool single;
  Index pitch, panel_size;
};

template <class T>
void correlate_filters(const Correlation<T>& p) {
  constexpr Index lanes = Simd<T>::size;
  const Index taps = p.rows.count * p.cols.count;
  Layout axes;
  const auto axis_indices = axes.array<Index>(3 * (p.rows.count + p.cols.count));
  const Scratch axis_scratch(axes.bytes());
  Staging staging;
  staging.y.assign(axis_indices.in(axis_scratch.data()), p.rows.count);
  staging.x.assign(axis_indices.in(axis_scratch.data()) + 3 * p.rows.count, p.cols.count);
  staging.plan(p.rows, p.cols);
  const FilterBlocks b = choose_filter_blocks(p, staging);
  const BlockInput<T> input(p, staging);
  const Panels panels(b.vectors, b.most_vectors);
  const Index width = b.most_vectors * lanes, positions = staging.rows * staging.cols;

  Layout layout;
  const auto packed_piece = layout.array<T>(checked_product(p.groups * b.vectors * lanes, p.C * taps));
  const auto turned_piece = layout.per_thread<T>(b.threads, (p.w_filter + lanes) * width);
  const auto offset_piece = layout.array<Index>(b.channels * taps);
  const auto staged_piece = layout.per_thread<T>(b.threads, input.size());
  const auto sum_piece = layout.per_thread<T>(b.threads, (b.chunks > 1 ? positions : max_rows) * width);
  const Scratch scratch(layout.bytes());
  T* packed = packed_piece.in(scratch.data());
  Index* offset = offset_piece.in(scratch.data());
  for (Index c = 0; c < b.channels; ++c)
    for (Index a = 0; a < p.rows.count; ++a)
      for (Index k = 0; k < p.cols.count; ++k) *offset++ = input.offset(c, a, k);
  offset = offset_piece.in(scratch.data());

  // packed[group][chunk][panel][c, a, b][filter of the panel]
  const auto panel_weights = [&](Index group, Index c0, Index channels, Index panel) {
    return packed + ((group * p.C + c0) * b.vectors + panels.first(panel) * channels) * lanes * taps;
  };
  parallel_for(p.groups * b.chunks * panels.count, b.threads, [&](Index task, int slot) {
    const Index panel = task % panels.count, chunk = task / panels.count % b.chunks;
    const Index group = task / panels.count / b.chunks;
    const Index c0 = chunk * b.channels, channels = std::min(b.channels, p.C - c0);
    const Index first = panels.first(panel) * lanes, size = panels.rows(panel) * lanes;
    pack_lanes(p, group, first, std::min(size, p.F - first), size, c0, channels,
               turned_piece.of(scratch.data(), slot), panel_weights(group, c0, channels, panel));
  });

  const Index blocks = b.row_blocks * b.col_blocks;
  parallel_for(p.N * p.groups * blocks * b.filter_parts, b.threads, [&](Index task, int slot) {
    const Index part = task % b.filter_parts, block = task / b.filter_parts % blocks;
    const Index group = task / b.filter_parts / blocks % p.groups,
                image = task / b.filter_parts / blocks / p.groups;
    const Index oh = block / b.col_blocks * staging.rows, ow = block % b.col_blocks * staging.cols;
    const Index rows = std::min(staging.rows, p.OH - oh);
    const Panels segments(std::min(staging.cols, p.OW - ow));
    T* staged = staged_piece.of(scratch.data(), slot);
    T* sums = sum_piece.of(scratch.data(), slot);
    const T* x = p.x + image * p.x_image + group * p.C * p.x_plane;
    input.stage(x, oh, ow, rows, segments, staged);
    T* out = p.out + image * p.out_image + group * p.F * p.out_plane + oh * p.out_row + ow * p.out_col;
    const Index last_panel = (part + 1) * panels.count / b.filter_parts;
    for (Index panel = part * panels.count / b.filter_parts; panel < last_panel; ++panel) {
      const Index size = panels.rows(panel) * lanes, f = panels.first(panel) * lanes;
      const T* bias = p.bias != nullptr ? p.bias + group * p.F + f : nullptr;
      for (Index chunk = 0; chunk < b.chunks; ++chunk) {
        const Index c0 = chunk * b.channels, channels = std::min(b.channels, p.C - c0);
        const T* weights = panel_weights(group, c0, channels, panel);
        T* sum = sums;
        for (Index i = 0, tile = 0; i < rows; ++i)
          for (Index s = 0; s < segments.count; ++s, ++tile) {
            const Index j = segments.first(s), count = segments.rows(s);
            position_kernel<T>(count, panels.rows(panel))(channels * taps, input.at(staged, tile, i, j, c0),
                                                          offset, weights, sum, chunk > 0);
            if (chunk == b.chunks - 1)
              write_positions(p, sum, size, count, std::min(size, p.F - f), bias,
                              out + f * p.out_plane + i * p.out_row + j * p.out_col);
            if (b.chunks > 1) sum += count * size;
          }
      }
    }
  });
}

}  // namespace cnnlib::CNNLIB_ISA
