// All gradients of a convolution of images with few channels in one pass over dout, image by image, so
// that dout is read while it lies in the caches.
#pragma once

#include <optional>
#include <utility>

#include "kernels/conv/first_layer/input_gradient.hpp"
#include "kernels/conv/first_layer/weight_gradient.hpp"
#include "kernels/simd/sums.hpp"

namespace cnnlib::CNNLIB_ISA {

// Whether the gradients have few channels to share the work of a staged image, as in a first layer, yet
// enough taps and columns for methods of their own.
template <class T>
bool few_channels(const ConvShape& s) {
  const Index C = s.C / s.groups;
  return C <= 6 && C * s.KH * s.KW >= max_rows / 2 && s.OW >= Simd<T>::size && s.OH * s.OW >= tile_lanes<T> &&
         s.dilation_h * s.KH < 64 && s.dilation_w * s.KW < 64;
}

// Whether filters are so few that dx is a sum over them for each tap, at once: gathering what every tap
// received costs the same for any number of filters. The limits are measured ones.
inline bool few_filters(const ConvShape& s) {
  const Index C = s.C / s.groups, F = s.F / s.groups;
  return F < 6 || (s.stride_h == 1 && s.stride_w == 1 && C > 1 && F <= (C * s.KH * s.KW >= 45 ? 32 : 4 * C));
}

// Any of dx, dw and db may be null: not wanted. dx starts from `bias` (C,) unless that is null.
template <class T>
void gradients_few_channels(const T* x, const T* w, const T* dout, const T* bias, T* dx, T* dw, T* db,
                            const ConvShape& s) {
  constexpr Index most_positions = 1024;  // of a block, so that its part of the image stays in the caches
  const Index F = s.F / s.groups, plane = s.OH * s.OW;
  const double products = double(s.N) * s.F * (s.C / s.groups) * s.KH * s.KW * plane;
  const int threads = threads_for(2.0 / 16 * products * ((dx != nullptr) + (dw != nullptr)) +
                                  double(s.N) * s.F * plane * (db != nullptr));
  Layout axes;
  const auto axis_piece = axes.array<Index>(WeightGradient<T>::axis_indices(s));
  const Scratch axis_scratch(axes.bytes());
  WeightGradient<T> g(s, axis_piece.in(axis_scratch.data()));
  g.set_blocks(PositionBlocks::choose(1, g.OH, g.OW, most_positions), Simd<T>::size);
  const Index pieces = g.positions.row_blocks * g.positions.col_blocks, blocks = s.N * pieces;
  // The sums' parts depend on the shape alone; without sums every image may go its own way.
  const bool sums = dw != nullptr || db != nullptr;
  const Index parts = sums ? std::clamp<Index>(24 / s.groups, 1, blocks) : blocks;

  std::optional<InputGradientFewChannels<T>> input;
  std::optional<WeightGradientFewChannels<T>> weights;
  if (dx != nullptr) input.emplace(w, s, threads);
  // db is the same bits with dw and without.
  T* const db_of_weights =
      WeightGradientFewChannels<T>::leaves_room(g) ? std::exchange(db, nullptr) : nullptr;
  if (dw != nullptr || db_of_weights != nullptr) weights.emplace(g, dw != nullptr, parts, threads);
  Layout layout;
  const auto bias_piece = layout.array<double>(db != nullptr ? parts * s.F : 0);
  const Scratch scratch(layout.bytes());
  double* bias_sums = bias_piece.in(scratch.data());
  if (db != nullptr) std::fill_n(bias_sums, parts * s.F, 0.0);

  parallel_for(parts * s.groups, threads, [&](Index task, int slot) {
    const Index group = task % s.groups, part = task / s.groups;
    const Index first = part * blocks / parts, last = (part + 1) * blocks / parts;
    for (Index block = first; block < last; ++block)
      g.each_image(block, [&](Index n, Index, Index oh, Index ow, Index rows, Index cols, Index) {
        const Index image = n * s.groups + group;
        if (weights) weights->add(image, oh, ow, rows, cols, block == first, slot, x, dout);
        if (block % pieces != pieces - 1) return;  // the rest takes whole images
        if (db != nullptr)
          for (Index f = 0; f < F; ++f)
            bias_sums[part * s.F + group * F + f] += sum(dout + (image * F + f) * plane, plane);
        if (input) input->image(image, slot, dout, bias, dx);
      });
    if (weights) weights->close(part, group, slot);
  });

  if (weights) weights->finish(dw, db_of_weights);
  if (db != nullptr)
    for (Index f = 0; f < s.F; ++f) {
      double total = 0;
      for (Index part = 0; part < parts; ++part) total += bias_sums[part * s.F + f];
      db[f] = static_cast<T>(total);
    }
}

}  // namespace cnnlib::CNNLIB_ISA
