// Correlation with filters as the rows of a tile and output positions as its vector lanes.
#pragma once

#include "kernels/conv/direct/correlation.hpp"

namespace cnnlib::CNNLIB_ISA {

// A run of vector lanes and where its outputs go.
struct Segment {
  Index lane, count, to;
};

// The vectors that cover a block of output positions: vector v reads the block's input from source[v] on; its
// useful lanes are segments first[v] to first[v + 1].
struct LanePlan {
  Index rows, cols;  // of the block that the plan is for
  Index vectors;
  Index* source;
  Index* first;
  Segment* segments;

  static Index most_vectors(Index rows, Index cols, Index pitch, Index lanes) {
    return std::max(rows * ((cols + lanes - 1) / lanes), (rows * pitch + lanes - 1) / lanes) + 1;
  }

  // Whether vectors [v, v + count) are useful in every lane, each in one row.
  bool whole(Index v, Index count, Index lanes) const {
    if (v + count > vectors) return false;
    for (Index u = v; u < v + count; ++u)
      if (first[u + 1] != first[u] + 1 || segments[first[u]].count != lanes) return false;
    return true;
  }

  // Either each row starts a vector, or vectors run on over the rows' margins: whichever needs fewer.
  // `inside`: nothing outside a row may be read, so the last vector, where it is not full, begins earlier.
  // `once`: nothing is added to an output later, so that one may be made twice.
  void plan(Index block_rows, Index block_cols, Index pitch, Index lanes, Index out_row, Index out_col,
            bool inside, bool once) {
    if (pitch == block_cols && out_row == block_cols &&
        out_col == 1) {  // rows without margins are one long row
      block_cols *= block_rows;
      block_rows = 1;
    }
    if (rows == block_rows && cols == block_cols) return;
    rows = block_rows;
    cols = block_cols;
    const Index per_row = (cols + lanes - 1) / lanes;
    const Index running = ((rows - 1) * pitch + cols + lanes - 1) / lanes;
    vectors = 0;
    Index n = 0;
    if (inside || rows * per_row <= running) {
      const bool twice = once && out_col == 1 && cols >= lanes;
      for (Index i = 0; i < rows; ++i)
        for (Index j = 0; j < cols; j += lanes) {
          const Index count = std::min(lanes, cols - j), earlier = inside || twice ? lanes - count : 0;
          source[vectors] = i * pitch + j - earlier;
          first[vectors++] = n;
          segments[n++] = twice ? Segment{0, lanes, i * out_row + j - earlier}
                                : Segment{earlier, count, i * out_row + j * out_col};
        }
    } else {
      for (Index v = 0; v < running; ++v) {
        source[vectors] = v * lanes;
        first[vectors++] = n;
        for (Index lane = 0; lane < lanes;) {
          const Index i = (v * lanes + lane) / pitch, j = (v * lanes + lane) % pitch;
          if (i >= rows) break;
          const Index left = std::min(lanes - lane, pitch - j), useful = std::min(left, cols - j);
          if (useful > 0) segments[n++] = {lane, useful, i * out_row + j * out_col};
          lane += left;
        }
      }
    }
    first[vectors] = n;
  }
};

// Adds the useful lanes of one vector of a tile to the output, or starts it from the bias.
template <class T>
void store_lanes(const Correlation<T>& p, const T* tile, Index tile_stride, Index rows, Index filter,
                 const Segment& s, bool start, bool finish, T* out) {
  using S = Simd<T>;
  const bool relu = finish && p.relu;
  for (Index m = 0; m < rows; ++m) {
    const T* from = tile + m * tile_stride + s.lane;
    T* to = out + m * p.out_plane + s.to;
    const T initial = start && p.bias != nullptr ? p.bias[filter + m] : T(0);
    if (s.count == S::size && p.out_col == 1) {
      auto v = S::add(S::load(from), start ? S::fill(initial) : S::load(to));
      if (relu) v = S::relu(v);
      S::store(to, v);
    } else if (p.out_col == 1) {
      auto v = S::add(S::load(from - s.lane),
                      start ? S::fill(initial) : S::load_lanes(to - s.lane, s.lane, s.count));
      if (relu) v = S::relu(v);
      S::store_lanes(to - s.lane, v, s.lane, s.count);
    } else {
      for (Index l = 0; l < s.count; ++l) {
        const T v = from[l] + (start ? initial : to[l * p.out_col]);
        to[l * p.out_col] = relu && v < T(0) ? T(0) : v;
      }
    }
  }
}

// The same for two tiles, of the even and of the odd columns, of which `columns` are left from the segment's
// first on.
template <class T>
void store_pairs(const Correlation<T>& p, const T* even, const T* odd, Index tile_stride, Index rows,
                 Index filter, const Segment& s, Index columns, bool start, bool finish, T* out) {
  using S = Simd<T>;
  constexpr Index lanes = S::size;
  const Index last = 2 * s.lane + std::min(2 * s.count, columns);  // of the joined lanes
  const auto part = [&](auto v, T* to, Index half, T initial) {
    const Index begin = std::max(2 * s.lane - half, Index{0}), count = std::min(last - half, lanes) - begin;
    if (count <= 0) return;
    v = S::add(v, start ? S::fill(initial) : S::load_lanes(to + half, begin, count));
    S::store_lanes(to + half, finish && p.relu ? S::relu(v) : v, begin, count);
  };
  for (Index m = 0; m < rows; ++m) {
    T* to = out + m * p.out_plane + s.to - 2 * s.lane;
    const T initial = start && p.bias != nullptr ? p.bias[filter + m] : T(0);
    typename S::Packet low, high;
    S::join_pairs(S::load(even + m * tile_stride), S::load(odd + m * tile_stride), low, high);
    part(low, to, 0, initial);
    part(high, to, lanes, initial);
  }
}

// How the work of a correlation is cut into blocks that stay in the caches.
struct PixelBlocks {
  Index channels, chunks;  // channels of a chunk
  Index row_blocks, col_blocks, filter_parts;
  int threads;
};

template <class T>
PixelBlocks choose_blocks(const Correlation<T>& p, Staging& staging, const Panels& panels) {
  constexpr Index lanes = Simd<T>::size, panel_size = 512 * max_rows, staged_bytes = 512 << 10, widest = 512;
  const Index taps = p.rows.count * p.cols.count;
  PixelBlocks b;
  b.threads = threads_for(p.work());
  b.channels = even_part(p.C, std::clamp<Index>(panel_size / std::min<Index>(p.F, max_rows) / taps, 1, p.C));
  const Index cols = even_part(p.OW, widest, lanes);
  Index rows = 1;
  const auto bytes = [&](Index r) {
    staging.set_block(r, cols);
    return double(b.channels) * staging.channel_size * sizeof(T);
  };
  while (b.channels > 1 && bytes(1) > staged_bytes) b.channels = (b.channels + 1) / 2;
  while (rows < p.OH && bytes(std::min(2 * rows, p.OH)) <= staged_bytes) rows = std::min(2 * rows, p.OH);
  // Enough blocks for every thread to have two, as long as a block fills a tile's lanes.
  const Index wanted = 2 * b.threads, images = p.N * p.groups * ((p.OW + cols - 1) / cols);
  if (b.threads > 1)
    while (rows > 1 && images * ((p.OH + rows - 1) / rows) < wanted && rows / 2 * cols >= tile_lanes<T>)
      rows /= 2;
  rows = even_part(p.OH, rows);
  staging.set_block(rows, cols);
  b.chunks = (p.C + b.channels - 1) / b.channels;
  b.row_blocks = (p.OH + rows - 1) / rows;
  b.col_blocks = (p.OW + cols - 1) / cols;
  const Index blocks = images * b.row_blocks;
  b.filter_parts =
      blocks >= wanted || b.threads == 1 ? 1 : std::min(panels.count, (wanted + blocks - 1) / blocks);
  return b;
}

// Copies the weights to packed[group][chunk][panel][kind of columns][c, a, b][row of the panel]. Those of
// several classes of dx lie in no such order.
template <class T>
void pack_filters(const Correlation<T>& p, const Panels& panels, const PixelBlocks& b, T* packed) {
  constexpr Index lanes = Simd<T>::size, padded = (max_rows + lanes - 1) / lanes * lanes;
  const Index taps = p.rows.count * p.cols.count;
  const bool turn = p.w_filter > 1 && !p.weights_in_order();
  Layout layout;
  const auto turned_piece = layout.per_thread<T>(b.threads, turn ? (p.w_filter + lanes) * padded : 0);
  const Scratch scratch(layout.bytes());
  parallel_for(p.groups * b.chunks * panels.count, b.threads, [&](Index task, int slot) {
    const Index chunk = task % b.chunks, panel = task / b.chunks % panels.count;  // a part's panels in a run
    const Index group = task / b.chunks / panels.count;
    const Index c0 = chunk * b.channels, c1 = std::min(p.C, c0 + b.channels);
    const Index rows = panels.rows(panel), first = panels.first(panel);
    T* to = packed + (group * p.C + c0) * p.F * taps + first * (c1 - c0) * taps;
    const T* w = p.w + group * p.w_group + first * p.w_filter;
    if (p.weights_in_order()) {
      pack_panel<T>([&](Index m) { return w + m * p.w_filter + c0 * taps; }, rows, (c1 - c0) * taps, to);
      return;
    }
    T* turned = turned_piece.of(scratch.data(), slot);
    for (Index c = c0; c < c1; ++c) {
      const T* from = w + c * p.w_channel;
      if (turn) transpose_freely(from, p.w_filter, rows, p.w_filter, p.w_end, turned, padded);
      T* place = to;
      for (Index kind = 0; kind < p.kinds(); ++kind) {
        const Index count = p.taps_of(kind);
        for (Index a = 0; a < p.rows.count; ++a)
          for (Index k = 0; k < count; ++k) {
            const Index weight = p.rows.weight[a] + p.cols.weight[p.first_tap(kind) + k];
            copy_vectors(turn ? turned + weight * padded : from + weight, rows,
                         place + (((c - c0) * p.rows.count + a) * count + k) * rows);
          }
        place += (c1 - c0) * p.rows.count * count * rows;
      }
    }
  });
}

// Blocks of output positions, in the order in which they are worked off.
template <class T>
struct BlockOrder {
  const Correlation<T>& p;
  Index rows, cols, row_blocks, col_blocks;  // of a block; blocks of an image

