// Products of large matrices by packing and the micro-kernel. What the threads share, and what each takes,
// depends on the sides of c.
#pragma once

#include "kernels/gemm/packing.hpp"
#include "kernels/gemm/skinny_product.hpp"
#include "threads/grid.hpp"

namespace cnnlib::CNNLIB_ISA {

// The target of some rows and one panel of columns, which lie `step` apart from `to` on.
template <class T>
Target<T> panel_target(T* to, Index step) {
  auto target = Target<T>::rows(to, tile_vectors);
  target.step = step;
  return target;
}
// That of a chunk in c, from row m and column n on.
template <class T>
Target<T> target_in_c(const MatrixProduct<T>& p, Index m, Index n, Index chunk) {
  auto target = panel_target(p.c + m * p.N + n, p.N);
  if (chunk == 0 && p.bias != nullptr) target.row = p.bias + n;
  target.add = chunk > 0;
  if (chunk == p.sum.chunks - 1) target.activation = p.activation;
  return target;
}

// A tile of `height` rows to the first `width` columns of a target; the tile's rows lie `step` apart.
template <class T>
void store_narrow(const T* tile, Index step, Index height, const Target<T>& target, Index width) {
  using S = Simd<T>;
  for (Index i = 0; i < height; ++i)
    for (Index l = 0; l < width; l += S::size) {
      const Index count = std::min<Index>(S::size, width - l);
      T* to = target.to[0] + i * target.step + l;
      auto v = S::load(tile + i * step + l);
      if (target.add || target.row != nullptr)
        v = S::add(v, S::load_lanes(target.add ? to : target.row + l, 0, count));
      S::store_lanes(to, clamp(target.activation, v), 0, count);
    }
}

// One chunk of `rows` packed rows times one panel of columns, of which there are `width` (or more, then all
// are stored), whose terms lie at `offset`.
template <class T>
void multiply_panel(const T* packed_a, Index rows, Index terms, const T* columns, const Index* offset,
                    Target<T> target, Index width, T* tile) {
  const Panels panels(rows);
  const T* source[tile_vectors];
  for (int u = 0; u < tile_vectors; ++u) source[u] = columns + u * Simd<T>::size;
  const bool narrow = width <= Simd<T>::size, whole = width >= NR<T>;
  const auto of_tile = Target<T>::rows(tile, narrow ? 1 : tile_vectors);
  for (Index panel = 0; panel < panels.count; ++panel) {
    const Index height = panels.rows(panel);
    const auto kernel = narrow ? packed_tile_kernel<T, 1>(height) : packed_tile_kernel<T>(height);
    kernel(terms, packed_a, height, offset, source, whole ? target : of_tile);
    if (!whole) store_narrow(tile, of_tile.step, height, target, width);
    packed_a += height * terms;
    for (int u = 0; u < tile_vectors; ++u) target.to[u] += height * target.step;
  }
}

// Blocks for a product of many rows: a block of rows is a thread's task; a group of panels of b is packed for
// all of them.
template <class T>
struct ProductBlocks {
  Index rows, count;  // of a block; blocks
  Index group;        // panels
  // Multiply row panel by row panel instead of column panel by column panel: where the sums are short,
  // writing c is the work, and goes on along its rows.
  bool along_rows;

