// Planes of images and the points of their windows: gathered (im2col), or added up where they came from
// (col2im).
//
//   x (planes, H, W)   points (planes, KH, KW, OH, OW)
#pragma once

#include "kernels/conv/staging.hpp"
#include "kernels/simd/loops.hpp"
#include "kernels/simd/phases.hpp"
#include "kernels/simd/sums.hpp"
#include "kernels/simd/transpose.hpp"
#include "threads/parallel.hpp"

namespace cnnlib::CNNLIB_ISA {

// Whether windows share no position and leave no column between them, so that a row of the image is runs of
// their columns.
template <class T>
bool windows_side_by_side(const ConvShape& s) {
  return s.KW == s.stride_w && (s.KW == 2 || s.KW == 4 || s.KW == 8) && s.dilation_w == 1 &&
         s.KH <= s.stride_h && (s.KH == 1 || s.dilation_h == 1) && s.pad_top == 0 && s.pad_left == 0 &&
         (s.OH - 1) * s.stride_h + s.KH <= s.H && s.OW * s.KW <= s.W && s.OH * s.OW >= Simd<T>::size;
}

// Whether a row of windows is gathered by transposing: columns of theirs change places with those of the
// kernel.
template <class T>
bool windows_transposed(const ConvShape& s) {
  return s.KW >= Simd<T>::size && s.dilation_w == 1 && s.pad_left == 0 &&
         (s.OW - 1) * s.stride_w + s.KW <= s.W;
}

template <class T>
class Windows {
  using S = Simd<T>;

 public:
  // Outputs [first, last) of a row of them read from inside the image by column b of a kernel; in dx these
  // are positions from `at` on of the image's columns that are congruent modulo the stride.
  struct Column {
    Index first, last, at;
  };

  explicit Windows(const ConvShape& shape) : s(shape) {}

  void list(Column* columns) const {
    for (Index b = 0; b < s.KW; ++b) {
      const Index start = b * s.dilation_w - s.pad_left;
      const Inside inside(start, s.stride_w, s.W, s.OW);
      const Index position = inside.first < inside.last ? start + inside.first * s.stride_w : 0;
      columns[b] = {inside.first, inside.last, position % s.stride_w * phase_pitch + position / s.stride_w};
    }
  }

  // points[plane][a][b][i][j] = x[plane](what tap a, b of output i, j reads), zero outside.
  void gather(const T* x, Index planes, const Column* columns, T* points) const {
    const T* end = x + planes * s.H * s.W;
    parallel_for(planes, threads_for(3.0 * double(planes) * double(plane_size)), [&](Index plane, int) {
      T* to = points + plane * plane_size;
      if (side_by_side)
        return with_columns([&](auto count) { split_plane<count>(x + plane * s.H * s.W, to); });
      for (Index a = 0; a < s.KH; ++a, to += s.KW * positions)
        for (Index i = 0; i < s.OH; ++i) {
          const Index line = i * s.stride_h + a * s.dilation_h - s.pad_top;
          const bool outside = line < 0 || line >= s.H;
          gather_row(outside ? nullptr : x + (plane * s.H + line) * s.W, end, columns, to + i * s.OW);
        }
    });
  }

  // What `spread` takes: threads, and of each a line.
  Index line_size() const { return s.stride_w > 1 ? phases * phase_pitch : 0; }
  int spread_threads(Index planes) const {
    return threads_for(3.0 * double(planes) * double(plane_size + s.H * s.W));
  }
  // x[plane] = the bias of its channel (C,), or zero where that is null, plus the points of all taps that
  // read a position.
  template <class Lines>
  void spread(const T* points, const T* bias, Index planes, const Column* columns, const Lines& lines,
              T* x) const {
    parallel_for(planes, spread_threads(planes), [&](Index plane, int slot) {
      const T *from = points + plane * plane_size, background = bias != nullptr ? bias[plane % s.C] : T(0);
      T* to = x + plane * s.H * s.W;
      if (side_by_side) return with_columns([&](auto count) { join_plane<count>(from, background, to); });
      for (Index h = 0; h < s.H; ++h, to += s.W) {
        T* line = alternates || s.stride_w == 1 ? to : lines[slot];
        if (!alternates) fill_vectors(line, line == to ? s.W : line_size(), background);
        bool reached = false;
        for (Index a = 0; a < s.KH; ++a) {
          const Index down = h + s.pad_top - a * s.dilation_h;
          const Index row = s.stride_h == 1 ? down : down / s.stride_h;
          if (down < 0 || row * s.stride_h != down || row >= s.OH) continue;
          const T* terms = from + a * s.KW * positions + row * s.OW;
          alternates ? alternate(terms, background, columns, to) : add_row(terms, columns, line);
          reached = true;
        }
        if (alternates && !reached) fill_vectors(to, s.W, background);
        if (line != to) join_phases(line, to);
      }
    });
  }

 private:
  // body(the columns of a kernel, as a constant), of windows side by side.
  template <class Body>
  void with_columns(const Body& body) const {
    s.KW == 2   ? body(std::integral_constant<int, 2>())
    : s.KW == 4 ? body(std::integral_constant<int, 4>())
                : body(std::integral_constant<int, 8>());
  }

