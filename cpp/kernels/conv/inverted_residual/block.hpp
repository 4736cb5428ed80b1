// An inverted residual in one pass, for inference: the hidden channels, many times as many as those of x and
// out, stay in the caches (Sandler et al. 2018, arXiv:1801.04381, section 5.1).
//
//   hidden = act(x * expand + b)            (N, hidden, H, W)     1x1
//   middle = act(hidden * depthwise + b)    (N, hidden, OH, OW)
//   out    = act(middle * project + b + other)                    1x1
//
// Vector lanes are channels, hidden ones in chunks (weights.hpp), and sums [part][output][filter] += middle *
// project, chunk by chunk:
//
//   hidden  [vector][row and its halo][column][lane]
//   middle  [vector][output][lane]
//
// Where there are images or rows enough for the threads, a task is a band of output rows of an image, or a
// part of its hidden channels, which stay in the caches, chunk by chunk. Bands of few rows would compute most
// of the hidden rows between them twice: there each of the three steps is a loop of its own over all chunks,
// with the same sums.
#pragma once

#include <limits>

#include "kernels/conv/direct/position_tile.hpp"
#include "kernels/conv/inverted_residual/weights.hpp"
#include "kernels/conv/prefetch_ahead.hpp"
#include "machine/processor.hpp"
#include "threads/grid.hpp"

namespace cnnlib::CNNLIB_ISA {

// tile[m][v] (+)= sum over `vectors` vectors and their lanes c of x[m][c] * w[c][v]: m < R outputs whose
// vectors lie side by side, the vectors `block` values apart; rows of the tile `step` values apart.
template <class T, int R, int V>
void project_tile(Index vectors, const T* x, Index block, const T* w, T* tile, Index step, bool add) {
  using Tile = BroadcastTile<T, R, V>;
  constexpr Index lanes = Simd<T>::size;
  Tile sums;
  for (Index b = 0; b < vectors; ++b, x += block)
    for (Index c = 0; c < lanes; c += Tile::columns, w += Tile::columns * V * lanes)
      sums.add_columns(x + c, lanes, w);
  sums.store(tile, step, add);
}

template <class T, int V>
auto project_kernel(Index rows) {
  static constexpr auto table = kernels_by_rows<MR>([](auto R) { return &project_tile<T, R(), V>; });
  return table[rows - 1];
}

template <class T>
class InvertedResidualPass {
  using S = Simd<T>;
  using W = InvertedResidualWeights<T>;
  static constexpr Index lanes = S::size;

 public:
  InvertedResidualPass(const InvertedResidualShape& shape, const InvertedResidualLayers<T>& all_layers)
      : s(shape), d(shape.depthwise), layers(all_layers) {
    stencil.list_x_taps(staged.pitch);
  }

  void run(const T* packed, const T* x, const T* other, T* out) {
    const ScratchOf<Memory> scratch(*this);
    Index* offset = scratch->offsets.data();
    for (Index v = 1; v <= tile_vectors; ++v)
      for (Index c = 0; c < s.C; ++c) offset[(v - 1) * s.C + c] = c * v * lanes;
    const Operands all{packed, x, other, out, offset};
    switch (cut.by) {
      case By::bands: return run_bands(all, scratch);
      case By::parts: return run_parts(all, scratch);
      case By::layers: return run_layers(all, scratch);
    }
  }

