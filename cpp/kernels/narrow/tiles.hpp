// Convolution of narrow values with AMX: a tile of 16 positions by 64 bytes of x, times a tile of 16 filters
// by 64 bytes, is one instruction. Rows of a tile are a constant distance apart, so they are positions of one
// line of y, read where they lie. Terms of a sum are those of conv.hpp, in runs of whole tiles: what a run
// lacks meets weights of 0.
#pragma once

#include "kernels/narrow/conv.hpp"

#ifdef __AMX_TILE__

namespace cnnlib::CNNLIB_ISA {

template <class Format>
void pack_tiles(const NarrowConv<typename Format::Value>& c, typename Format::Given w,
                const typename Format::Numbers& numbers, void* packed) {
  const TilePanels<Format> p(c);
  const Index steps = p.terms.steps, rows = p.tiles_of_run * amx_rows;  // of a run
  begin_packing(numbers, packed, p);
  each_step(p, w, [&](Index group, Index vector, Index step, const typename Format::Packed& weights) {
    const Index row = step / steps * rows + step % steps, pair = p.width_of(vector);
    const Index tile = row / amx_rows * pair + vector % 2;
    std::memcpy(static_cast<std::uint8_t*>(packed) + p.offset(group, vector / 2 * 2) + tile * amx_tile_bytes +
                    row % amx_rows * amx_row_bytes,
                &weights, amx_row_bytes);
  });
}

// Lines of positions that are a constant distance apart in x, and the tiles that each is cut into, of `rows`
// positions, as even as they come; the last of a line begins earlier and repeats some.
struct TileLines {
  Index length, distance, rows, of_line;

  template <class Value>
  TileLines(const NarrowConv<Value>& c, Index images) {
    const ConvShape& s = c.shape;
    const bool pixels = s.KH == 1 && s.KW == 1 && s.stride_h == 1 && s.stride_w == 1 && s.OH == c.x.H &&
                        s.OW == c.x.W && c.x.row() == s.OW * c.x.pixel();
    length = s.OH * s.OW == 1 ? images : pixels ? s.OH * s.OW : s.OW;
    distance = s.OH * s.OW == 1 ? c.x.bytes() : s.stride_w * c.x.pixel();
    of_line = ceil_div(length, amx_rows);
    rows = ceil_div(length, of_line);
    of_line = ceil_div(length, rows);
  }
  Index position(Index tile) const {
    return tile / of_line * length + std::min(length, tile % of_line * rows);
  }
  // How many positions a tile begins before its own first one.
  Index repeated(Index tile) const { return std::max<Index>(0, (tile % of_line + 1) * rows - length); }
};

// What the tile registers hold: sums in 0 to 3, x in 4 and 5, weights in 6 and 7.
class TileRegisters {
 public:
  explicit TileRegisters(Index rows) {
    struct alignas(64) {
      std::uint8_t palette = 1, start = 0, reserved[14] = {};
      std::uint16_t row_bytes[16] = {};
      std::uint8_t rows[16] = {};
    } config;
    for (int i = 0; i < 8; ++i) {
      config.row_bytes[i] = amx_row_bytes;
      config.rows[i] = std::uint8_t(i < 6 ? rows : amx_rows);
    }
    // Older g++ takes it that the next line reads 8 bytes alone.
    asm volatile("" : : "r"(&config) : "memory");
    _tile_loadconfig(&config);
  }
  ~TileRegisters() { _tile_release(); }
  TileRegisters(const TileRegisters&) = delete;
  TileRegisters& operator=(const TileRegisters&) = delete;
};

// The sums of T tiles of positions, at x[t], by V vectors of filters, in registers 2 t + v.
template <class Format, int T, int V>
[[gnu::always_inline]] inline void tile_sums(const Terms& terms, Index tiles_of_run,
                                             const std::uint8_t* const* x, Index distance,
                                             const std::uint8_t* w) {
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  for (Index row = 0; row < terms.rows; ++row)
    for (Index run = 0; run < terms.runs; ++run) {
      Index k = row * terms.row_offset + run * terms.run_offset;
      for (Index i = 0; i < tiles_of_run; ++i, k += amx_row_bytes, w += V * amx_tile_bytes) {
        _tile_loadd(6, w, amx_row_bytes);
        _tile_loadd(4, x[0] + k, distance);
        Format::template multiply_tiles<0>();
        if constexpr (V == 2) {
          _tile_loadd(7, w + amx_tile_bytes, amx_row_bytes);
          Format::template multiply_tiles<1>();
        }
        if constexpr (T == 2) {
          _tile_loadd(5, x[1] + k, distance);
          Format::template multiply_tiles<2>();
          if constexpr (V == 2) Format::template multiply_tiles<3>();
        }
      }
    }
}

// A panel's product with the tiles of a block, two at a time.
template <class Format>
class PanelProduct {
  using Lanes = typename Format::Lanes;
  using Sum = typename Format::Sum;