  // Of windows side by side, a vector of outputs from number `at` on: part(its first one, their number, where
  // row a of their windows begins in the image) for each row of outputs that it has some of.
  template <class Part>
  void each_part(Index at, Index a, const Part& part) const {
    Index i = at / s.OW, j = at % s.OW;
    for (Index first = 0, some; first < S::size; first += some, ++i, j = 0) {
      some = std::min(s.OW - j, S::size - first);
      part(first, some, (i * s.stride_h + a * s.dilation_h) * s.W + j * s.KW);
    }
  }

  // The points of a plane of windows side by side: a row of a window is a value of each phase.
  template <int count>
  void split_plane(const T* x, T* to) const {
    for (Index a = 0; a < s.KH; ++a, to += count * positions)
      for (Index p = 0; p < positions; p += S::size) {
        const Index at = std::min(p, positions - S::size);
        T run[count * S::size];
        each_part(at, a, [&](Index first, Index some, Index place) {
          std::copy_n(x + place, some * count, run + first * count);
        });
        split_run<T, count>(run, [&](int q, auto packet) { S::store(to + q * positions + at, packet); });
      }
  }

  // The reverse; `background` is added.
  template <int count>
  void join_plane(const T* from, T background, T* x) const {
    const auto start = S::fill(background);
    for (Index h = 0; h < s.H; ++h) {  // what no window covers
      const bool covered = h < s.OH * s.stride_h && h % s.stride_h < s.KH;
      std::fill(x + h * s.W + (covered ? s.OW * count : 0), x + (h + 1) * s.W, background);
    }
    for (Index a = 0; a < s.KH; ++a, from += count * positions)
      for (Index p = 0; p < positions; p += S::size) {
        const Index at = std::min(p, positions - S::size);
        T run[count * S::size];
        join_run<T, count>([&](int q) { return S::add(S::load(from + q * positions + at), start); }, run);
        each_part(at, a, [&](Index first, Index some, Index place) {
          std::copy_n(run + first * count, some * count, x + place);
        });
      }
  }

  // `row` null: outside the image.
  void gather_row(const T* row, const T* end, const Column* columns, T* to) const {
    if (row != nullptr && transposes) return transpose(row, s.stride_w, s.OW, s.KW, to, positions);
    for (Index b = 0; b < s.KW; ++b, to += positions) {
      const Index first = row != nullptr ? columns[b].first : s.OW,
                  last = row != nullptr ? columns[b].last : s.OW;
      std::fill_n(to, first, T(0));
      std::fill_n(to + last, s.OW - last, T(0));
      if (first == last) continue;
      const T* from = row + b * s.dilation_w - s.pad_left + first * s.stride_w;
      if (s.stride_w == 1)
        std::copy_n(from, last - first, to + first);
      else
        copy_strided(from, last - first, s.stride_w, end, to + first);
    }
  }

  void add_row(const T* from, const Column* columns, T* line) const {
    for (Index b = 0; b < s.KW; ++b, from += positions)
      add_to(line + columns[b].at, from + columns[b].first, columns[b].last - columns[b].first);
  }

  // A row of windows of one column, at stride 2.
  void alternate(const T* from, T background, const Column* columns, T* to) const {
    const auto none = S::fill(background);
    const Index even = columns[0].last;
    Index j = 0;
    for (; j + S::size <= even && 2 * (j + S::size) <= s.W; j += S::size)
      S::store_pairs(to + 2 * j, S::add(S::load(from + j), none), none);
    std::fill(to + 2 * j, to + s.W, background);
    for (; j < even; ++j) to[2 * j] += from[j];
  }

  // Columns of each phase modulo the stride, one after the other, to a row of the image.
  void join_phases(const T* line, T* to) const {
    const Index whole = s.W / s.stride_w;
    Index q = 0;
    if (s.stride_w == 2)
      for (; q + S::size <= whole; q += S::size)
        S::store_pairs(to + 2 * q, S::load(line + q), S::load(line + phase_pitch + q));
    transpose(line + q, phase_pitch, phases, whole - q, to + q * s.stride_w, s.stride_w);
    for (Index phase = 0; whole * s.stride_w + phase < s.W; ++phase)
      to[whole * s.stride_w + phase] = line[phase * phase_pitch + whole];
  }

  const ConvShape& s;
  Index positions = s.OH * s.OW, plane_size = s.KH * s.KW * positions;
  Index phases = std::min(s.stride_w, s.W), phase_pitch = round_up(ceil_div(s.W, s.stride_w), S::size);
  bool transposes = windows_transposed<T>(s);
  // Windows of a single column at stride 2, which share no position.
  bool alternates = s.stride_w == 2 && s.KW == 1 && s.pad_left == 0 && s.KH <= s.stride_h &&
                    (s.KH == 1 || s.dilation_h == 1);
  bool side_by_side = windows_side_by_side<T>(s);
};

}  // namespace cnnlib::CNNLIB_ISA
