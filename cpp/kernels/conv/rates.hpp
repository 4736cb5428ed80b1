// What the work of a convolution costs, in the unit of a multiply-add of one vector. Of reference processors,
// not of the one at hand: a choice, and with it the bits of a result, must not change from machine to
// machine.
#pragma once

#include "kernels/simd/packet.hpp"
#include "shapes.hpp"

namespace cnnlib::CNNLIB_ISA {

// Forward, and dx and dw.
struct PassRates {
  double forward, gradients;

  constexpr double of(Pass pass) const { return pass == Pass::forward ? forward : gradients; }
};

// Rates that differ between instruction sets. The defaults are those of the baseline and of NEON.
struct SetRates {
  // Vector multiply-adds a cycle: two on Zen 2 to 5 and on Intel's cores; the baseline multiplies, then adds.
  double fmas_per_cycle = 2;
  // A product of dw of several taps.
  double taps_product = 1;
  // A vector that col2im adds to a row of dx.
  double gather = 5.2;
  // A vector of running sums read, added to and written, from beyond the second-level cache.
  double far_sum = 16;
  // A vector of a panel of filters that has no second one: AVX2's loads and few sums show.
  double single_vector = 1.75;
  // A product of 1x1 kernels by pixels and by filters in the lanes, which read the image where it lies, and
  // by panels of positions; and where pixels of all channels share a set of the first-level cache. With AVX2
  // a tile has so few products for each line of the image that the second level shows; with more registers
  // panels win nothing (bench/NOTES.md).
  struct PointwiseProduct {
    double pixels, filters, panels, aliased;
  } pointwise_product{1, 1, 1.2, 1};
  // Depthwise with channels in the lanes: a vector transposed twice. dx and dw, which one loop makes, take
  // the same. With AVX2 floats cost less than doubles (bench/NOTES.md).
  PassRates float_channel_transpose{4, 6}, double_channel_transpose{4, 6};
  // Depthwise on planes as they lie: a plane, a walk down it, and a vector of outputs at stride 1 and 2. The
  // baseline loads the vectors at a plane's edges value by value.
  PassRates plane{16, 96}, plane_walk{40, 90}, plane_vector{11, 15}, strided_plane_vector{9, 32};
};

constexpr SetRates rates_of(Set set) {
  SetRates r;
  switch (set) {
    case Set::base: r.fmas_per_cycle = 1; break;
    case Set::neon: break;
    case Set::avx2:
      r.taps_product = 1.05;
      r.gather = 8;
      r.far_sum = 10;
      r.pointwise_product = {1.04, 1.1, 1, 1.15};
      r.float_channel_transpose = {1.2, 4};
      r.plane_walk = {12, 30};
      r.plane_vector = {6.5, 7.5};
      r.strided_plane_vector = {9, 40};
      break;
    case Set::avx512:
      r.single_vector = 1;
      r.plane = {30, 40};
      r.plane_walk = {24, 24};
      r.plane_vector = {5, 9.5};
      r.strided_plane_vector = {9, 20};
      break;
  }
  return r;
}

// The evidence for a number is bench/METHODS-<class>.md and bench/NOTES.md: what 'auto' loses against the
// best method, cell by cell.
struct Rates {
  static constexpr SetRates set = rates_of(InstructionSet::set);

  // Images that share the packing of weights; results must not depend on the batch, so it is a usual one.
  static constexpr double reference_batch = 8;

