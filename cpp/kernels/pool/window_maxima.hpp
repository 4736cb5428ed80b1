// Maxima over windows of any size and the taps that have them: first down the columns of a window's rows,
// then along the line of these maxima, where those over k taps become those over up to 2 k until k is the
// window's width. NaN is greater than every number, and of equals the first in row-major order stays.
#pragma once

#include <limits>

#include "kernels/column_walks.hpp"
#include "kernels/plane_grid.hpp"
#include "kernels/scratch_layout.hpp"

namespace cnnlib::CNNLIB_ISA {

// A vector of maxima and, with Places, their taps.
template <class T, bool Places>
struct Maxima {
  using S = Simd<T>;
  Packet<T> value, tap;

  // Maxima of taps that come later, by `first_tap`.
  [[gnu::always_inline]] void add(const Maxima& next, Packet<T> first_tap) {
    if constexpr (Places) {
      const auto wins = S::greater_or_nan(next.value, value);
      value = S::select(wins, next.value, value);
      tap = S::select(wins, S::add(next.tap, first_tap), tap);
    } else {
      value = S::max_or_nan(value, next.value);
    }
  }
  // Maxima of other taps, each of which may come earlier or later.
  [[gnu::always_inline]] void merge(const Maxima& other) {
    const auto earlier = S::less_equal(other.tap, tap);
    const auto first = S::select(earlier, other.value, value),
               second = S::select(earlier, value, other.value);
    const auto second_wins = S::greater_or_nan(second, first);
    value = S::select(second_wins, second, first);
    tap = S::select(second_wins, S::max(tap, other.tap), S::min(tap, other.tap));
  }
};

// Windows along an axis: window o has taps(o) positions, `dilation` apart from begin(o) on, of which some may
// lie outside the image.
struct MaximaAxis {
  Index size, outputs;
  Index fewest, most, dilation;  // taps
  Index step, parts, pad;        // windows begin step / parts apart

  Index begin(Index o) const { return (parts == 1 ? o * step : o * step / parts) - pad; }
  Index taps(Index o) const { return fewest == most ? most : ceil_div((o + 1) * step, parts) - begin(o); }
};

// Of images x. A tap's number is kh * columns.most + kw.
template <class T>
class WindowMaxima {
  using S = Simd<T>;
  using Best = Maxima<T, true>;
  static constexpr T lowest = -std::numeric_limits<T>::infinity();  // outside the image
  static constexpr Index line_columns = 512, most_columns = 1 << 16, most_taps = 1 << 20;

 public:
  WindowMaxima(const T* images, const MaximaAxis& row_windows, const MaximaAxis& column_windows)
      : x(images), rows(row_windows), columns(column_windows) {}

  // Writes `out` and calls told(row, ow, count, maxima, first_tap) for up to a vector of windows from ow on.
  // Rows of windows are counted through all planes, taps from first_tap on. A later call for a window
  // replaces an earlier one: a window may have more taps than T can count, or than a line holds.
  template <class Told>
  void each(Index planes, T* out, const Told& told) const {
    const Index OH = rows.outputs, OW = columns.outputs, step = ceil_div(columns.step, columns.parts);
    // Side by side in a line lie several rows of windows, or as many windows of one as it has room for.
    const Index block = std::clamp<Index>(1 + (line_columns - reach) / step, 1, OW);
    const Index longest = (block - 1) * step + reach, most_rows = std::max<Index>(1, line_columns / longest);
    const Index room = most_rows * longest + 6 * S::size;  // vectors may begin in front of its end
    const PlaneGrid grid(planes, OH, OW, rows.size * columns.size + OH * OW,
                         double(planes * OH) * double(std::min(rows.most, rows.size) * columns.size) / 4);
    const ScratchArray<T, ThreadReserved> lines(grid.threads, 2 * room);
    grid.each([&](const PlaneTask& task, int slot) {
      std::fill_n(lines[slot], 2 * room, T(0));
      Line line{lines[slot], lines[slot] + room, 0, 0, 0, 0, 0, 0};
      const Index end = (task.last_plane - 1) * OH + task.last_row;
      for (line.ow = task.first_column; line.ow < task.last_column; line.ow += line.windows) {
        line.windows = std::min(block, task.last_column - line.ow);
        line.left = columns.begin(line.ow);
        line.length = columns.begin(line.ow + line.windows - 1) - line.left + reach;
        for (line.row = task.first_plane * OH + task.first_row; line.row < end; line.row += line.rows) {
          line.rows = std::min(most_rows, end - line.row);
          for (Index kh = 0; kh < rows.most; kh += tall)
            for (Index kw = 0; kw < columns.fewest; kw += wide) {
              const Index taps = std::min(wide, columns.fewest - kw);
              bool inside = kh + kw == 0;
              for (Index r = 0; r < line.rows; ++r) inside |= go_down(line, r, kh, kw);
              if (!inside) continue;
              go_along(line, taps);
              tell(line, kw + taps == columns.fewest, kh * columns.most + kw, out, told);
            }
        }
      }
    });
  }

 private:
  // Windows [ow, ow + windows) of rows [row, row + rows) of windows, each in `length` values from column
  // `left`.
  struct Line {
    T *value, *tap;
    Index row, rows, ow, windows, left, length;
  };

