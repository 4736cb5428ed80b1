// Correlation with output positions as the rows of a tile and filters as its vector lanes: rows of an image
// that fit no vector waste nothing.
#pragma once

#include "kernels/conv/direct/block_input.hpp"
#include "kernels/conv/direct/position_tile.hpp"

namespace cnnlib::CNNLIB_ISA {

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
  constexpr Index lanes = Simd<T>::size, staged_bytes = 512 << 10, most_positions = 1024;
  const Index taps = p.rows.count * p.cols.count;
  // Beside weights of one tap there has to be room for the lines of x, which no other tap shares.
  const Index weight_bytes = (taps == 1 ? 16 : 32) << 10;
  FilterBlocks b;
  b.threads = threads_for(p.work());
  Index cols = even_part(p.OW, most_positions), rows = 1;
  const auto fits = [&](Index r, Index c) {
    staging.set_block(r, c);
    return r * c <= most_positions && double(p.C) * staging.channel_size * sizeof(T) <= staged_bytes;
  };
  while (cols > max_rows && !fits(1, cols)) cols = even_part(p.OW, (cols + 1) / 2);
  while (rows < p.OH && fits(std::min(2 * rows, p.OH), cols)) rows = std::min(2 * rows, p.OH);
  // Enough work for every thread to have two pieces: parts of the filters, which read the same input, where
  // the weights are the larger operand; else smaller blocks, as long as they are worth a panel's way to the
  // cache.
  const auto blocks = [&] {
    return p.N * p.groups * ((p.OW + cols - 1) / cols) * ((p.OH + rows - 1) / rows);
  };
  const Index wanted = b.threads > 1 ? 2 * b.threads : 1;
  while (blocks() < wanted && rows * cols >= 8 * max_rows && p.F * taps < p.N * p.OH * p.OW) {
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
  b.most_vectors = std::min(b.vectors, vectors_beside(widest_tile(p.OW, cols)));
  const Index panels = Panels(b.vectors, b.most_vectors).count;
  b.filter_parts = std::min(panels, (wanted + blocks() - 1) / blocks());
  const Index products = weight_bytes / (b.most_vectors * lanes * Index(sizeof(T)));
  b.channels = even_part(p.C, std::clamp<Index>(products / taps, 1, p.C));
  b.chunks = (p.C + b.channels - 1) / b.channels;
  return b;
}

// The weights of filters [first, first + filters) and channels [c0, c0 + channels) of a group, to
// packed[kind of columns][a][c][b][width], zero where there is no filter. `turned` is scratch.
template <class T>
void pack_lanes(const Correlation<T>& p, Index group, Index first, Index filters, Index width, Index c0,
                Index channels, T* turned, T* packed) {
  const Index taps = p.rows.count * p.cols.count;
  const T* w = p.w + group * p.w_group + first * p.w_filter + c0 * p.w_channel;
  if (filters < width)
    for (Index k = 0; k < channels * taps; ++k)
      std::fill(packed + k * width + filters, packed + (k + 1) * width, T(0));
  const bool in_order = p.weights_in_order();
  if (in_order && p.rows.count == 1) return transpose(w, p.w_filter, filters, channels * taps, packed, width);
  if (in_order) transpose(w, p.w_filter, filters, channels * taps, turned, width);
  for (Index c = 0; c < channels; ++c, w += p.w_channel) {
    const T* from = w;  // [tap][filter]
    const Index step = p.w_filter > 1 ? width : 1;
    if (in_order) {
      from = turned + c * taps * width;
    } else if (p.w_filter > 1) {
      transpose_freely(w, p.w_filter, filters, p.w_filter, p.w_end, turned, width);
      from = turned;
    }
    T* to = packed;
    for (Index kind = 0; kind < p.kinds(); ++kind) {
      const Index count = p.taps_of(kind);
      const Index* weight = p.cols.weight + p.first_tap(kind);
      for (Index a = 0; a < p.rows.count; ++a)
        for (Index k = 0; k < count; ++k)
          copy_vectors(from + (p.rows.weight[a] + weight[k]) * step, filters,
                       to + ((a * channels + c) * count + k) * width);
      to += p.rows.count * channels * count * width;
    }
  }
}

// The taps [first, last) of the vertical axis that read row `oh` of the output from inside the image.
struct RowsInside {
  Index first = 0, last;
  RowsInside(const TapAxis& taps, Index oh, Index H) : last(taps.count) {
    const auto outside = [&](Index a) {
      const Index line = oh * taps.stride + taps.at[a];
      return line < 0 || line >= H;
    };
    while (first < last && outside(first)) ++first;
    while (last > first && outside(last - 1)) --last;
  }
};

// Asks for the weights of the next step, rows of bytes, for the second-level cache, a part with each tile.
class PrefetchAhead {
 public:
  PrefetchAhead() = default;
  template <class T>
  PrefetchAhead(const T* data, Index rows, Index row_step, Index row_size, Index parts)
      : data_(reinterpret_cast<const char*>(data)),
        step_(row_step * Index(sizeof(T))),
        row_lines_((row_size * Index(sizeof(T)) + 63) / 64),
        lines_(rows * row_lines_),
        parts_(parts) {}
  void part(Index i) const {
    Index line = first_line(i), left = first_line(i + 1) - line;
    if (left == 0) return;
    const Index row = line / row_lines_;
    line -= row * row_lines_;
    for (const char* at = data_ + row * step_; left > 0; at += step_, line = 0)
      for (; line < row_lines_ && left > 0; ++line, --left) __builtin_prefetch(at + line * 64, 0, 2);
  }
  bool in_one_run() const { return lines_ > 0 && lines_ == row_lines_; }
  // Where part i of a single run begins, and its lines.
  template <class T>
  std::pair<const T*, Index> run(Index i) const {
    const Index first = first_line(i);
    return {reinterpret_cast<const T*>(data_ + first * 64), first_line(i + 1) - first};
  }
  // The same without its first parts.
  PrefetchAhead after(Index parts) const {
    PrefetchAhead rest = *this;
    rest.done_ += parts;
    return rest;
  }