  // Planning the blocks of an implicit GEMM and asking for its scratch, which small stencils do without.
  static constexpr double planning = 800;
  // A vector of an image copied to the staging planes, its row split or padded, and a row of it; at a stride
  // of more than two value by value.
  static constexpr double stage = 8, strided_stage = 16, stage_row = 20;
  static constexpr double stage_of(Index stride) { return stride > 2 ? strided_stage : stage; }
  // A vector of a finished tile transposed and stored.
  static constexpr double transpose = 6;
  // A vector of weights, or of dout, transposed into a panel.
  static constexpr double pack = 8;
  // A pixel of an image staged with channels last, a vector of them; at a stride the same.
  static constexpr double stage_channels = 4, strided_stage_channels = 10;
  static constexpr double stage_channels_of(Index stride) {
    return stride > 2 ? strided_stage_channels : stage_channels;
  }
  // A vector of the sums of dw of several taps, which are transposed before they are stored, of a dw that is
  // near, or beyond the second-level cache.
  static constexpr double taps_store = 16, far_taps_store = 64;
  // A vector of running sums read, added to and written, from the second-level cache.
  static constexpr double sum = 3;
  static constexpr double near_bytes = 512 << 10;
  // Dot products with an image's rows that are not near, beside near ones.
  static constexpr double far_rows = 1.2;
  static constexpr Index alias_bytes = 4 << 10;  // of a way of the first-level cache
  // A vector of an image copied to panels: of planes that lie side by side on a page, and of larger ones.
  static constexpr double panel_vector = 1, far_panel_vector = 4, near_plane_bytes = 4 << 10;
  // A vector of a tile stored to every second column, between those of another tile.
  static constexpr double store_pairs = 12;
  // The same value by value, a vector of it.
  static constexpr double store_scattered = 30;
  // A vector of points of windows gathered, or added to a row of the image; a row of them; a vector of the
  // image that they are added to. Points of windows side by side are rows of the image, split.
  static constexpr double split_points = 8, far_split_points = 32, near_points_bytes = 1 << 20, point_row = 2,
                          spread_row = 12, spread_image = 4;
  static constexpr double points(Index stride) { return stride > 2 ? 40 : stride > 1 ? 18 : 14; }
  static constexpr double spread_points(Index stride) { return stride > 2 ? 60 : 20; }

  // A vector of channels at one point of a Winograd tile: staged, transformed, stored, read. Kernels of one
  // row or column, and of 2x2, have small tiles; those in parts stage an image again; dw transforms both
  // operands.
  static constexpr double point = 10.7, line_point = 12, part_point = 16, gradient_point = 14;
  // A vector of a transformed filter. At stride 2 those of 4x4 and 5x5 have 100 and 121 points, which go to
  // memory and back, as do those of kernels in parts: 16, and more for the sake of single images, which share
  // them with none.
  static constexpr double filter_point = 8, large_filter_point = 24, gradient_filter_point = 28;
  // Winograd's products beside those of direct methods: they read their operands from further away, doubles
  // most.
  static constexpr double winograd_product = 1.05, winograd_double_product = 1.12;
  // At stride 2 a tile has 81 points: products of dw, and those of blocks whose transforms no second level
  // holds, or whose filters in float64, where direct methods come nearer to the peak, no cache near a core: a
  // row of them takes as long as `far_filters_rows` rows of tiles.
  static constexpr double strided_gradient_product = 1.12 * set.taps_product, far_tiles_product = 1.5,
                          far_tiles_bytes = 2 << 20, far_filters_bytes = 16e6, far_filters_rows = 7;

  // Winograd's method along rows: a vector of tiles at one point of a row of the image, of a filter's sums,
  // of a filter's gradients; a point of a transformed weight; a tile of products, and a sum of dw in a band,
  // besides their multiply-adds.
  static constexpr double row_input = 8, row_output = 6, row_gradient = 8, row_filter = 4, row_product = 30,
                          row_sum = 11;

  // One loop makes dx and dw of depthwise layers, which are mostly wanted together.
  static constexpr double depthwise_share(Pass pass) { return pass == Pass::forward ? 1 : 0.75; }
  template <class T>
  static constexpr double channel_transpose(Pass pass) {
    return (sizeof(T) == 4 ? set.float_channel_transpose : set.double_channel_transpose).of(pass);
  }
};

}  // namespace cnnlib::CNNLIB_ISA