 private:
  enum class By { bands, parts, layers };  // parts: of the hidden channels of a band
  struct Cut {
    By by;
    Index bands;  // of an image
  };
  struct Operands {
    const T *packed, *x, *other;
    T* out;
    const Index* offset;
  };
  struct Memory {
    const InvertedResidualPass& m;
    Layout& layout;
    bool layers = m.cut.by == By::layers;
    int owners = layers ? int(m.images) : m.threads;  // images with all of their chunks, or threads
    Index vectors = layers ? m.weights.hidden : W::chunk_vectors;
    Reserved<Index> offsets{layout, tile_vectors * m.s.C};
    ThreadReserved<T> hidden{layout, owners, checked_product(vectors, m.staged.size())};
    ThreadReserved<T> middle{layout, owners, checked_product(vectors, m.middle_size)};
    ThreadReserved<T> sums{layout, m.cut.by == By::parts ? int(m.s.N * m.bands) : m.threads,
                           checked_product(m.weights.parts, m.sums_size)};
    ThreadReserved<T> tile{layout, m.threads, tile_size<T>};
  };
  // What the tiles of a task share.
  struct Work {
    T* tile;
    PrefetchAhead ahead{};  // the next chunk's weights, some with each tile
    Index tiles = 0;        // of this chunk, so far
  };
  // Some outputs of an image, and some vectors of filters: [first, last).
  struct Outputs {
    Index image, first, last, first_filter, last_filter;
    Index width() const { return (last_filter - first_filter) * lanes; }
  };

  // All outputs of band number `band` of all images.
  Outputs outputs_of(Index band) const {
    const Index oh = band % bands * band_rows, rows = std::min(band_rows, d.OH - oh);
    return {band / bands, oh * d.OW, (oh + rows) * d.OW, 0, weights.filters};
  }
  void run_bands(const Operands& o, const ScratchOf<Memory>& scratch) const {
    parallel_for(s.N * bands, threads, [&](Index task, int slot) {
      T* sums = scratch->sums[slot];
      run_chunks(o, outputs_of(task), 0, weights.chunks, scratch, slot, sums);
      finish(o, outputs_of(task), sums);
    });
  }
  // A task has a part of a band's hidden channels; then all threads add the parts up.
  void run_parts(const Operands& o, const ScratchOf<Memory>& scratch) const {
    parallel_grid({s.N * bands, weights.parts}, threads, [&](Index band, Index part, int slot) {
      run_chunks(o, outputs_of(band), weights.first_chunk(part), weights.first_chunk(part + 1), scratch, slot,
                 scratch->sums[band]);
    });
    const Index block = round_up(ceil_div(band_rows * d.OW, threads), lanes),
                blocks = ceil_div(band_rows * d.OW, block);
    parallel_grid({s.N * bands, blocks}, threads, [&](Index band, Index i, int) {
      const Index from = i * block;
      Outputs some = outputs_of(band);
      some.first += from;
      some.last = std::min(some.last, some.first + block);
      finish(o, some, scratch->sums[band] + from * some.width());
    });
  }
  // The sums of a band over chunks [first, last).
  void run_chunks(const Operands& o, const Outputs& outputs, Index first, Index last,
                  const ScratchOf<Memory>& scratch, int slot, T* sums) const {
    T *hidden = scratch->hidden[slot], *middle = scratch->middle[slot];
    Work work{scratch->tile[slot]};
    const Index oh = outputs.first / d.OW, rows = (outputs.last - outputs.first) / d.OW;
    for (Index chunk = first; chunk < last; ++chunk) {
      work.ahead = chunk + 1 < last ? weights_after(o.packed, chunk, rows) : PrefetchAhead();
      work.tiles = 0;
      for (Index v = 0; v < weights.vectors_of(chunk); v += tile_vectors)
        expand(work, o, outputs.image, chunk, v, oh * d.stride_h - d.pad_top, 0, stencil.x_rows(rows),
               hidden);
      for (Index v = 0; v < weights.vectors_of(chunk); ++v)
        filter(o.packed, chunk, v, rows, hidden + v * staged.size(), middle + v * middle_size);
      project(work, o.packed, chunk, outputs, middle, sums);
    }
  }