 public:
  PanelProduct(const NarrowConv<typename Format::Value>& c, const ConvData<Format>& d,
               const TilePanels<Format>& p, const TileLines& lines, Range tiles)
      : block_(c, d, p, lines.position(tiles.first), lines.position(tiles.last)),
        p_(p),
        lines_(lines),
        tiles_(tiles) {}

  void run(Index panel) {
    group_ = panel / p_.of_group();
    v0_ = panel % p_.of_group() * 2;
    width_ = p_.width_of(v0_);
    Index tile = tiles_.first;
    for (; tile + 1 < tiles_.last; tile += 2) width_ == 2 ? two_tiles<2, 2>(tile) : two_tiles<2, 1>(tile);
    if (tile < tiles_.last) width_ == 2 ? two_tiles<1, 2>(tile) : two_tiles<1, 1>(tile);
    for (int i = 0; i < 4; ++i) store(i);
    first_ = none;
  }

 private:
  static constexpr Index none = -1, tile_numbers = amx_rows * Lanes::size;

  // Computes the sums of tile `first` and, where T is 2, the next one. Between the registers, the sums before
  // are stored: what a tile register has written is slow to read at once.
  template <int T, int V>
  void two_tiles(Index first) {
    const std::uint8_t* x[T];
    for (int t = 0; t < T; ++t)
      x[t] = block_.d.x + block_.x[at(first + t)] +
             group_ * (p_.c.shape.C / p_.groups) * Index{sizeof(typename Format::Value)} -
             lines_.repeated(first + t) * lines_.distance;
    tile_sums<Format, T, V>(p_.terms, p_.tiles_of_run, x, lines_.distance,
                            block_.d.weights + p_.offset(group_, v0_));
    Sum(*const sums)[tile_numbers] = sums_[buffer_ ^ 1];
    store(0);
    _tile_stored(0, sums[0], amx_row_bytes);
    store(1);
    if constexpr (V == 2) _tile_stored(1, sums[1], amx_row_bytes);
    store(2);
    if constexpr (T == 2) _tile_stored(2, sums[2], amx_row_bytes);
    store(3);
    if constexpr (T == 2 && V == 2) _tile_stored(3, sums[3], amx_row_bytes);
    buffer_ ^= 1;
    first_ = first;
  }

  // Stores half the rows of a tile of the sums at hand.
  void store(int part) {
    const Index tile = first_ + part / 2;
    if (first_ == none || tile >= tiles_.last) return;
    const Index repeated = lines_.repeated(tile), half = amx_rows / 2;
    const Index begin = std::max(repeated, part % 2 * half),
                end = std::min(lines_.rows, (part % 2 + 1) * half);
    const auto sums = [&, all = sums_[buffer_] + part / 2 * 2](Index v, Index r) {
      return Lanes::load(all[v] + r * Lanes::size);
    };
    const Index position = at(tile) - repeated;
    if constexpr (Format::stores_pairs)
      if (v0_ < p_.paired) return store_pairs(begin, end, position, sums);
    for (Index v = 0; v < width_; ++v)
      store_vector(block_, group_, v0_ + v, position + begin, end - begin,
                   [&](Index r) { return sums(v, begin + r); });
  }

