// Prefetches of what comes after the work at hand, in small parts between its tiles.
#pragma once

#include <algorithm>
#include <utility>

#include "kernels/simd/memory.hpp"
#include "shapes.hpp"

namespace cnnlib::CNNLIB_ISA {

// Prefetches what the next step reads, rows of bytes, for the second-level cache, a part with each tile.
class PrefetchAhead {
 public:
  PrefetchAhead() = default;
  template <class T>
  PrefetchAhead(const T* data, Index rows, Index row_step, Index row_size, Index parts)
      : data_(reinterpret_cast<const char*>(data)),
        step_(row_step * Index(sizeof(T))),
        row_lines_(ceil_div(row_size * Index(sizeof(T)), cache_line_bytes)),
        lines_(rows * row_lines_),
        lines_of_part_(ceil_div(lines_ << fraction_bits, parts)) {}
  void part(Index i) const {
    Index line = first_line(i), left = first_line(i + 1) - line;
    if (left == 0) return;
    const Index row = row_lines_ == lines_ ? 0 : line / row_lines_;
    line -= row * row_lines_;
    for (const char* at = data_ + row * step_; left > 0; at += step_, line = 0)
      for (; line < row_lines_ && left > 0; ++line, --left) prefetch<2>(at + line * cache_line_bytes);
  }
  bool contiguous() const { return lines_ > 0 && lines_ == row_lines_; }
  // Where part i of a single run begins, and its lines.
  template <class T>
  std::pair<const T*, Index> run(Index i) const {
    const Index first = first_line(i);
    return {reinterpret_cast<const T*>(data_ + first * cache_line_bytes), first_line(i + 1) - first};
  }
  // The same without its first parts.
  PrefetchAhead after(Index parts) const {
    PrefetchAhead rest = *this;
    rest.done_ += parts;
    return rest;
  }

 private:
  static constexpr int fraction_bits = 24;
  Index first_line(Index i) const {
    return std::min(lines_, ((done_ + i) * lines_of_part_) >> fraction_bits);
  }

  const char* data_ = nullptr;
  Index step_ = 0, row_lines_ = 1, lines_ = 0, lines_of_part_ = 0, done_ = 0;  // lines of a part: fixed-point
};

}  // namespace cnnlib::CNNLIB_ISA