  void run_layers(const Operands& o, const ScratchOf<Memory>& scratch) const {
    for (Index first = 0; first < s.N; first += images) {
      const Index count = std::min(images, s.N - first);
      expand_images(o, first, count, scratch);
      filter_images(o, count, scratch);
      project_images(o, first, count, scratch);
    }
  }
  void expand_images(const Operands& o, Index first_image, Index count,
                     const ScratchOf<Memory>& scratch) const {
    const Index pairs = ceil_div(weights.hidden, tile_vectors);
    const Panels blocks(staged.rows, rows_of_block(count * pairs, staged.rows));
    parallel_grid({count, pairs, blocks.count}, threads, [&](Index n, Index pair, Index band, int slot) {
      Work work{scratch->tile[slot]};
      const Index chunk = weights.chunk_of(pair * tile_vectors), v = weights.first_vector(chunk),
                  top = blocks.first(band);
      expand(work, o, first_image + n, chunk, pair * tile_vectors - v, -d.pad_top, top,
             top + blocks.rows(band), scratch->hidden[n] + v * staged.size());
    });
  }
  void filter_images(const Operands& o, Index count, const ScratchOf<Memory>& scratch) const {
    const Panels blocks(d.OH, rows_of_block(count * weights.hidden, d.OH));
    parallel_grid({count, weights.hidden, blocks.count}, threads, [&](Index n, Index v, Index block, int) {
      const Index oh = blocks.first(block), chunk = weights.chunk_of(v);
      filter(o.packed, chunk, v - weights.first_vector(chunk), blocks.rows(block),
             scratch->hidden[n] + v * staged.size() + oh * d.stride_h * staged.pitch,
             scratch->middle[n] + v * middle_size + oh * d.OW * lanes);
    });
  }
  void project_images(const Operands& o, Index first_image, Index count,
                      const ScratchOf<Memory>& scratch) const {
    const Index tiles = ceil_div(weights.filters, tile_vectors), all = d.OH * d.OW;
    const Panels blocks(all, rows_of_block(count * tiles, ceil_div(all, MR)) * MR);
    parallel_grid({count, tiles, blocks.count}, threads, [&](Index n, Index tile, Index block, int slot) {
      Work work{scratch->tile[slot]};
      const Index first = blocks.first(block), f = tile * tile_vectors;
      const Outputs outputs{first_image + n, first, first + blocks.rows(block), f,
                            std::min<Index>(f + tile_vectors, weights.filters)};
      const T* middle = scratch->middle[n] + first * lanes;
      T* sums = scratch->sums[slot];
      for (Index chunk = 0; chunk < weights.chunks; ++chunk)
        project(work, o.packed, chunk, outputs, middle + weights.first_vector(chunk) * middle_size, sums);
      finish(o, outputs, sums);
    });
  }
  // Of the blocks into which each of `tasks` tasks of so many rows is cut. What it calls is inlined: it
  // stands outside of the set's namespace.
  [[gnu::flatten]] Index rows_of_block(Index tasks, Index rows) const {
    return rows / splits_for(tasks, rows, threads);
  }

