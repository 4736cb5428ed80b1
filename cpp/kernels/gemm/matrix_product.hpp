// Matrix products for the affine layer, on the same micro-kernel as convolution.
//
// Every element is a sum over K in chunks of a fixed length, added in order, whichever way the work is cut:
// neither the number of threads nor the other rows change its bits.
#pragma once

#include "kernels/gemm/dot_product.hpp"
#include "kernels/gemm/skinny_product.hpp"

namespace cnnlib::CNNLIB_ISA {

// Rows [m0, m0 + rows) of a chunk of a, as panels one after the other.
template <class T>
void pack_a(const MatrixProduct<T>& p, Index m0, Index rows, Index chunk, T* to) {
  using S = Simd<T>;
  const Panels panels(rows);
  const Index terms = p.terms(chunk), k0 = chunk * p.depth;
  for (Index panel = 0; panel < panels.count; ++panel) {
    const Index m = m0 + panels.first(panel), height = panels.rows(panel);
    const T* from = p.a.data + m * p.a.row + k0 * p.a.col;
    if (p.a.col == 1) {
      pack_panel<T>([&](Index i) { return from + i * p.a.row; }, height, terms, to);
    } else {
      // What a vector holds beyond the panel is overwritten by the next one.
      const bool inside = m + (height + S::size - 1) / S::size * S::size <= p.M;
      for (Index k = 0; k < terms; ++k)
        for (Index i = 0; i < height; i += S::size) {
          const T* at = from + k * p.a.col + i;
          S::store(to + k * height + i,
                   inside ? S::load(at) : S::load_lanes(at, 0, std::min<Index>(S::size, height - i)));
        }
    }
    to += height * terms;
  }
}

// Columns [n, n + lanes) of a chunk of b, zero beyond the last.
template <class T>
void pack_b(const MatrixProduct<T>& p, Index n, Index chunk, T* to) {
  using S = Simd<T>;
  const Index terms = p.terms(chunk), width = std::min(p.lanes, p.N - n);
  const T* from = p.b.data + chunk * p.depth * p.b.row + n * p.b.col;
  if (p.b.col == 1) {
    for (Index k = 0; k < terms; ++k)
      for (Index i = 0; i < p.lanes; i += S::size) {
        const Index count = std::clamp<Index>(width - i, 0, S::size);
        S::store(to + k * p.lanes + i, count == S::size ? S::load(from + k * p.b.row + i)
                                       : count > 0      ? S::load_lanes(from + k * p.b.row + i, 0, count)
                                                        : S::zero());
      }
  } else {
    if (width < p.lanes) std::fill_n(to, terms * p.lanes, T(0));
    transpose(from, p.b.col, width, terms, to, p.lanes);
  }
}

// Where the results of some rows and one vector panel of columns go, and how they begin and end.
template <class T>
struct ProductTarget {
  T* to;
  Index row;      // step
  Index width;    // columns, at most MatrixProduct<T>::lanes
  const T* bias;  // to begin with, or null
  bool add, relu;
};

// One chunk of `rows` packed rows times one panel of columns, whose terms lie at `offset`.
template <class T>
void multiply_panel(const T* packed_a, Index rows, Index terms, const T* columns, const Index* offset,
                    const ProductTarget<T>& target, T* tile) {
  using S = Simd<T>;
  const Panels panels(rows);
  const T* source[tile_vectors];
  for (int u = 0; u < tile_vectors; ++u) source[u] = columns + u * S::size;
  const bool narrow = target.width <= S::size, whole = target.width == tile_lanes<T>;
  for (Index panel = 0; panel < panels.count; ++panel) {
    const Index height = panels.rows(panel), first = panels.first(panel);
    T* out = target.to + first * target.row;
    auto direct = Target<T>::rows(whole ? out : tile, narrow ? 1 : tile_vectors);
    if (whole) {
      direct.step = target.row;
      direct.add = target.add;
      direct.row = target.bias;
      direct.relu = target.relu;
    }
    const auto kernel = narrow ? packed_tile_kernel<T, 1>(height) : packed_tile_kernel<T>(height);
    kernel(terms, packed_a + first * terms, height, offset, source, direct);
    if (whole) continue;
    for (Index i = 0; i < height; ++i)
      for (Index l = 0; l < target.width; l += S::size) {
        const Index count = std::min<Index>(S::size, target.width - l);
        T* to = out + i * target.row + l;
        auto v = S::load(tile + i * direct.step + l);
        if (target.add || target.bias != nullptr)
          v = S::add(v, S::load_lanes(target.add ? to : target.bias + l, 0, count));
        S::store_lanes(to, target.relu ? S::relu(v) : v, 0, count);
      }
  }
}

// Many rows: the threads take blocks of them, and share packed columns.
template <class T>
void product_by_rows(const MatrixProduct<T>& p) {
  constexpr Index block_rows = 10 * max_rows, shared_bytes = 4 << 20;
  constexpr Index most_terms_of_row = 64, most_bytes_of_row = 512 << 10;
  const int threads = p.threads();
  const Index wanted = std::min<Index>(2 * threads, (p.M + max_rows - 1) / max_rows);
  const Index blocks = std::max((p.M + block_rows - 1) / block_rows, wanted);
  const Index rows = (p.M + blocks - 1) / blocks;
  const Index panels = (p.N + p.lanes - 1) / p.lanes;
  const Index together =
      std::clamp<Index>(shared_bytes / (std::max<Index>(1, p.K) * p.lanes * Index(sizeof(T))),
                        std::min<Index>(4, panels), panels);

  Layout layout;
  const auto a_piece = layout.per_thread<T>(threads, p.packed_rows(rows));
  const auto tile_piece = layout.per_thread<T>(threads, tile_size<T>);
  const auto b_piece = layout.array<T>(checked_product(together * p.lanes, p.chunks() * p.most_terms()));
  const auto offset_piece = layout.array<Index>(p.most_terms());
  const Scratch scratch(layout.bytes());
  T* packed_b = b_piece.in(scratch.data());  // [panel][chunk][k][lanes]
  Index* offset = offset_piece.in(scratch.data());
  for (Index k = 0; k < p.most_terms(); ++k) offset[k] = k * p.lanes;
  const auto columns = [&](Index panel, Index chunk) {
    return packed_b + (panel * p.chunks() + chunk) * p.most_terms() * p.lanes;
  };

  // Where little is added up, writing the result is the work, and goes on along its rows.
  const bool row_by_row = p.K <= most_terms_of_row && p.K * p.N * Index(sizeof(T)) <= most_bytes_of_row;
  for (Index first = 0; first < panels; first += together) {
    const Index count = std::min(together, panels - first);
    parallel_for(count * p.chunks(), threads, [&](Index task, int) {
      pack_b(p, (first + task / p.chunks()) * p.lanes, task % p.chunks(),
             columns(task / p.chunks(), task % p.chunks()));
    });
    parallel_for(blocks, threads, [&](Index block, int slot) {
      const Index m0 = block * rows, height = std::min(rows, p.M - m0);
      if (height <= 0) return;
      T* packed_a = a_piece.of(scratch.data(), slot);
      for (Index chunk = 0; chunk < p.chunks(); ++chunk) {
        pack_a(p, m0, height, chunk, packed_a);
        const Panels of(height, row_by_row ? max_rows : height);
        for (Index i = 0; i < of.count; ++i)
          for (Index panel = 0; panel < count; ++panel) {
            const Index m = of.first(i), n = (first + panel) * p.lanes;
            multiply_panel<T>(packed_a + m * p.terms(chunk), of.rows(i), p.terms(chunk),
                              columns(panel, chunk), offset,
                              {p.c + (m0 + m) * p.N + n, p.N, std::min(p.lanes, p.N - n),
                               chunk == 0 && p.bias != nullptr ? p.bias + n : nullptr, chunk > 0,
                               p.relu && chunk == p.chunks() - 1},
                              tile_piece.of(scratch.data(), slot));
          }
      }
    });
  }
}

// Few rows: all are packed first, then the threads take panels of columns. Columns that lie side by side are
// read in place, as a copy would not be used often.
template <class T>
void product_by_columns(const MatrixProduct<T>& p) {
  const int threads = p.threads();
  const Index panels = (p.N + p.lanes - 1) / p.lanes;
  Layout layout;
  const auto a_piece = layout.array<T>(checked_product(p.chunks(), p.packed_rows(p.M)));
  const auto b_piece = layout.per_thread<T>(threads, p.lanes * p.most_terms());
  const auto tile_piece = layout.per_thread<T>(threads, tile_size<T>);
  const auto offset_piece = layout.array<Index>(2 * p.most_terms());
  const Scratch scratch(layout.bytes());
  T* packed_a = a_piece.in(scratch.data());  // [chunk][panel][k][row]
  Index* offset = offset_piece.in(scratch.data());
  Index* row_offset = offset + p.most_terms();
  for (Index k = 0; k < p.most_terms(); ++k) {
    offset[k] = k * p.lanes;
    row_offset[k] = k * p.b.row;
  }
  parallel_for(p.chunks(), threads,
               [&](Index chunk, int) { pack_a(p, 0, p.M, chunk, packed_a + chunk * p.packed_rows(p.M)); });
  parallel_for(panels, threads, [&](Index panel, int slot) {
    const Index n = panel * p.lanes, width = std::min(p.lanes, p.N - n);
    const bool in_place = p.b.col == 1 && width == p.lanes && p.M <= 2 * max_rows;
    T* packed_b = b_piece.of(scratch.data(), slot);
    for (Index chunk = 0; chunk < p.chunks(); ++chunk) {
      if (!in_place) pack_b(p, n, chunk, packed_b);
      multiply_panel<T>(packed_a + chunk * p.packed_rows(p.M), p.M, p.terms(chunk),
                        in_place ? p.b.data + chunk * p.depth * p.b.row + n : packed_b,
                        in_place ? row_offset : offset,
                        {p.c + n, p.N, width, chunk == 0 && p.bias != nullptr ? p.bias + n : nullptr,
                         chunk > 0, p.relu && chunk == p.chunks() - 1},
                        tile_piece.of(scratch.data(), slot));
    }
  });
}

// A small result of a long sum: the threads take chunks of it, whose results are added up in order.
template <class T>
void product_by_chunks(const MatrixProduct<T>& p) {
  const int threads = p.threads();
  const Index size = p.M * p.N;
  Layout layout;
  const auto part_piece = layout.array<T>(checked_product(p.chunks(), size));
  const auto a_piece = layout.per_thread<T>(threads, p.packed_rows(p.M));
  const auto b_piece = layout.per_thread<T>(threads, p.lanes * p.most_terms());
  const auto tile_piece = layout.per_thread<T>(threads, tile_size<T>);
  const auto offset_piece = layout.array<Index>(2 * p.most_terms());
  const Scratch scratch(layout.bytes());
  T* parts = part_piece.in(scratch.data());
  Index* offset = offset_piece.in(scratch.data());
  Index* row_offset = offset + p.most_terms();
  for (Index k = 0; k < p.most_terms(); ++k) {
    offset[k] = k * p.lanes;
    row_offset[k] = k * p.b.row;
  }
  parallel_for(p.chunks(), threads, [&](Index chunk, int slot) {
    T* packed_a = a_piece.of(scratch.data(), slot);
    T* packed_b = b_piece.of(scratch.data(), slot);
    pack_a(p, 0, p.M, chunk, packed_a);
    for (Index n = 0; n < p.N; n += p.lanes) {
      const Index width = std::min(p.lanes, p.N - n);
      const bool in_place = p.b.col == 1 && width == p.lanes && p.M <= 2 * max_rows;
      if (!in_place) pack_b(p, n, chunk, packed_b);
      multiply_panel<T>(
          packed_a, p.M, p.terms(chunk), in_place ? p.b.data + chunk * p.depth * p.b.row + n : packed_b,
          in_place ? row_offset : offset, {parts + chunk * size + n, p.N, width, nullptr, false, false},
          tile_piece.of(scratch.data(), slot));
    }
  });
  add_chunks(p, parts);
}

// Few columns: dot products of a's rows, in place, with b's columns, which are turned for it.
template <class T>
void product_by_dots(const MatrixProduct<T>& p) {
  using S = Simd<T>;
  const Index vectors = p.K / S::size, rest = p.K % S::size;
  const int threads = p.threads();
  Layout layout;
  const auto b_piece = layout.array<T>(checked_product(p.N, p.K));
  const auto at_piece = layout.array<VectorAt>(vectors + 1);
  const Scratch scratch(layout.bytes());
  VectorAt* at = at_piece.in(scratch.data());
  for (Index i = 0; i <= vectors; ++i) at[i] = {i * S::size, i * S::size};
  T* columns = b_piece.in(scratch.data());
  parallel_ranges(p.K, p.depth, double(p.N) / 4, [&](Index begin, Index end) {
    transpose(p.b.data + begin * p.b.row, p.b.row, end - begin, p.N, columns + begin, p.K);
  });
  const Index row_blocks = (p.M + dots - 1) / dots, column_blocks = (p.N + dots - 1) / dots;
  parallel_for(row_blocks * column_blocks, threads, [&](Index task, int) {
    const Index m0 = task / column_blocks * dots, n0 = task % column_blocks * dots;
    const T *left[dots], *right[dots];
    for (Index i = 0; i < dots; ++i) {
      left[i] = p.a.data + std::min(m0 + i, p.M - 1) * p.a.row;
      right[i] = columns + std::min(n0 + i, p.N - 1) * p.K;
    }
    T sums[dots * dots * S::size];
    add_dot_products<T, dots>(left, right, at, vectors, rest > 0 ? 1 : 0, rest, true, sums);
    for (Index m = m0; m < std::min(m0 + dots, p.M); ++m)
      for (Index n = n0; n < std::min(n0 + dots, p.N); ++n) {
        const T v = S::sum(S::load(sums + ((m - m0) * dots + n - n0) * S::size)) +
                    (p.bias != nullptr ? p.bias[n] : T(0));
        p.c[m * p.N + n] = p.relu && v < T(0) ? T(0) : v;
      }
  });
}

// Few columns, both sides along their rows: the roles change, so that nothing has to be packed, and the
// results are turned.
template <class T>
void product_turned(const MatrixProduct<T>& p) {
  constexpr Index lanes = tile_lanes<T>;
  using S = Simd<T>;
  const int threads = p.threads();
  Layout layout;
  const auto tile_piece = layout.per_thread<T>(threads, tile_size<T>);
  const auto offset_piece = layout.array<Index>(p.K);
  const Scratch scratch(layout.bytes());
  Index* offset = offset_piece.in(scratch.data());
  for (Index k = 0; k < p.K; ++k) offset[k] = k * p.a.col;
  const auto kernel = tile_kernel<T>(p.N);
  parallel_for((p.M + lanes - 1) / lanes, threads, [&](Index task, int slot) {
    const Index m = std::min(task * lanes, p.M - lanes);  // the last overlaps the one before
    T* tile = tile_piece.of(scratch.data(), slot);
    const T* source[tile_vectors];
    for (int u = 0; u < tile_vectors; ++u) source[u] = p.a.data + m + u * S::size;
    auto target = Target<T>::rows(tile, tile_vectors);
    for (Index chunk = 0; chunk < p.chunks(); ++chunk, target.add = true)
      kernel(p.terms(chunk), p.b.data + chunk * p.depth * p.b.row, p.b.row, offset + chunk * p.depth, source,
             target);
    transpose(tile, lanes, p.N, lanes, p.c + m * p.N, p.N);
  });
}

template <class T>
void matrix_product(const MatrixProduct<T>& p) {
  constexpr Index few_columns = 16, block_rows = 12 * max_rows;
  if (p.M == 0 || p.N == 0) return;
  if (p.a.col == 1 && p.b.col == 1 && p.N <= few_columns && p.K >= 8 * Simd<T>::size)
    return product_by_dots(p);
  if (streams_rows(p)) return product_of_few_rows(p);
  if (streams_result(p)) return product_of_few_terms(p);
  if (p.a.row == 1 && p.b.col == 1 && p.N <= max_rows && p.M >= tile_lanes<T> && p.bias == nullptr && !p.relu)
    return product_turned(p);
  const bool small_result = p.M <= 2 * block_rows && p.M * p.N <= p.depth / 2 * (p.M + p.N);
  if (p.chunks() > 1 && small_result) return product_by_chunks(p);
  if (p.M <= block_rows && p.M < p.N) return product_by_columns(p);
  product_by_rows(p);
}

}  // namespace cnnlib::CNNLIB_ISA