  Index each() const { return row_blocks * col_blocks; }
  Index count() const { return p.N * p.groups * each(); }
  Index group(Index i) const { return i / each() % p.groups; }
  Index image(Index i) const { return i / each() / p.groups; }
  Index oh(Index i) const { return i % each() / col_blocks * rows; }
  Index ow(Index i) const { return i % col_blocks * cols; }
  // The channels of a block from c0 on, where tiles read them where they lie.
  const T* input(Index i, Index c0) const {
    return p.x + image(i) * p.x_image + (group(i) * p.C + c0) * p.x_plane + (oh(i) + p.rows.at[0]) * p.x_row +
           ow(i) + p.cols.at[0];
  }
};

template <class T>
[[gnu::noinline]] void correlate_pixels(const Correlation<T>& p) {
  constexpr Index lanes = Simd<T>::size;
  const Index taps = p.rows.count * p.cols.count;
  const Panels panels(p.F);

  Layout axes;
  const auto axis_indices = axes.array<Index>(staging_indices(p));
  const Scratch axis_scratch(axes.bytes());
  Staging staging = staging_of(p, axis_indices.in(axis_scratch.data()));
  const PixelBlocks b = choose_blocks(p, staging, panels);
  const BlockOrder<T> blocks{p, staging.rows, staging.cols, b.row_blocks, b.col_blocks};
  const bool in_place = p.OW >= lanes && reads_in_place(p);
  // Where tiles read x where it lies, its rows of channels are too far apart for a processor to guess what
  // comes next, and on more pages than it has addresses at hand. Tiles of the first panel of filters ask for
  // what the next ones read; but if much of many channels would be read again for the others, they write it
  // down in one run for those, and all panels ask for what the next block reads.
  constexpr Index many_channels = 48;
  constexpr double much = 3.5e6;  // bytes
  const Index panels_at_once = panels.count / b.filter_parts;
  const double read_again = double(panels_at_once - 1) * p.C * p.x_plane * sizeof(T);
  const bool scattered = in_place && vectors_for(panels.rows(panels.count - 1)) == tile_vectors;
  const bool packs = scattered && p.C >= many_channels && read_again >= much;

  const Index plan_vectors = LanePlan::most_vectors(staging.rows, staging.cols, staging.pitch, lanes);
  const Index staged_size = in_place ? 0 : b.channels * staging.channel_size + 2 * tile_lanes<T>;
  Layout layout;
  const auto packed_piece = layout.array<T>(checked_product(p.groups * p.F, p.C * taps));
  const auto offset_piece = layout.array<Index>(b.channels * taps);
  const auto staged_piece = layout.per_thread<T>(b.threads, staged_size);
  const auto run_piece = layout.per_thread<T>(b.threads, packs ? plan_vectors * lanes * b.channels : 0);
  const auto run_offset_piece = layout.array<Index>(packs ? b.channels : 0);
  const auto tile_piece = layout.per_thread<T>(b.threads, p.kinds() * tile_size<T>);
  const auto plan_piece = layout.array<LanePlan>(b.threads);
  const auto source_piece = layout.per_thread<Index>(b.threads, plan_vectors);
  const auto first_piece = layout.per_thread<Index>(b.threads, (plan_vectors + 1));
  const Index plan_segments = plan_vectors * 2 + staging.rows;
  const auto segment_piece = layout.per_thread<Segment>(b.threads, plan_segments);
  const Scratch scratch(layout.bytes());
  T* packed = packed_piece.in(scratch.data());
  Index* offset = offset_piece.in(scratch.data());

  LanePlan* plans = plan_piece.in(scratch.data());
  for (int slot = 0; slot < b.threads; ++slot)
    plans[slot] = {0,
                   0,
                   0,
                   source_piece.of(scratch.data(), slot),
                   first_piece.of(scratch.data(), slot),
                   segment_piece.of(scratch.data(), slot)};
  pack_filters(p, panels, b, packed);
  // offset[kind of columns][c][a][b], the second kind after all channels of the first
  for (Index kind = 0, n = 0; kind < p.kinds(); ++kind)
    for (Index c = 0; c < b.channels; ++c)
      for (Index a = 0; a < p.rows.count; ++a)
        for (Index k = 0; k < p.taps_of(kind); ++k)
          offset[n++] = in_place ? c * p.x_plane
                                 : c * staging.channel_size + staging.tap_offset(a, p.first_tap(kind) + k);

  Index* run_offset = run_offset_piece.in(scratch.data());
  if (packs)
    for (Index c = 0; c < b.channels; ++c) run_offset[c] = c * tile_lanes<T>;

  parallel_for(blocks.count() * b.filter_parts, b.threads, [&](Index task, int slot) {
    const Index part = task % b.filter_parts, block = task / b.filter_parts;
    const Index group = blocks.group(block), image = blocks.image(block);
    const Index oh = blocks.oh(block), ow = blocks.ow(block);
    const Index first_panel = part * panels.count / b.filter_parts,
                last_panel = (part + 1) * panels.count / b.filter_parts;
    T* staged = staged_piece.of(scratch.data(), slot);
    T* run = run_piece.of(scratch.data(), slot);
    T* tile = tile_piece.of(scratch.data(), slot);
    LanePlan& lane_plan = plans[slot];
    lane_plan.plan(std::min(staging.rows, p.OH - oh), std::min(staging.cols, p.OW - ow),
                   in_place ? p.x_row : staging.pitch, lanes, p.out_row, p.out_col, in_place, b.chunks == 1);
    const T* x = p.x + image * p.x_image + group * p.C * p.x_plane;
    T* out = p.out + image * p.out_image + group * p.F * p.out_plane + oh * p.out_row + ow * p.out_col;
    for (Index chunk = 0; chunk < b.chunks; ++chunk) {
      const Index c0 = chunk * b.channels, channels = std::min(b.channels, p.C - c0);
      const T *input = staged, *next = nullptr;
      if (in_place) {
        input = next = blocks.input(block, c0);
        if (packs && chunk + 1 < b.chunks)
          next = blocks.input(block, c0 + b.channels);
        else if (packs && block + 1 < blocks.count() && b.filter_parts == 1)
          next = blocks.input(block + 1, 0);
      } else {
        for (Index c = 0; c < channels; ++c)
          stage_plane(x + (c0 + c) * p.x_plane, p.H, p.W, p.x_row, staging, oh, ow,
                      staged + c * staging.channel_size);
        // Lanes without an output read on: whatever old bits lie there may be denormal, and slow.
        std::fill_n(staged + channels * staging.channel_size, 2 * tile_lanes<T>, T(0));
      }
      const T* chunk_filters = packed + (group * p.C + c0) * p.F * taps;
      for (Index panel = first_panel; panel < last_panel; ++panel) {
        const Index rows = panels.rows(panel), f = panels.first(panel);
        Index together = vectors_for(rows);
        const bool from_run = packs && panel > first_panel;
        const bool asks = scattered && panel == first_panel;
        auto kernel = from_run ? tile_kernel<T, tile_vectors, Ahead::fetch>(rows)
                      : packs  ? tile_kernel<T, tile_vectors, Ahead::pack>(rows)
                      : asks   ? tile_kernel<T, tile_vectors, Ahead::next>(rows)
                               : wide_tile_kernel<T>(rows);
        for (Index v = 0; v < lane_plan.vectors; v += together) {
          if (together == tile_vectors && v + 1 == lane_plan.vectors) {  // a last vector on its own
            kernel = tile_kernel<T, 1>(rows);
            together = 1;
          }
          const T* source[most_vectors];
          for (Index u = 0; u < together; ++u)
            source[u] = input + lane_plan.source[std::min(v + u, lane_plan.vectors - 1)];
          const T* filters = chunk_filters + f * channels * taps;
          auto target = Target<T>::rows(tile, together);
          const Index* at = offset;
          if (packs && together == tile_vectors) {
            const Index parts = last_panel - first_panel;  // of a tile's channels
            target.fetch = {next + lane_plan.source[v], offset + channels * (panel - first_panel) / parts,
                            parts, run + v * lanes * channels};
            if (from_run) {
              at = run_offset;
              for (Index u = 0; u < together; ++u) source[u] = target.fetch.packed + u * lanes;
            }
          }
          if (p.out_col == 1 && lane_plan.whole(v, together, lanes)) {
            for (Index u = 0; u < together; ++u)
              target.to[u] = out + f * p.out_plane + lane_plan.segments[lane_plan.first[v + u]].to;
            target.step = p.out_plane;
            target.add = chunk > 0;
            target.bias = chunk == 0 && p.bias != nullptr ? p.bias + group * p.F + f : nullptr;
            target.relu = p.relu && chunk == b.chunks - 1;
            kernel(channels * taps, filters, rows, at, source, target);
            continue;
          }
          if (p.kinds() == 2) {
            const Index even = channels * p.rows.count * p.even_taps;
            kernel(even, filters, rows, offset, source, target);
            for (Index u = 0; u < together; ++u) target.to[u] += tile_size<T>;
            kernel(channels * taps - even, filters + even * rows, rows,
                   offset + b.channels * p.rows.count * p.even_taps, source, target);
            for (Index u = 0; u < together && v + u < lane_plan.vectors; ++u)
              for (Index s = lane_plan.first[v + u]; s < lane_plan.first[v + u + 1]; ++s) {
                const Segment& segment = lane_plan.segments[s];
                store_pairs(p, tile + u * lanes, tile + tile_size<T> + u * lanes, together * lanes, rows,
                            group * p.F + f, segment, p.columns - 2 * ow - segment.to % p.out_row, chunk == 0,
                            chunk == b.chunks - 1, out + f * p.out_plane);
              }
            continue;
          }
          kernel(channels * taps, filters, rows, at, source, target);
          for (Index u = 0; u < together && v + u < lane_plan.vectors; ++u)
            for (Index s = lane_plan.first[v + u]; s < lane_plan.first[v + u + 1]; ++s)
              store_lanes(p, tile + u * lanes, together * lanes, rows, group * p.F + f, lane_plan.segments[s],
                          chunk == 0, chunk == b.chunks - 1, out + f * p.out_plane);
        }
      }
    }
  });
}

}  // namespace cnnlib::CNNLIB_ISA