  // Rows [first, last) of staged hidden vectors with their halo, a tile of them from v of the chunk on, where
  // row 0 is row `top` of the image: zero outside of it.
  void expand(Work& work, const Operands& o, Index n, Index chunk, Index v, Index top, Index first,
              Index last, T* hidden) const {
    const Index begin = std::clamp(-top, first, last), end = std::clamp(d.H - top, begin, last);
    const Index count = std::min<Index>(tile_vectors, weights.vectors_of(chunk) - v), pitch = staged.pitch;
    for (Index u = v; u < v + count; ++u) {
      T* rows = hidden + u * staged.size() + staged.margin;
      if (first == 0) std::fill_n(rows - staged.margin, staged.margin, T(0));
      std::fill_n(rows + first * pitch, (begin - first) * pitch, T(0));
      for (Index r = begin; r < end; ++r)
        std::fill_n(rows + r * pitch + d.W * lanes, pitch - d.W * lanes, T(0));
      std::fill_n(rows + end * pitch, (last - end) * pitch, T(0));
    }
    expand_pixels(work, o, o.x + (n * s.C * d.H + top + begin) * d.W, chunk, v, (end - begin) * d.W,
                  hidden + v * staged.size() + staged.margin + begin * pitch);
  }
  // `pixels` pixels of x from the beginning of a row on.
  void expand_pixels(Work& work, const Operands& o, const T* x, Index chunk, Index v, Index pixels,
                     T* to) const {
    const Index count = std::min<Index>(tile_vectors, weights.vectors_of(chunk) - v);
    const T* source[tile_vectors];
    for (Index u = 0; u < count; ++u) source[u] = o.packed + weights.expand(chunk, v) + u * lanes;
    Target<T> target;
    target.row = o.packed + weights.expand_bias(chunk, v);
    target.activation = layers.expand.epilogue.activation;
    const Panels tiles(pixels);
    for (Index i = 0; i < tiles.count; ++i) {
      work.ahead.part(work.tiles++);
      const Index pixel = tiles.first(i), rows = tiles.rows(i), column = pixel % d.W;
      T* at = to + pixel / d.W * staged.pitch + column * lanes;
      const bool in_one_row = column + rows <= d.W;
      for (Index u = 0; u < count; ++u)
        target.to[u] = in_one_row ? at + u * staged.size() : work.tile + u * lanes;
      target.step = (in_one_row ? 1 : count) * lanes;
      const auto kernel = count == tile_vectors ? tile_kernel<T>(rows) : tile_kernel<T, 1>(rows);
      kernel(s.C, x + pixel, d.H * d.W, o.offset + (count - 1) * s.C, source, target);
      if (in_one_row) continue;
      for (Index m = 0, w = column; m < rows; ++m, at += lanes) {
        for (Index u = 0; u < count; ++u)
          S::store(at + u * staged.size(), S::load(work.tile + (m * count + u) * lanes));
        if (++w < d.W) continue;
        w = 0;
        at += staged.pitch - d.W * lanes;
      }
    }
  }
  // The weights of the chunk after this one, in as many shares as a band of so many rows has tiles of this
  // one.
  PrefetchAhead weights_after(const T* packed, Index chunk, Index rows) const {
    const Index tiles =
        ceil_div(stencil.x_rows(rows) * d.W, MR) * ceil_div(weights.vectors_of(chunk), tile_vectors) +
        ceil_div(rows * d.OW, MR) * ceil_div(weights.filters, tile_vectors);
    return {packed + weights.at(chunk + 1), 1, 0, weights.at(chunk + 2) - weights.at(chunk + 1), tiles};
  }

  // `rows` rows of vector v of the chunk, of which `hidden` has what the first one reads.
  void filter(const T* packed, Index chunk, Index v, Index rows, const T* hidden, T* to) const {
    const T* weight = packed + weights.depthwise(chunk, v);
    sum_rows<T>({&stencil.x_taps, weight, weight + weights.taps * lanes, d.stride_w * lanes, lanes, rows,
                 d.stride_h * staged.pitch, d.OW * lanes, layers.depthwise.epilogue.activation},
                d.OW, hidden + staged.margin, to);
    const Index channels = stencil.channels_of(weights.first_vector(chunk) + v);
    if (channels == lanes) return;
    for (Index i = 0; i < rows * d.OW; ++i)  // zero times a weight of zero is zero: no NaN comes in
      S::store(to + i * lanes, S::load_lanes(to + i * lanes, 0, channels));
  }

  // Adds the chunk's products, of `middle` from the first output on, to sums.
  void project(Work& work, const T* packed, Index chunk, const Outputs& outputs, const T* middle,
               T* sums) const {
    const Panels tiles(outputs.last - outputs.first);
    sums += weights.part_of(chunk) * sums_size;
    for (Index f = outputs.first_filter; f < outputs.last_filter; f += tile_vectors) {
      const T* w = packed + weights.project(chunk, f);
      for (Index i = 0; i < tiles.count; ++i) {
        const Index m = tiles.first(i), rows = tiles.rows(i);
        work.ahead.part(work.tiles++);
        const auto kernel = f + tile_vectors <= weights.filters ? project_kernel<T, tile_vectors>(rows)
                                                                : project_kernel<T, 1>(rows);
        kernel(weights.vectors_of(chunk), middle + m * lanes, middle_size, w,
               sums + m * outputs.width() + (f - outputs.first_filter) * lanes, outputs.width(),
               !weights.starts_part(chunk));
      }
    }
  }

