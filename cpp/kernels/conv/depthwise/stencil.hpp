// The stencil of a depthwise convolution on staged rows, where tap t lies a constant offset[t] from its
// output, and its adjoint with respect to the weights. Lane by lane:
//
//   sum_rows   out[i] = relu(start + sum over t of weight[t] * staged[i + offset[t]])
//   add_rows   sums[t] += sum over i of grad[i] * staged[i + offset[t]]
//              sums[taps] += sum over i of grad[i]
#pragma once

#include <algorithm>

#include "kernels/clamp.hpp"
#include "kernels/gemm/kernels_by_rows.hpp"
#include "kernels/simd/packet.hpp"

namespace cnnlib::CNNLIB_ISA {

// Rows of a register block: their sums, beside the nine weights of a 3x3 kernel; of other kernels, whose
// weights come one by one, as many as keep two units busy that take four cycles.
constexpr int stencil_rows = InstructionSet::stencil_rows, any_stencil_rows = 8;

// The taps of a stencil: tap t is the value `offset[t]` after its output's position in the staged rows, times
// number `weight[t]` of the channel's weights.
struct TapList {
  Index count;
  Index *offset, *weight;

  void add(Index tap_offset, Index tap_weight) {
    offset[count] = tap_offset;
    weight[count++] = tap_weight;
  }
  // Whether these are the nine taps of a 3x3 kernel, in rows of three whose stride is `step`.
  bool three_rows(Index step) const {
    for (Index t = 3; t < count; ++t)
      if (offset[t] - offset[t - 3] != step) return false;
    return count == 9;
  }
};

// Outputs of a stencil, in `lines` lines of stride `line`. In each line, for rows i and lanes j:
//   out[i * out_step + j] = start[j] + sum over t of weight[t][j] * staged[i * step + offset[t] + j]
template <class T>
struct TapSums {
  const TapList* taps;
  const T* weight;
  const T* start;
  Index step, out_step;
  Index lines, line, out_line;
  Clamp<T> activation;
};

template <class T, int R>
void finish_rows(const Clamp<T>& activation, Index step, typename Simd<T>::Packet* sum, T* out) {
  using S = Simd<T>;
  if (activation.changes())
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) sum[r] = clamp(activation, sum[r]);
#pragma GCC unroll 8
  for (int r = 0; r < R; ++r, out = next_row(out, step)) S::store(out, sum[r]);
}

// block(staged, out) for `blocks` blocks of R rows in each line.
template <int R, class T, class Block>
void each_block(const TapSums<T>& p, Index blocks, const T* staged, T* out, const Block& block) {
  for (Index line = 0; line < p.lines; ++line, staged += p.line, out += p.out_line)
    for (Index b = 0; b < blocks; ++b) block(staged + b * R * p.step, out + b * R * p.out_step);
}

// Computes `blocks` blocks of R rows in each line.
template <class T, int R>
void sum_taps(const TapSums<T>& p, Index blocks, const T* staged, T* out) {
  using S = Simd<T>;
  const auto start = S::load(p.start);
  const Index count = p.taps->count, *offset = p.taps->offset, step = p.step;
  each_block<R>(p, blocks, staged, out, [&](const T* from, T* to) __attribute__((always_inline)) {
    typename S::Packet sum[R];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) sum[r] = start;
    for (Index t = 0; t < count; ++t) {
      const auto weight = S::load(p.weight + t * S::size);
      const T* x = from + offset[t];
#pragma GCC unroll 8
      for (int r = 0; r < R; ++r, x = next_row(x, step)) sum[r] = S::fma(weight, S::load(x), sum[r]);
    }
    finish_rows<T, R>(p.activation, p.out_step, sum, to);
  });
}