 private:
  Index first_line(Index i) const { return (done_ + i) * lines_ / parts_; }

  const char* data_ = nullptr;
  Index step_ = 0, row_lines_ = 1, lines_ = 0, parts_ = 1, done_ = 0;
};

// A correlation whose work is cut, and its tables.
template <class T>
class FilterCorrelation {
  static constexpr Index lanes = Simd<T>::size;

 public:
  explicit FilterCorrelation(const Correlation<T>& correlation)
      : p(correlation),
        staging(staging_of(p, axis_piece.in(axis_scratch.data()))),
        b(choose_filter_blocks(p, staging)) {
    // offsets[chunk, or the last one][kind of columns][a][c][b]
    Index* offset = offset_piece.in(scratch.data());
    for (const Index channels : {b.channels, p.C - (b.chunks - 1) * b.channels})
      for (Index kind = 0; kind < kinds; ++kind)
        for (Index a = 0; a < p.rows.count; ++a)
          for (Index c = 0; c < channels; ++c)
            for (Index k = 0; k < p.taps_of(kind); ++k) *offset++ = input.offset(c, a, p.first_tap(kind) + k);
  }

  void run() {
    if (weights_pass_by())
      each_panel();
    else
      each_block();
  }

 private:
  // A block of output positions.
  struct Block {
    Index group, oh, ow, rows;
    Panels segments;
    const T* base;  // of its input
    T* out;

    Index tiles() const { return rows * segments.count; }
  };

  // Whether the weights had better be packed panel by panel, each for all positions, than all beforehand: the
  // sums of a panel stay in the second-level cache, the input need not be copied or is less than the weights,
  // it stays there too, or is less than the weights or read less often for the panels than the weights would
  // be for the blocks, and the panels keep every thread busy.
  bool weights_pass_by() const {
    const Index all_positions = p.N * blocks * positions;
    constexpr Index most_positions = 2048, most_input = (1 << 20) / sizeof(T);
    // A thread on its own may have others beside it that stage as much.
    const Index most_staged = (b.threads > 1 ? 8 << 20 : 3 << 20) / Index(sizeof(T));
    return b.chunks > 1 && all_positions <= most_positions &&
           (input.size() == 0 || p.F * taps > p.N * p.H * p.W) &&
           p.N * p.groups * blocks * input.size() <= most_staged &&
           (all_positions * p.groups * p.C <= most_input || all_positions < p.F * taps ||
            positions < width * taps) &&
           keep_busy(p.groups * panels.count, b.threads);
  }

  Index channels_of(Index chunk) const { return std::min(b.channels, p.C - chunk * b.channels); }

  // Block number `task` of [group][image][block]; `staged` is where its input goes if it has to be copied.
  Block block_at(Index task) const {
    const Index group = task / (blocks * p.N), oh = task % blocks / b.col_blocks * staging.rows,
                ow = task % b.col_blocks * staging.cols;
    const Index image = task / blocks % p.N;
    return {group,
            oh,
            ow,
            std::min(staging.rows, p.OH - oh),
            Panels(std::min(staging.cols, p.OW - ow)),
            p.x + image * p.x_image + group * p.C * p.x_plane,
            p.out + image * p.out_image + group * p.F * p.out_plane + oh * p.out_row + ow * p.out_col};
  }
  void stage(Block& block, T* staged) const {
    block.base = input.stage(block.base, block.oh, block.ow, block.rows, block.segments, staged);
  }