  // Rows of a whole panel, two at a time.
  template <class SumsOf>
  [[gnu::always_inline]] void store_pairs(Index begin, Index end, Index position, const SumsOf& sums) {
    const auto& c = block_.c;
    const auto& d = block_.d;
    const Index *const y_at = block_.y + position, *const other_at = block_.other + position;
    const Index filter = (group_ * p_.vectors + v0_) * Lanes::size,
                to = group_ * p_.filters + v0_ * Lanes::size;
    using NumberVector = typename Format::NumberVector;
    const NumberVector n[2] = {NumberVector(d.numbers, filter),
                               NumberVector(d.numbers, filter + Lanes::size)};
    const typename Lanes::Rounding rounding(c.epilogue.zero, c.epilogue.activation.low,
                                            c.epilogue.activation.high);
    const typename Format::Finish epilogue = block_.epilogue;
    auto* const y = static_cast<std::uint8_t*>(d.y) + to;
    const auto rows = [&](const auto& values) {
      for (Index r = begin; r < end; r += 2) {
        const Index next = std::min(r + 1, end - 1);
        typename Lanes::Scales v[4];
        values(r, v);
        values(next, v + 2);
        Lanes::store_pairs(v, rounding, y + y_at[r], y + y_at[next]);
      }
    };
    if (c.epilogue.add)
      rows([&](Index r, typename Lanes::Scales* v) {
        typename Lanes::Sums other[2];
        Lanes::load_pair(d.other + other_at[r] + to, other);
        for (int i = 0; i < 2; ++i) v[i] = epilogue.value(sums(i, r), n[i], other[i]);
      });
    else
      rows([&](Index r, typename Lanes::Scales* v) {
        for (int i = 0; i < 2; ++i) v[i] = epilogue.value(sums(i, r), n[i]);
      });
  }

  // The place of a tile's first own position in the block.
  Index at(Index tile) const { return lines_.position(tile) - first_position_; }

  const ConvBlock<Format> block_;
  const TilePanels<Format>& p_;
  const TileLines& lines_;
  const Range tiles_;
  const Index first_position_ = lines_.position(tiles_.first);
  Index group_ = 0, v0_ = 0, width_ = 0;
  Index first_ = none;  // of the tiles whose sums are to be stored
  int buffer_ = 0;
  alignas(64) Sum sums_[2][4][tile_numbers];
};

template <class Format>
void conv_by_tiles(const NarrowConv<typename Format::Value>& c, const std::uint8_t* x,
                   const std::uint8_t* other, const void* packed, void* y, Index images) {
  const TilePanels<Format> p(c);
  const TileLines lines(c, images);
  const ConvData<Format> d{x, other, y, static_cast<const std::uint8_t*>(packed), numbers_in(packed, p)};
  if (!c.epilogue.scores && c.begins_image())
    fill_border(c.y, Format::border(c), static_cast<std::uint8_t*>(y), images);
  const Index positions = images * c.shape.OH * c.shape.OW, panels = p.groups * p.of_group();
  const Index tiles = positions / lines.length * lines.of_line;
  const int threads = threads_for(double(positions) * double(c.shape.F) * double(p.steps) / 32);
  const Index x_bytes = c.x.bytes() * lines.rows / (c.shape.OH * c.shape.OW);
  const Index most = cached_block(x_bytes, 2, most_positions / lines.rows, 2);
  ConvGrid(tiles, panels, most, 2, 2, threads).each([&](Range own, Range part) {
    const TileRegisters registers(lines.rows);
    PanelProduct<Format> product(c, d, p, lines, own);
    for (Index panel = part.first; panel < part.last; ++panel) product.run(panel);
  });
}

}  // namespace cnnlib::CNNLIB_ISA

#endif