  ProductBlocks(const MatrixProduct<T>& p, int threads) {
    constexpr Index block_rows = 10 * MR;        // whose packed chunk stays in the second-level cache
    constexpr Index group_bytes = 4 << 20;       // of packed b, in the last-level cache
    constexpr Index smallest_group = 4;          // panels, for which a is packed again
    constexpr Index short_sum = 64;              // terms
    constexpr Index cached_b_bytes = 512 << 10;  // of b, read anew for every row panel
    const Index panels = ceil_div(p.M, MR);
    const Index least = std::max<Index>(ceil_div(p.M, block_rows), 2 * threads);
    count = std::min(round_up(least, threads), panels);  // as many for each thread
    rows = ceil_div(p.M, count);
    group = std::clamp<Index>(group_bytes / (std::max<Index>(1, p.K) * p.lanes * Index(sizeof(T))),
                              std::min(smallest_group, p.panels()), p.panels());
    along_rows = p.K <= short_sum && p.K * p.N * Index(sizeof(T)) <= cached_b_bytes;
  }
};

// Many rows: the threads pack a group of b's panels, then take blocks of rows, which they pack themselves.
template <class T>
std::size_t product_by_row_blocks(const MatrixProduct<T>& p) {
  const int threads = p.threads();
  const ProductBlocks<T> blocks(p, threads);
  const Index chunks = p.sum.chunks, panel_size = p.panel_size();
  Layout layout;
  const ThreadReserved<T> a_memory(layout, threads, p.packed_rows(blocks.rows));
  const ThreadReserved<T> tile_memory(layout, threads, tile_size<T>);
  const Reserved<T> b_memory(layout, checked_product(blocks.group * p.lanes, chunks * p.sum.most()));
  const Reserved<Index> offset_memory(layout, p.sum.most());
  if (p.c == nullptr) return layout.bytes();
  const LayoutMemory memory(layout);
  T* packed_b = b_memory.data();  // [panel][chunk][k][lane]
  Index* offset = offset_memory.data();
  for (Index k = 0; k < p.sum.most(); ++k) offset[k] = k * p.lanes;

  for (Index first = 0; first < p.panels(); first += blocks.group) {
    const Index panels = std::min(blocks.group, p.panels() - first);
    parallel_grid({ceil_div(panels, p.strip()), chunks}, threads, [&](Index strip, Index chunk, int) {
      const Index panel = strip * p.strip();
      pack_b(p, {first + panel, first + std::min(panels, panel + p.strip())}, chunk,
             packed_b + (panel * chunks + chunk) * panel_size, chunks * panel_size);
    });
    parallel_for(blocks.count, threads, [&](Index block, int slot) {
      const Index m0 = block * blocks.rows, height = std::min(blocks.rows, p.M - m0);
      if (height <= 0) return;
      T *packed_a = a_memory[slot], *tile = tile_memory[slot];
      for (Index chunk = 0; chunk < chunks; ++chunk) {
        pack_a(p, m0, height, chunk, packed_a);
        const Panels parts(height, blocks.along_rows ? MR : height);
        for (Index part = 0; part < parts.count; ++part)
          for (Index panel = 0; panel < panels; ++panel) {
            const Index m = parts.first(part), n = (first + panel) * p.lanes;
            multiply_panel<T>(packed_a + m * p.sum.count(chunk), parts.rows(part), p.sum.count(chunk),
                              packed_b + (panel * chunks + chunk) * panel_size, offset,
                              target_in_c(p, m0 + m, n, chunk), p.N - n, tile);
          }
      }
    });
  }
  return layout.bytes();
}

// Multiplies packed rows by panels of b's columns, which the thread packs just before, a strip at a time. For
// few rows, columns that lie side by side are read in place instead: a copy would not be used often. Two
// panels of rows read them twice, which rows that lie whole pages apart do not stay in a cache for, as they
// share a few of its sets.
template <class T>
class ColumnPanels {
  static constexpr Index page_bytes = 4096;

 public:
  ColumnPanels(const MatrixProduct<T>& product, int threads, Layout& layout)
      : p(product),
        in_place(p.b.col == 1 && p.M <= (p.b.row * Index(sizeof(T)) % page_bytes == 0 ? 1 : 2) * MR),
        strip(in_place ? 1 : std::clamp<Index>(p.panels() / (2 * threads), 1, p.strip())),
        b_memory(layout, threads, strip * p.panel_size()),
        tile_memory(layout, threads, tile_size<T>),
        offset_memory(layout, 2 * p.sum.most()) {}

  // To be called once, when the layout has memory.
  void fill_offsets() {
    packed_offset = offset_memory.data();
    row_offset = packed_offset + p.sum.most();
    for (Index k = 0; k < p.sum.most(); ++k) {
      packed_offset[k] = k * p.lanes;
      row_offset[k] = k * p.b.row;
    }
  }

