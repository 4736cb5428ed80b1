// The tasks of a pass over planes.
#pragma once

#include "threads/parallel.hpp"

namespace cnnlib::CNNLIB_ISA {

// Whole planes, or some rows of one plane, or some columns of one of its rows: [first, last) each.
struct PlaneTask {
  Index first_plane, last_plane, first_row, last_row, first_column, last_column;
};

// A grid of planes by bands of rows by blocks of columns. It may follow from the threads: a pass has to give
// the same bits for any grid.
struct PlaneGrid {
  static constexpr Index most_values = 16384;  // in a task: many times what starting it costs
  static constexpr Index least_values = 4096;
  static constexpr Index tasks_per_thread = 4;
  static constexpr Index column_unit = 64;  // columns of a block: whole vectors

  Index planes, rows, columns;
  Index group, band, block;  // planes, rows and columns of a task
  int threads;

  // `values` is what a plane reads and writes, `work` what all of them take (threads_for). Bands are
  // multiples of row_unit. A pass that cannot cut rows has a single column.
  [[gnu::noinline]] PlaneGrid(Index plane_count, Index row_count, Index column_count, Index values,
                              double work, Index row_unit = 1)
      : planes(plane_count),
        rows(row_count),
        columns(column_count),
        group(1),
        band(row_count),
        block(column_count),
        threads(threads_for(work)) {
    const double even = double(planes) * double(values) / double(tasks_per_thread * threads);
    const Index most = even < double(least_values)  ? least_values
                       : even > double(most_values) ? most_values
                                                    : Index(even);
    const Index row_values = std::max<Index>(1, values / std::max<Index>(1, rows));
    if (values <= most) {
      group = std::max<Index>(1, most / std::max<Index>(1, values));
    } else if (row_values <= most || columns == 1) {
      band = even_part(rows, std::max(row_unit, most / row_values), row_unit);
    } else {
      band = 1;
      block = even_part(columns, std::max(column_unit, columns / (row_values / most)), column_unit);
    }
    threads = int(std::min<Index>(threads, std::max<Index>(1, tasks())));
  }

  Index tasks() const { return ceil_div(planes, group) * ceil_div(rows, band) * ceil_div(columns, block); }

  template <class Body>  // body(task, slot)
  void each(const Body& body, Order order = Order::forward) const {
    const Index bands = ceil_div(rows, band), blocks = ceil_div(columns, block);
    parallel_for(
        tasks(), threads,
        [&](Index i, int slot) {
          const Index plane = i / blocks / bands * group, row = i / blocks % bands * band,
                      column = i % blocks * block;
          body(PlaneTask{plane, std::min(planes, plane + group), row, std::min(rows, row + band), column,
                         std::min(columns, column + block)},
               slot);
        },
        order);
  }
};

}  // namespace cnnlib::CNNLIB_ISA