  // The sums, turned into planes.
  void finish(const Operands& o, const Outputs& outputs, const T* sums) const {
    Correlation<T> p;  // how planes lie
    p.out_plane = d.OH * d.OW;
    p.out_col = 1;
    p.epilogue = {nullptr, o.other != nullptr, layers.project.epilogue.activation};
    const Index f = outputs.first_filter * lanes, width = outputs.width();
    const Index at = (outputs.image * s.F + f) * p.out_plane + outputs.first;
    const auto sum_of = [=](Index position, Index filter) {
      const T* from = sums + position * width + filter;
      return weights.parts == 2 ? S::add(S::load(from), S::load(from + sums_size)) : S::load(from);
    };
    write_positions(
        p, sum_of, outputs.last - outputs.first, std::min(s.F - f, width),
        o.packed + weights.project_bias() + f, [&](const T* place) { return o.other + (place - o.out); },
        o.out + at);
  }

  // The cut with the smallest work, in products, of the thread that has most. Layer by layer the hidden
  // channels have to stay in the threads' second-level caches.
  Cut choose_cut() const {
    const Index staged_columns = stencil.x_width();
    const double row = double(sizeof(T)) * double(lanes) *
                       (double(W::chunk_vectors) * double(d.stride_h * staged_columns + d.OW) +
                        double(weights.parts * d.OW * weights.filters));
    const double halo = double(sizeof(T)) * double(W::chunk_vectors * staged_columns * lanes * (d.KH - 1));
    const double room = 0.75 * double(l2_for_blocks()) - halo;
    const Index fewest = ceil_div(d.OH, std::clamp<Index>(static_cast<Index>(room / row), 1, d.OH));
    Cut best{By::bands, fewest};
    if (threads == 1) return best;
    const double hidden_row = double(s.C * d.W), output_row = double(d.OW * (weights.taps + s.F));
    constexpr double between_layers = 1.4;  // values that move from core to core (bench/NOTES.md)
    double least = std::numeric_limits<double>::infinity();
    if (image_bytes() <= double(threads) * double(l2_for_blocks())) {
      best = {By::layers, 1};
      least = between_layers * double(s.N) / threads * (double(d.H) * hidden_row + double(d.OH) * output_row);
    }
    const auto consider = [&](By by, Index count, Index parts) {
      const Index rows = ceil_div(d.OH, count), tasks = s.N * ceil_div(d.OH, rows) * parts;
      const double task =
                       double(std::min(d.H, stencil.x_rows(rows))) * hidden_row + double(rows) * output_row,
                   most = double(ceil_div(tasks, threads)) * task / double(parts);
      if (most >= least) return;
      least = most;
      best = {by, count};
    };
    for (Index count = fewest; count <= d.OH; ++count) consider(By::bands, count, 1);
    // Sums of all bands are in memory at a time.
    if (weights.parts > 1 && s.N < threads)
      for (Index count = fewest; count <= d.OH; ++count) consider(By::parts, count, weights.parts);
    return best;
  }
  // Of the hidden channels of an image before and behind the stencil.
  double image_bytes() const {
    return double(sizeof(T)) * double(weights.hidden * lanes) *
           double(stencil.x_rows(d.OH) * stencil.x_width() + d.OH * d.OW);
  }

  InvertedResidualShape s;
  ConvShape d;
  InvertedResidualLayers<T> layers;
  InvertedResidualWeights<T> weights{s};
  ChannelStencil<T> stencil{d};
  int threads = threads_for(
      double(s.N) / 8 *
      (double(d.C) * double(s.C * d.H * d.W) + double(d.C * d.OH * d.OW) * double(weights.taps + s.F)));
  Cut cut = choose_cut();
  Index band_rows = ceil_div(d.OH, cut.bands), bands = ceil_div(d.OH, band_rows);
  Index middle_size = band_rows * d.OW * lanes;  // of a vector
  Index sums_size =                              // of a part
      middle_size * (cut.by == By::layers ? Index{tile_vectors} : weights.filters);
  // Images that are run layer by layer at a time.
  Index images = std::clamp<Index>(Index(double(threads) * double(l2_for_blocks()) / image_bytes()), 1, s.N);
  StagedChannels<T> staged = stencil.x_staging(band_rows);
};

}  // namespace cnnlib::CNNLIB_ISA