  Index strips() const { return ceil_div(p.panels(), strip); }
  // A chunk of all rows times the strips [own.first, own.last), of which target_of(n) is the panel from
  // column n on.
  template <class TargetOf>
  void multiply(const T* packed_a, Index chunk, Range own, const TargetOf& target_of, int slot) const {
    for (Index first = own.first * strip; first < std::min(own.last * strip, p.panels()); first += strip) {
      const Range panels{first, std::min(p.panels(), first + strip)};
      const bool direct = in_place && panels.last * p.lanes <= p.N;
      if (!direct) pack_b(p, panels, chunk, b_memory[slot], p.panel_size());
      for (Index panel = panels.first; panel < panels.last; ++panel) {
        const Index n = panel * p.lanes;
        multiply_panel<T>(packed_a, p.M, p.sum.count(chunk),
                          direct ? p.b_chunk(chunk) + n : b_memory[slot] + (panel - first) * p.panel_size(),
                          direct ? row_offset : packed_offset, target_of(n), p.N - n, tile_memory[slot]);
      }
    }
  }

 private:
  const MatrixProduct<T>& p;
  bool in_place;
  Index strip;  // panels
  ThreadReserved<T> b_memory, tile_memory;
  Reserved<Index> offset_memory;
  Index *packed_offset = nullptr, *row_offset = nullptr;
};

// Few rows: the threads pack all of them, then take strips of columns.
template <class T>
std::size_t product_by_column_panels(const MatrixProduct<T>& p) {
  const int threads = p.threads();
  const Index chunk_size = p.packed_rows(p.M);
  Layout layout;
  const Reserved<T> a_memory(layout, checked_product(p.sum.chunks, chunk_size));
  ColumnPanels<T> columns(p, threads, layout);
  if (p.c == nullptr) return layout.bytes();
  const LayoutMemory memory(layout);
  T* packed_a = a_memory.data();  // [chunk][panel][k][row]
  columns.fill_offsets();
  parallel_for(p.sum.chunks, threads,
               [&](Index chunk, int) { pack_a(p, 0, p.M, chunk, packed_a + chunk * chunk_size); });
  parallel_for(columns.strips(), threads, [&](Index strip, int slot) {
    for (Index chunk = 0; chunk < p.sum.chunks; ++chunk)
      columns.multiply(
          packed_a + chunk * chunk_size, chunk, {strip, strip + 1},
          [&](Index n) { return target_in_c(p, 0, n, chunk); }, slot);
  });
  return layout.bytes();
}

// A small result of long sums (split K): the threads take chunks, and strips of columns where these are too
// few; the chunks' results are added up in their order.
template <class T>
std::size_t product_by_chunks(const MatrixProduct<T>& p) {
  const int threads = p.threads();
  const Index size = p.M * p.N;
  Layout layout;
  const Reserved<T> part_memory(layout, checked_product(p.sum.chunks, size));
  const ThreadReserved<T> a_memory(layout, threads, p.packed_rows(p.M));
  ColumnPanels<T> columns(p, threads, layout);
  const Index groups = splits_for(p.sum.chunks, columns.strips(), threads);
  if (p.c == nullptr) return layout.bytes();
  const LayoutMemory memory(layout);
  T* parts = part_memory.data();  // [chunk][M][N]
  columns.fill_offsets();
  parallel_grid({p.sum.chunks, groups}, threads, [&](Index chunk, Index group, int slot) {
    T* packed_a = a_memory[slot];
    pack_a(p, 0, p.M, chunk, packed_a);
    columns.multiply(
        packed_a, chunk, range_of(columns.strips(), group, groups),
        [&](Index n) { return panel_target(parts + chunk * size + n, p.N); }, slot);
  });
  add_chunks(p, parts);
  return layout.bytes();
}

}  // namespace cnnlib::CNNLIB_ISA