// The same for a 3x3 kernel (TapList::three_rows): a staged row is loaded once for all rows of the block.
template <class T, int R>
void sum_three_rows(const TapSums<T>& p, Index blocks, const T* staged, T* out) {
  using S = Simd<T>;
  typename S::Packet weight[9];
#pragma GCC unroll 9
  for (int t = 0; t < 9; ++t) weight[t] = S::load(p.weight + t * S::size);
  const auto start = S::load(p.start);
  const Index offset[3] = {p.taps->offset[0], p.taps->offset[1], p.taps->offset[2]};
  const Index step = p.step;
  each_block<R>(p, blocks, staged, out, [&](const T* from, T* to) __attribute__((always_inline)) {
    typename S::Packet sum[R];
#pragma GCC unroll 8
    for (int r = 0; r < R; ++r) sum[r] = start;
#pragma GCC unroll 10
    for (int h = 0; h < R + 2; ++h, from = next_row(from, step))
#pragma GCC unroll 3
      for (int k = 0; k < 3; ++k) {
        const auto x = S::load_once(from + offset[k]);
#pragma GCC unroll 3
        for (int a = 0; a < 3; ++a)
          if (h - a >= 0 && h - a < R) sum[h - a] = S::fma(weight[3 * a + k], x, sum[h - a]);
      }
    finish_rows<T, R>(p.activation, p.out_step, sum, to);
  });
}

// Sums of products for the gradient of the weights, over `lines` lines, rows i and lanes j:
//   sums[t][j] += grad[i * grad_step + j] * staged[i * step + offset[t] + j]
//   sums[taps.count][j] += grad[i * grad_step + j]
template <class T>
struct TapProducts {
  const TapList* taps;
  Index step, grad_step;
  Index lines, line, grad_line;
};

// V taps from `first` on; returns the sum of grad.
template <class T, int V>
typename Simd<T>::Packet add_products(const TapProducts<T>& p, Index rows, const T* grad, const T* staged,
                                      Index first, T* sums) {
  using S = Simd<T>;
  typename S::Packet sum[V], total = S::zero();
  Index offset[V];
#pragma GCC unroll 9
  for (int t = 0; t < V; ++t) {
    sum[t] = S::load(sums + (first + t) * S::size);
    offset[t] = p.taps->offset[first + t];
  }
  for (Index line = 0; line < p.lines; ++line, grad += p.grad_line, staged += p.line)
    for (Index i = 0; i < rows; ++i) {
      const auto g = S::load_once(grad + i * p.grad_step);
      const T* x = staged + i * p.step;
      total = S::add(total, g);
#pragma GCC unroll 9
      for (int t = 0; t < V; ++t) sum[t] = S::fma(g, S::load(x + offset[t]), sum[t]);
    }
#pragma GCC unroll 9
  for (int t = 0; t < V; ++t) S::store(sums + (first + t) * S::size, sum[t]);
  return total;
}

// Cuts `rows` >= 0 rows into `count` register blocks of `height` rows and a remainder of fewer rows.
struct RowBlocks {
  Index height, count, done;
  RowBlocks(Index rows, Index most) {
    const Index blocks = std::max<Index>(1, ceil_div(rows, most));
    height = std::max<Index>(1, ceil_div(rows, blocks));
    count = rows / height;
    done = count * height;
  }
};

template <class T>
void sum_rows(const TapSums<T>& p, Index rows, const T* staged, T* out) {
  static constexpr auto any = kernels_by_rows<any_stencil_rows>([](auto R) { return &sum_taps<T, R()>; });
  static constexpr auto three = kernels_by_rows<stencil_rows>([](auto R) { return &sum_three_rows<T, R()>; });
  const bool three_rows = p.taps->three_rows(p.step);
  const RowBlocks blocks(rows, three_rows ? stencil_rows : any_stencil_rows);
  const auto sum = [&](Index height, Index count, const T* from, T* to) {
    (three_rows ? three[height - 1] : any[height - 1])(p, count, from, to);
  };
  sum(blocks.height, blocks.count, staged, out);
  if (blocks.done < rows)
    sum(rows - blocks.done, 1, staged + blocks.done * p.step, out + blocks.done * p.out_step);
}

// Adds the products of `rows` rows in each line to the sums.
template <class T>
void add_rows(const TapProducts<T>& p, Index rows, const T* grad, const T* staged, T* sums) {
  using S = Simd<T>;
  typename S::Packet total = S::zero();
  Index t = 0;
  for (; t + 9 <= p.taps->count; t += 9) total = add_products<T, 9>(p, rows, grad, staged, t, sums);
  for (; t + 3 <= p.taps->count; t += 3) total = add_products<T, 3>(p, rows, grad, staged, t, sums);
  for (; t < p.taps->count; ++t) total = add_products<T, 1>(p, rows, grad, staged, t, sums);
  T* bias = sums + p.taps->count * S::size;
  S::store(bias, S::add(S::load(bias), total));
}

}  // namespace cnnlib::CNNLIB_ISA