  // Row r of the line: the maxima down the columns of up to `tall` rows from kh on, beginning at tap kw.
  // Returns whether there are any in the image.
  bool go_down(const Line& line, Index r, Index kh, Index kw) const {
    const Index plane = (line.row + r) / rows.outputs, oh = line.row + r - plane * rows.outputs;
    const Index top = rows.begin(oh), size = columns.size, pitch = rows.dilation * size;
    const Index first = std::max(kh, ceil_div(-top, rows.dilation)),
                last = std::min({kh + tall, rows.taps(oh), ceil_div(rows.size - top, rows.dilation)});
    const auto number = [&](Index k) { return S::fill(T((k - kh) * columns.most)); };
    T *const values = line.value + r * line.length, *const taps = line.tap + r * line.length;
    for (Index w = 0; w < line.length; w += 2 * S::size) {  // a cache line of AVX2's
      const Index column = line.left + kw * columns.dilation + w;
      const ColumnVector<T> vector[2] = {{column, size}, {column + S::size, size}};
      const T* from = x + (plane * rows.size + top) * size + first * pitch;
      Best best[2];
      for (int i = 0; i < 2; ++i)
        best[i] = {first < last ? vector[i].load(from, lowest) : S::fill(lowest), number(first)};
      for (Index k = first + 1; k < last; ++k) {
        from += pitch;
#pragma GCC unroll 2
        for (int i = 0; i < 2; ++i) best[i].add({vector[i].load(from, lowest), S::zero()}, number(k));
      }
      for (int i = 0; i < 2; ++i) {
        S::store(values + w + i * S::size, best[i].value);
        S::store(taps + w + i * S::size, best[i].tap);
      }
    }
    const Index left = line.left + kw * columns.dilation;
    return first < last && left < size && left + line.length > 0;
  }
  // Maxima over `taps` columns, at the first of them.
  void go_along(const Line& line, Index taps) const {
    for (Index k = 1, more; k < taps; k += more) {
      more = std::min(k, taps - k);
      const Index next = more * columns.dilation, end = line.rows * line.length - (k - 1) * columns.dilation;
      const auto later = S::fill(T(more));
      for (Index w = 0; w < end - next; w += S::size) {
        Best best{S::load(line.value + w), S::load(line.tap + w)};
        best.merge({S::load(line.value + w + next), S::add(S::load(line.tap + w + next), later)});
        S::store(line.value + w, best.value);
        S::store(line.tap + w, best.tap);
      }
    }
  }
  // The windows' maxima; where these are the `last` taps, with those that only some windows have.
  template <class Told>
  void tell(const Line& line, bool last, Index first_tap, T* out, const Told& told) const {
    const Index count = std::min<Index>(S::size, line.windows);
    T value[S::size], tap[S::size];
    Index at[S::size], further[S::size];
    for (Index i = 0; i < line.windows; i += S::size) {
      const Index ow = line.ow + std::min(i, line.windows - count);
      for (Index l = 0; l < S::size; ++l) {
        const Index o = ow + std::min(l, count - 1);
        at[l] = columns.begin(o) - line.left;
        further[l] = last ? at[l] + columns.taps(o) - columns.fewest : at[l];
      }
      for (Index r = 0; r < line.rows; ++r) {
        const T *values = line.value + r * line.length, *taps = line.tap + r * line.length;
        Best best{lanes_at(values, at), lanes_at(taps, at)};
        if (columns.most > columns.fewest) {
          for (Index l = 0; l < S::size; ++l) tap[l] = T(further[l] - at[l]);
          best.merge({lanes_at(values, further), S::add(lanes_at(taps, further), S::load(tap))});
        }
        T* const to = out + (line.row + r) * columns.outputs + ow;
        if (first_tap == 0) {
          store_first(to, count, best.value);
          told(line.row + r, ow, count, best, 0);
          continue;
        }
        const unsigned wins = S::bits(S::greater_or_nan(best.value, load_first(to, count)));
        S::store(value, best.value);
        S::store(tap, best.tap);
        for (Index l = 0; l < count; ++l)
          if (wins >> l & 1)
            told(line.row + r, ow + l, 1, {S::fill(to[l] = value[l]), S::fill(tap[l])}, first_tap);
      }
    }
  }
  Packet<T> lanes_at(const T* p, const Index* at) const {
    Packet<T> even, odd;
    if (columns.parts == 1 && columns.step == 1) return S::load(p + at[0]);
    if (columns.parts == 1 && columns.step == 2) return S::load_pairs(p + at[0], even, odd), even;
    T lanes[S::size];
    for (Index l = 0; l < S::size; ++l) lanes[l] = p[at[l]];
    return S::load(lanes);
  }

  const T* x;
  MaximaAxis rows, columns;
  // Taps at a time: `tall` rows of `wide`, which span `reach` columns.
  Index wide = std::min(columns.fewest, 1 + most_columns / columns.dilation);
  Index tall = wide < columns.fewest ? 1 : std::max<Index>(1, most_taps / columns.most);
  Index reach = (wide - 1) * columns.dilation + 1 + columns.most - columns.fewest;
};

}  // namespace cnnlib::CNNLIB_ISA