  void pack(Index group, Index chunk, Index panel, T* turned, T* to) const {
    const Index first = panels.first(panel) * lanes, size = panels.rows(panel) * lanes;
    pack_lanes(p, group, first, std::min(size, p.F - first), size, chunk * b.channels, channels_of(chunk),
               turned, to);
  }

  // Asks for weights before they are packed.
  PrefetchAhead raw_weights(Index group, Index chunk, Index panel, Index tiles) const {
    if (chunk == b.chunks) {
      chunk = 0;
      ++panel;
    }
    if (panel == panels.count) return {};
    const Index first = panels.first(panel) * lanes,
                filters = std::min(panels.rows(panel) * lanes, p.F - first);
    const T* w = p.w + group * p.w_group + first * p.w_filter + chunk * b.channels * p.w_channel;
    if (p.w_filter > p.w_channel) return {w, filters, p.w_filter, channels_of(chunk) * p.w_channel, tiles};
    return {w, channels_of(chunk), p.w_channel, filters * p.w_filter, tiles};
  }

  // Adds the products of a chunk of channels to the sums of a block and a panel, and writes them after the
  // last chunk. `ahead` asks for what comes next.
  void multiply(const Block& block, Index panel, Index chunk, const T* weights, T* sum, bool scattered,
                const PrefetchAhead& ahead) const {
    const Index size = panels.rows(panel) * lanes, f = panels.first(panel) * lanes;
    const Index channels = channels_of(chunk);
    const bool last_chunk = chunk == b.chunks - 1;
    // Tiles of two vectors ask for something themselves: of scattered input, what the next ones read, else
    // the run of weights that comes next, line by line, as a processor would wait for many at once.
    const bool two = panels.rows(panel) == tile_vectors;
    scattered = scattered && two;
    const bool asks_itself = two && !scattered && kinds == 1 && ahead.in_one_run();
    const T* bias = p.bias != nullptr ? p.bias + block.group * p.F + f : nullptr;
    const Index* offset =
        offset_piece.in(scratch.data()) + (last_chunk && b.chunks > 1 ? b.channels * taps : 0);
    for (Index i = 0, tile = 0; i < block.rows; ++i) {
      const RowsInside inside(p.rows, block.oh + i, p.H);
      for (Index s = 0; s < block.segments.count; ++s, ++tile) {
        const Index j = block.segments.first(s), count = block.segments.rows(s);
        const auto kernel = asks_itself ? asking_position_kernel<T, Asks::later>(count)
                            : scattered ? asking_position_kernel<T, Asks::next_positions>(count)
                                        : position_kernel<T>(count, panels.rows(panel));
        std::pair<const T*, Index> later{nullptr, 0};  // and its lines
        if (asks_itself)
          later = ahead.template run<T>(tile);
        else
          ahead.part(tile);
        const T* from = input.at(block.base, tile, i, j, chunk * b.channels);
        Index before = 0;  // products of other kinds
        for (Index kind = 0; kind < kinds; ++kind) {
          const Index each = channels * p.taps_of(kind), skipped = before + inside.first * each;
          const Index K = (inside.last - inside.first) * each;
          kernel(K, from, offset + skipped, weights + skipped * size, sum + kind * size, kinds * size,
                 chunk > 0, later.first, later.second > 0 ? std::max(K / later.second, Index{1}) : K);
          before += p.rows.count * each;
        }
        if (last_chunk)
          write_positions(
              p, sum, size, kinds == 1 ? count : std::min(2 * count, p.columns - 2 * (block.ow + j)),
              std::min(size, p.F - f), bias, block.out + f * p.out_plane + i * p.out_row + j * p.out_col);
        if (b.chunks > 1) sum += count * kinds * size;
      }
    }
  }

