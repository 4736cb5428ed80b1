#include "strided_copy.hpp"

#include <algorithm>
#include <cstdlib>

#include "threads/parallel.hpp"

namespace cnnlib {
namespace {

void move_axis(StridedCopy& copy, int from, int to) {
  copy.size[to] = copy.size[from];
  copy.from_step[to] = copy.from_step[from];
  copy.to_step[to] = copy.to_step[from];
}

void swap_axes(StridedCopy& copy, int a, int b) {
  std::swap(copy.size[a], copy.size[b]);
  std::swap(copy.from_step[a], copy.from_step[b]);
  std::swap(copy.to_step[a], copy.to_step[b]);
}

// Elements of a row.
template <class T>
void copy_row(const T* from, Index from_step, T* to, Index to_step, Index n) {
  if (from_step == 1 && to_step == 1) {
    std::memcpy(to, from, static_cast<std::size_t>(n) * sizeof(T));
  } else {
    for (Index i = 0; i < n; ++i) to[i * to_step] = from[i * from_step];
  }
}

// The innermost axes of a copy: the last one or, where elements lie side by side along another one in `from`,
// these two, in squares that stay in a near cache.
template <class T>
struct Inner {
  static constexpr Index square = 32;
  Index rows, row_from, row_to;
  Index n, from_step, to_step;

  void run(const T* from, T* to) const {
    if (rows == 1) return copy_row(from, from_step, to, to_step, n);
    for (Index first = 0; first < rows; first += square)
      for (Index j = 0; j < n; j += square)
        for (Index row = first; row < std::min(rows, first + square); ++row)
          copy_row(from + row * row_from + j * from_step, from_step, to + row * row_to + j * to_step, to_step,
                   std::min(square, n - j));
  }
};

template <class T>
void run_typed(StridedCopy copy, const T* from, Index from_image, T* to, Index to_image, Index images) {
  constexpr Index task_elements = 8192;  // worth a task
  const Index all = copy.elements();
  if (all == 0 || images == 0) return;
  if (copy.axes == 0) copy.size[copy.axes++] = 1;
  int last = copy.axes - 1;
  Inner<T> inner{1, 0, 0, copy.size[last], copy.from_step[last], copy.to_step[last]};
  if (inner.from_step != 1)
    for (int axis = 0; axis < last; ++axis)
      if (copy.from_step[axis] == 1) {
        inner.rows = copy.size[axis];
        inner.row_from = copy.from_step[axis];
        inner.row_to = copy.to_step[axis];
        swap_axes(copy, axis, --last);
        break;
      }
  // Outside of them runs axis by axis of an image, the first ones `last`.
  const Index inside = inner.rows * inner.n, outside = all / inside;
  const Index grain = std::max<Index>(1, task_elements / inside), tasks = ceil_div(outside, grain);
  const auto run_task = [&](Index image, Index begin, Index end) {
    Index at[StridedCopy::most_axes];
    Index rest = begin;
    for (int axis = last - 1; axis >= 0; rest /= copy.size[axis--]) at[axis] = rest % copy.size[axis];
    for (Index i = begin; i < end; ++i) {
      Index source = copy.from + image * from_image, target = copy.to + image * to_image;
      for (int axis = 0; axis < last; ++axis) {
        source += at[axis] * copy.from_step[axis];
        target += at[axis] * copy.to_step[axis];
      }
      inner.run(from + source, to + target);
      for (int axis = last - 1; axis >= 0 && ++at[axis] == copy.size[axis]; --axis) at[axis] = 0;
    }
  };
  const int threads = threads_for(double(all) * double(images) / 4);
  parallel_grid({images, tasks}, threads, [&](Index image, Index task, int) {
    run_task(image, task * grain, std::min(outside, (task + 1) * grain));
  });
}

}  // namespace

Index StridedCopy::elements() const {
  Index n = 1;
  for (int axis = 0; axis < axes; ++axis) n *= size[axis];
  return n;
}

StridedCopy simplified(const StridedCopy& given) {
  StridedCopy copy = given;
  copy.axes = 0;
  for (int axis = 0; axis < given.axes; ++axis)
    if (given.size[axis] != 1) {
      copy.size[copy.axes] = given.size[axis];
      copy.from_step[copy.axes] = given.from_step[axis];
      copy.to_step[copy.axes++] = given.to_step[axis];
    }
  // From the largest step to the result on, in the order given where they are alike.
  for (int end = copy.axes; end > 1; --end)
    for (int axis = 0; axis + 1 < end; ++axis)
      if (std::abs(copy.to_step[axis]) < std::abs(copy.to_step[axis + 1])) swap_axes(copy, axis, axis + 1);
  int kept = 0;
  for (int axis = 1; axis < copy.axes; ++axis) {
    const bool one = copy.from_step[kept] == copy.from_step[axis] * copy.size[axis] &&
                     copy.to_step[kept] == copy.to_step[axis] * copy.size[axis];
    if (one) {
      copy.size[axis] *= copy.size[kept];
      move_axis(copy, axis, kept);
    } else {
      move_axis(copy, axis, ++kept);
    }
  }
  if (copy.axes > 0) copy.axes = kept + 1;
  return copy;
}

void run_copy(const StridedCopy& simple, bool single, In from, Index from_image, Out to, Index to_image,
              Index images) {
  by_type(single, [&](auto zero) {
    using T = decltype(zero);
    run_typed<T>(simple, from, from_image, to, to_image, images);
  });
}

}  // namespace cnnlib
