// How the rows of layer and group norm are shared out among threads.
#pragma once

#include "kernels/channel_parts.hpp"
#include "kernels/norm/norm_sums.hpp"

namespace cnnlib::CNNLIB_ISA {

// Whether a pass over long rows should prefetch the next one meanwhile: where they come from memory.
template <class T>
bool prefetches_rows(Index size, Index all) {
  constexpr Index long_row_bytes = 2 << 10, cached_bytes = 8 << 20;
  return size * Index(sizeof(T)) >= long_row_bytes && all * Index(sizeof(T)) >= cached_bytes;
}

// How rows are shared out: one by one, the sums of a row and what is made of them while it is in the cache;
// or, where few long rows would keep few threads busy, the parts of all sums first. The sums are the same.
struct RowTasks {
  int threads;
  bool cut;

  RowTasks(Index rows, Index size, double work)
      : threads(threads_for(work * double(rows) * double(size))),
        cut(threads > 1 && size > SumParts::least_values && rows < PlaneGrid::tasks_per_thread * threads) {}
};

// Adds up part(0), part(1), ... in this order.
template <class Sums, class Part>
Sums sum_of_parts(Index count, const Part& part) {
  Sums total = part(0);
  for (Index i = 1; i < count; ++i) total.add(part(i));
  return total;
}

// body(row, channel of the row, first value, values) for blocks of all channels of all rows; layer norm's row
// is a single channel.
template <class Body>
void each_norm_block(const RowNormShape& s, bool layer, const Body& body) {
  const Index channels = layer ? 1 : s.channels, size = layer ? s.channels : s.S;
  const PlaneGrid grid(s.rows * channels, 1, size, size, 2.0 * double(s.rows * s.channels) * double(s.S));
  grid.each([&](const PlaneTask& task, int) {
    for (Index plane = task.first_plane; plane < task.last_plane; ++plane)
      body(plane / channels, plane % channels, task.first_column, task.last_column - task.first_column);
    store_fence();
  });
}

// Layer norm: each column of a row has its own gamma.
inline bool is_layer_norm(const RowNormShape& s) { return s.S == 1 && s.channels == s.C; }

}  // namespace cnnlib::CNNLIB_ISA