  // All weights are packed, then every thread takes blocks, or parts of the filters for them.
  void each_block() {
    Layout layout;
    const auto packed_piece = layout.array<T>(checked_product(p.groups * b.vectors * lanes, p.C * taps));
    const auto turned_piece = layout.per_thread<T>(b.threads, turned_size);
    const auto staged_piece = layout.per_thread<T>(b.threads, input.size());
    const auto sum_piece =
        layout.per_thread<T>(b.threads, (b.chunks > 1 ? positions : max_rows) * kinds * width);
    const Scratch memory(layout.bytes());
    T* packed = packed_piece.in(memory.data());
    // packed[group][chunk][panel][kind of columns][a][c][b][filter of the panel]
    const auto panel_weights = [&](Index group, Index chunk, Index panel) {
      return packed +
             ((group * p.C + chunk * b.channels) * b.vectors + panels.first(panel) * channels_of(chunk)) *
                 lanes * taps;
    };
    parallel_for(p.groups * b.chunks * panels.count, b.threads, [&](Index task, int slot) {
      const Index chunk = task % b.chunks,
                  panel = task / b.chunks % panels.count;  // a part's panels in a run
      const Index group = task / b.chunks / panels.count;
      pack(group, chunk, panel, turned_piece.of(memory.data(), slot), panel_weights(group, chunk, panel));
    });
    parallel_for(p.N * p.groups * blocks * b.filter_parts, b.threads, [&](Index task, int slot) {
      const Index part = task % b.filter_parts;
      // Images outside, groups inside.
      const Index at = task / b.filter_parts, group = at / blocks % p.groups, image = at / blocks / p.groups;
      Block block = block_at((group * p.N + image) * blocks + at % blocks);
      stage(block, staged_piece.of(memory.data(), slot));
      const Index first = part * panels.count / b.filter_parts * b.chunks,
                  last = (part + 1) * panels.count / b.filter_parts * b.chunks;
      for (Index step = first; step < last; ++step) {
        const Index panel = step / b.chunks, chunk = step % b.chunks, next = step + 1;
        PrefetchAhead ahead;
        if (next < last)
          ahead = {panel_weights(group, next % b.chunks, next / b.chunks), 1, 0,
                   b.channels * taps * panels.rows(panel) * lanes, block.tiles()};
        multiply(block, panel, chunk, panel_weights(group, chunk, panel), sum_piece.of(memory.data(), slot),
                 input.scattered() && step < first + b.chunks, ahead);
      }
    });
  }

  // All input is staged, then every thread takes panels of filters, whose weights never leave its cache.
  void each_panel() {
    const Index images = p.N * blocks;  // blocks of a group
    Layout layout;
    const auto weight_piece = layout.per_thread<T>(b.threads, b.channels * taps * width);
    const auto turned_piece = layout.per_thread<T>(b.threads, turned_size);
    const auto staged_piece = layout.array<T>(checked_product(p.groups * images, input.size()));
    const auto sum_piece = layout.per_thread<T>(b.threads, images * positions * kinds * width);
    const auto block_piece = layout.array<Block>(p.groups * images);
    const Scratch memory(layout.bytes());
    Block* all = block_piece.in(memory.data());
    parallel_for(p.groups * images, input.size() > 0 ? b.threads : 1, [&](Index task, int) {
      all[task] = block_at(task);
      stage(all[task], staged_piece.in(memory.data()) + task * input.size());
    });
    parallel_for(p.groups * panels.count, b.threads, [&](Index task, int slot) {
      const Index group = task / panels.count, panel = task % panels.count;
      T* weights = weight_piece.of(memory.data(), slot);
      Index tiles = 0;
      for (Index i = 0; i < images; ++i) tiles += all[group * images + i].tiles();
      for (Index chunk = 0; chunk < b.chunks; ++chunk) {
        pack(group, chunk, panel, turned_piece.of(memory.data(), slot), weights);
        PrefetchAhead ahead = raw_weights(group, chunk + 1, panel, tiles);
        for (Index i = 0; i < images; ++i) {
          const Block& block = all[group * images + i];
          multiply(block, panel, chunk, weights,
                   sum_piece.of(memory.data(), slot) + i * positions * kinds * width, false, ahead);
          ahead = ahead.after(block.tiles());
        }
      }
    });
  }

  const Correlation<T>& p;
  Layout axes;
  Piece<Index> axis_piece = axes.array<Index>(staging_indices(p));
  Scratch axis_scratch{axes.bytes()};
  Staging staging;
  FilterBlocks b;
  BlockInput<T> input{p, staging};
  Panels panels{b.vectors, b.most_vectors};
  Index taps = p.rows.count * p.cols.count, kinds = p.kinds();
  Index width = b.most_vectors * lanes, positions = staging.rows * staging.cols;
  Index blocks = b.row_blocks * b.col_blocks;  // of an image
  Index turned_size = std::max(p.w_filter + lanes, b.channels* taps) * width;
  Layout layout;
  Piece<Index> offset_piece = layout.array<Index>(2 * b.channels * taps);
  Scratch scratch{layout.bytes()};
};

template <class T>
[[gnu::noinline]] void correlate_filters(const Correlation<T>& p) {
  FilterCorrelation<T>(p).run();
}

}  // namespace cnnlib::CNNLIB_ISA
