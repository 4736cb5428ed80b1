// What each method fits, and what it costs for one image, in vector multiply-adds (rates.hpp).
#pragma once

#include <algorithm>

#include "kernels/conv/cuts.hpp"
#include "kernels/conv/direct/implicit_gemm.hpp"
#include "kernels/conv/rates.hpp"
#include "kernels/conv/winograd/tile_choice.hpp"
#include "kernels/conv/winograd_rows/cuts.hpp"
#include "kernels/gemm/dot_product.hpp"
#include "kernels/gemm/micro_kernel.hpp"

namespace cnnlib::CNNLIB_ISA {

// Sizes of one group, and vectors of them.
template <class T>
struct GroupSizes {
  static constexpr Index lanes = Simd<T>::size;
  Index C, F, taps, positions;
  double groups;

  explicit GroupSizes(const ConvShape& s)
      : C(s.C / s.groups), F(s.F / s.groups), taps(s.KH * s.KW), positions(s.OH * s.OW), groups(s.groups) {}
  static Index vectors(Index n) { return ceil_div(n, lanes); }
  // A plane of so many rows copied to the staging planes, or the shares of its rows and columns that are
  // read.
  static double staged_plane(Index rows, Index values, Index stride, double read_rows = 1,
                             double read_columns = 1) {
    return read_rows * (Rates::stage_of(stride) * read_columns * double(vectors(values)) +
                        Rates::stage_row * double(rows));
  }
};

// A correlation as the forward pass or dx: `in` channels to `out` ones, on a grid of OH x OW outputs of which
// dx at a stride has several.
template <class T>
struct CorrelationSizes : GroupSizes<T> {
  Index in, out, OH, OW, pitch, in_plane, classes;
  double staged;  // an input plane
  bool dx;

  CorrelationSizes(const ConvShape& s, Pass pass) : GroupSizes<T>(s), dx(pass == Pass::input_gradient) {
    const Index stride_h = dx ? s.stride_h : 1, stride_w = dx ? s.stride_w : 1;
    in = dx ? this->F : this->C;
    out = dx ? this->C : this->F;
    OH = ceil_div(dx ? s.H : s.OH, stride_h);
    OW = ceil_div(dx ? s.W : s.OW, stride_w);
    pitch = OW + (s.KW - 1) * s.dilation_w / s.stride_w;
    in_plane = dx ? s.OH * s.OW : s.H * s.W;
    // A kernel smaller than the stride leaves rows and columns out.
    staged =
        dx ? this->staged_plane(s.OH, in_plane, 1)
           : this->staged_plane(s.H, in_plane, s.stride_w, std::min(1.0, double(s.KH) / double(s.stride_h)),
                                std::min(1.0, double(s.KW) / double(s.stride_w)));
    // At stride 2 one correlation makes both column phases of dx.
    classes = stride_h * (stride_w == 2 ? 1 : stride_w);
  }
  double products() const { return double(in) * this->taps; }  // of an output
  // Vectors of positions of a plane: rows that start a vector each, or run on over their margins.
  Index position_vectors() const {
    return std::min(OH * this->vectors(OW), this->vectors((OH - 1) * pitch + OW));
  }
  double staging(bool in_place) const { return in_place ? 0 : double(in * classes) * staged; }
  // Each class of outputs reads the weights anew.
  double packing() const {
    return (Rates::planning + Rates::pack * products() * double(classes * this->vectors(out))) /
           Rates::reference_batch;
  }
};

inline bool fits_any(const ConvRequest&, Pass) { return true; }

template <class T>
double cost_pixel_lanes(const ConvRequest& r, Pass pass) {
  const ConvShape& s = r.shape;
  const CorrelationSizes<T> c(s, pass);
  const double rows = double(Panels(c.out).rows(0)), vectors = double(vectors_for(Panels(c.out).rows(0)));
  const double loads = std::max(1.0, (rows + vectors) / (rows * vectors));  // for each multiply-add
  const double outputs = double(c.out * c.position_vectors());
  const double store = !c.dx || s.stride_w == 1 ? 0
                       : s.stride_w == 2        ? Rates::store_pairs
                                                : Rates::store_scattered;
  const double stores = store * double(s.stride_h * s.stride_w) * outputs;
  // Values at one position of all channels share a set of the first-level cache.
  const bool aliased = c.in_plane * Index(sizeof(T)) % Rates::alias_bytes == 0;
  const double product = pointwise(s) ? Rates::set.pointwise_product.pixels *
                                            (aliased ? Rates::set.pointwise_product.aliased : 1)
                                      : 1;
  return c.groups *
         (product * loads * c.products() * outputs + c.staging(pointwise(s)) + c.packing() + stores);
}

template <class T>
double cost_filter_lanes(const ConvRequest& r, Pass pass) {
  const ConvShape& s = r.shape;
  const CorrelationSizes<T> c(s, pass);
  const double vectors = double(c.OH * c.OW * c.vectors(c.out));
  const bool scattered = c.dx && s.stride_w > 1 && !(s.stride_w == 2 && s.KW > 1);
  // Of an output of each phase.
  const double stored = (Rates::transpose + (scattered ? Rates::store_scattered : 0)) *
                        double(c.dx ? s.stride_h * s.stride_w : 1);
  const double product = pointwise(s)            ? Rates::set.pointwise_product.filters
                         : c.vectors(c.out) == 1 ? Rates::set.single_vector
                                                 : 1;
  return c.groups * ((product * c.products() + stored) * vectors + c.staging(pointwise(s)) + c.packing());
}

// Positions have no neighbours. Those of a usual batch share the panels; each is copied once for all filters.
inline bool fits_position_panels(const ConvRequest& r, Pass) {
  const ConvShape& s = r.shape;
  return InstructionSet::position_panels && s.N > 0 && pointwise(s);
}
template <class T>
double cost_position_panels(const ConvRequest& r, Pass pass) {
  const ConvShape& s = r.shape;
  constexpr double images = Rates::reference_batch;
  const CorrelationSizes<T> c(s, pass);
  const double vectors = double(c.vectors(Index(images) * c.positions)) / images;
  const bool far = double(c.positions) * sizeof(T) > Rates::near_plane_bytes;
  const double copy = far ? Rates::far_panel_vector : Rates::panel_vector;
  return c.groups * ((Rates::set.pointwise_product.panels * double(c.out) + copy) * c.products() * vectors +
                     c.packing());
}

// The kernel covers an axis of the image, once.
inline bool covers(Index out, Index size, Index K, Index pad, Index dilation) {
  return out == 1 && size == K && pad == 0 && (K == 1 || dilation == 1);
}
inline bool covers_rows(const ConvShape& s) { return covers(s.OH, s.H, s.KH, s.pad_top, s.dilation_h); }
inline bool covers_columns(const ConvShape& s) { return covers(s.OW, s.W, s.KW, s.pad_left, s.dilation_w); }

// It covers the image: the convolution is an affine layer.
inline bool fits_matrix_product(const ConvRequest& r, Pass) {
  const ConvShape& s = r.shape;
  return s.groups == 1 && covers_rows(s) && covers_columns(s);
}
// It covers an axis of more than one position.
inline bool fits_single_row(const ConvRequest& r, Pass pass) {
  const ConvShape& s = r.shape;
  return s.N > 0 && ((covers_rows(s) && s.KH > 1) || (covers_columns(s) && s.KW > 1)) &&
         !fits_matrix_product(r, pass);
}
template <class T>
double cost_matrix_product(const ConvRequest& r, Pass) {
  const ConvShape& s = r.shape;
  const GroupSizes<T> g(s);
  return double(g.C * g.taps) * double(g.vectors(g.F));
}

// Every channel has filters of its own. (A single channel with many filters is a matrix product.)
// Windows begin in the image's padding at most: what they read beyond it is staged.
inline bool fits_depthwise(const ConvRequest& r, Pass) {
  const ConvShape& s = r.shape;
  return s.N > 0 && s.groups == s.C && (s.C > 1 || s.F == 1) && s.pad_top <= (s.KH - 1) * s.dilation_h &&
         s.pad_left <= (s.KW - 1) * s.dilation_w;
}
// Planes (planes.hpp): a filter of 3x3 for each channel, at stride 1 or 2, whose windows reach over the
// image's edge but begin in it.
inline bool fits_depthwise_planes(const ConvRequest& r, Pass) {
  const ConvShape& s = r.shape;
  return s.N > 0 && s.groups == s.C && s.F == s.C && s.KH == 3 && s.KW == 3 && s.dilation_h == 1 &&
         s.dilation_w == 1 && s.stride_h == s.stride_w && s.stride_h <= 2 && s.pad_top <= 2 &&
         s.pad_left <= 2;
}
// A walk down each vector of columns of a plane.
template <class T>
double cost_depthwise_planes(const ConvRequest& r, Pass pass) {
  const ConvShape& s = r.shape;
  const GroupSizes<T> g(s);
  const double walks = double(g.vectors(s.OW)), vectors = walks * double(s.OH);
  const double vector =
      s.stride_h == 2 ? Rates::set.strided_plane_vector.of(pass) : Rates::set.plane_vector.of(pass);
  return Rates::depthwise_share(pass) * double(s.C) *
         (Rates::set.plane.of(pass) + Rates::set.plane_walk.of(pass) * walks + vector * vectors);
}
template <class T>
double cost_depthwise_channels(const ConvRequest& r, Pass pass) {
  const ConvShape& s = r.shape;
  const GroupSizes<T> g(s);
  const double in = double(g.vectors(s.C) * s.H * s.W),
               out = double(g.vectors(s.C) * (s.F / s.C) * g.positions);
  // The gradients' stencil walks over x, the forward pass's over out.
  const double walked =
      pass == Pass::forward ? out : std::max(out, in * double(s.F / s.C) / double(s.stride_h * s.stride_w));
  return Rates::depthwise_share(pass) *
         (double(g.taps) * walked + Rates::channel_transpose<T>(pass) * (in + out));
}

// Every convolution but those that have nothing to gather.
template <class T>
bool fits_gathered(const ConvRequest& r, Pass pass) {
  const ConvShape& s = r.shape;
  const double bytes = double(s.C * s.OH) * double(s.OW) * double(s.KH * s.KW) * sizeof(T);
  const bool few = s.KH * s.KW == 1 || bytes <= double(most_gathered_bytes);
  return s.N > 0 && !pointwise(s) && !fits_matrix_product(r, pass) && few;
}

// Few channels, and enough columns, to share the work of an image's rows.
template <class T>
bool few_channels(const ConvShape& s, Index most) {
  constexpr Index short_reach = 64;
  // Images are staged with margins as wide as the kernel.
  const auto short_beside = [&](Index reach, Index size) { return reach < std::max(short_reach, size); };
  const Index C = s.C / s.groups;
  return s.N > 0 && C <= most && s.OW >= Simd<T>::size && s.OH * s.OW >= NR<T> &&
         short_beside(s.dilation_h * s.KH, s.H) && short_beside(s.dilation_w * s.KW, s.W);
}
template <class T>
bool fits_col2im(const ConvRequest& r, Pass pass) {
  const ConvShape& s = r.shape;
  // Of the products that a thread holds, of the output rows that one row of dx needs.
  constexpr Index most_bytes = 16 << 20, most_channels = 6;
  const Index pairs = s.C / s.groups * s.KH * s.KW;
  if (pass != Pass::input_gradient || !few_channels<T>(s, most_channels) || pairs < MR / 2) return false;
  const Index rows = std::min(s.OH, (s.KH - 1) * s.dilation_h / s.stride_h + 2);
  return pairs <= most_bytes / Index(sizeof(T)) / (rows * s.OW);
}
template <class T>
double cost_col2im(const ConvRequest& r, Pass) {
  const ConvShape& s = r.shape;
  const GroupSizes<T> g(s);
  const double pairs = double(g.C * g.taps);
  const double gathered =
      pairs * double(ceil_div(s.H, s.stride_h)) * double(g.vectors(ceil_div(s.W, s.stride_w)));
  return g.groups * (pairs * double(g.F * s.OH) * double(g.vectors(s.OW)) + Rates::set.gather * gathered +
                     Rates::pack / Rates::reference_batch * pairs * double(g.vectors(g.F)));
}

// dw as a small matrix of long dot products.
template <class T>
bool fits_dot_products(const ConvRequest& r, Pass) {
  const ConvShape& s = r.shape;
  // Beyond them channels in the lanes are faster.
  constexpr Index most_channels = 16, narrow = 32;  // the smaller side of 1x1 kernels
  return few_channels<T>(s, most_channels) ||
         (s.N > 0 && pointwise(s) && std::min(s.C, s.F) / s.groups <= narrow && s.OH * s.OW >= NR<T>);
}
template <class T>
double cost_dot_products(const ConvRequest& r, Pass) {
  const ConvShape& s = r.shape;
  constexpr double block_positions = 1024;
  const GroupSizes<T> g(s);
  const double sums = double(g.F) * double(round_up(g.C * g.taps + 1, dot_block));
  const double bytes = sums * sizeof(T) * Simd<T>::size;
  const double blocks = std::max(1.0, double(g.positions) / block_positions);
  const double rows = double(g.C) * std::min(block_positions, double(g.positions)) * sizeof(T);
  return g.groups *
         ((rows > Rates::near_bytes ? Rates::far_rows : 1) * sums * double(s.OH * g.vectors(s.OW)) +
          (bytes > Rates::near_bytes ? Rates::set.far_sum : Rates::sum) * sums * blocks +
          (pointwise(s) ? 0 : double(g.C) * g.staged_plane(s.H, s.H * s.W, s.stride_w)));
}

// With filters in the lanes, and neighbouring columns of a kernel as the rows of a tile.
template <class T>
bool fits_tap_rows(const ConvRequest& r, Pass) {
  const ConvShape& s = r.shape;
  constexpr Index least_columns = 4, most_channels = 16;
  return InstructionSet::tap_rows && s.N > 0 && s.KW >= least_columns && s.KW <= MR && s.dilation_w == 1 &&
         s.C / s.groups <= most_channels && s.OH * s.OW >= NR<T>;
}
template <class T>
double cost_tap_rows(const ConvRequest& r, Pass) {
  const ConvShape& s = r.shape;
  const GroupSizes<T> g(s);
  return g.groups * double(g.vectors(g.F)) * double(g.positions) * (double(g.C * g.taps) + Rates::pack);
}

// With channels in the lanes.
template <class T>
double cost_shared_panels(const ConvRequest& r, Pass) {
  const ConvShape& s = r.shape;
  const GroupSizes<T> g(s);
  const double outputs = double(g.F * g.taps * g.vectors(g.C));
  const bool several = g.taps > 1, far = g.groups * outputs * sizeof(T) * Simd<T>::size > Rates::near_bytes;
  const double product = several ? Rates::set.taps_product : 1;
  const double store = !several ? Rates::pack : far ? Rates::far_taps_store : Rates::taps_store;
  return g.groups * (product * outputs * double(g.positions) +
                     Rates::stage_channels_of(s.stride_w) * double(g.vectors(g.C)) * double(s.H * s.W) +
                     Rates::pack * double(g.F) * double(g.vectors(g.positions)) +
                     store / Rates::reference_batch * outputs);
}

template <class T>
bool fits_winograd(const ConvRequest& r, Pass pass) {
  const ConvShape& s = r.shape;
  const Index K = std::max(s.KH, s.KW);
  const bool line = is_line(s.KH, s.KW), square = s.KH == s.KW && K <= 5;
  const Index margin_h = s.dilation_h * (s.KH - 1), margin_w = s.dilation_w * (s.KW - 1);
  const bool fits_stride = s.stride_h == 2 ? square && s.KH > 2 && s.dilation_h == 1 && s.dilation_w == 1
                                           : s.stride_h == 1 && K > (line ? 2 : 1);
  if (s.N == 0 || s.stride_h != s.stride_w || !fits_stride || s.pad_top > margin_h || s.pad_left > margin_w ||
      (s.OH - 1) * s.stride_h >= s.H + margin_h || (s.OW - 1) * s.stride_w >= s.W + margin_w)
    return false;
  // At stride 2 transformed filters are four times as many as the direct methods': where these stream from
  // memory, a single image waits for them, and many are no faster (bench/NOTES.md).
  constexpr Index most_bytes = 16 << 20;
  const bool dx = pass == Pass::input_gradient;
  return s.stride_h == 1 || r.wish != Method::automatic ||
         !streams_filters<T>(r, dx, with_tile<T>(r, dx, [](auto chosen) { return chosen.sizes; }),
                             most_bytes);
}
template <class T>
double cost_winograd(const ConvRequest& r, Pass pass) {
  const ConvShape& s = r.shape;
  const bool dw = pass == Pass::weight_gradient, dx = pass == Pass::input_gradient;
  constexpr Index lanes = Simd<T>::size;
  const GroupSizes<T> g(s);
  const TileShape shape = tile_shape(s, dx);
  const TileSizes tile = with_tile<T>(r, dx, [](auto chosen) { return chosen.sizes; });
  // A panel of filters (in dw, of channels) has two vectors where there are more than one; `filter_vectors`
  // is what its products take.
  const Index terms = shape.parts(tile) * round_up(shape.C, lanes), narrow = dw ? g.F : terms,
              wide = dw ? terms : shape.F;
  const double filter_vectors =
      wide <= lanes ? Rates::set.single_vector : double(round_up(wide, NR<T>)) / lanes;
  const double pairs = double(round_up(narrow, lanes)) * filter_vectors;
  const double tiles = double(shape.grid(tile).per_image), points = double(tile.points()),
               filters = double(tile.filters());
  const bool line = is_line(s.KH, s.KW), in_parts = !line && (s.KH != tile.h.taps || s.KW != tile.w.taps);
  const double point = line                           ? Rates::line_point
                       : in_parts || tile.h.taps == 2 ? Rates::part_point
                       : dw                           ? Rates::gradient_point
                                                      : Rates::point;
  double product = sizeof(T) == 8 ? Rates::winograd_double_product : Rates::winograd_product;
  if (s.stride_h == 2 && dw) product *= Rates::strided_gradient_product;
  // Blocks of tiles pass over all filters, unless there are fewer tiles than filters.
  const bool by_block = tiles * Rates::reference_batch * points > filters * double(wide);
  const bool far_tiles = points * double(narrow) * MR * sizeof(T) > Rates::far_tiles_bytes;
  const bool far_filters =
      sizeof(T) == 8 && filters * double(narrow) * double(wide) * sizeof(T) > Rates::far_filters_bytes;
  if (s.stride_h == 2 && !dw && by_block)
    product *= far_filters ? 1 + Rates::far_filters_rows / MR : far_tiles ? Rates::far_tiles_product : 1;
  const double filter = (dw                                          ? Rates::gradient_filter_point
                         : in_parts || (s.stride_h == 2 && s.KH > 3) ? Rates::large_filter_point
                                                                     : Rates::filter_point) /
                        Rates::reference_batch;
  return g.groups *
         (product * tiles * points * pairs +
          point * tiles * points * double(g.vectors(terms) + g.vectors(shape.F)) + filter * filters * pairs);
}

// A row's tile exists for its taps, channels are few, and an image has tiles for a block of products. In dw
// sums take the place of registers, and tiles in two dimensions win earlier.
template <class T>
bool fits_winograd_rows(const ConvRequest& r, Pass pass) {
  const ConvShape& s = r.shape;
  constexpr Index most_terms = 160, most_stride = 4;
  const Index most_channels = pass == Pass::forward ? 24 : 12;
  return s.N > 0 && pass != Pass::input_gradient && has_row_tile(row_taps(s)) && s.dilation_w == 1 &&
         s.stride_w <= most_stride && s.C / s.groups <= most_channels && row_terms(s) <= most_terms &&
         s.OH * ceil_div(s.OW, row_outs) >= NR<T>;
}
template <class T>
double cost_winograd_rows(const ConvRequest& r, Pass pass) {
  const ConvShape& s = r.shape;
  const GroupSizes<T> g(s);
  const Index row_tiles = ceil_div(s.OW, row_outs), tile_vectors_of_image = g.vectors(s.OH * row_tiles);
  const double terms = double(row_terms(s)), points = double(row_points(s)),
               outputs = points * double(g.F) * double(tile_vectors_of_image);
  // The transforms of the image's rows, and the products.
  const double both = double(g.C) * g.staged_plane(s.H, s.H * s.W, 1) +
                      Rates::row_input * points * double(g.C * s.H * g.vectors(row_tiles)) + outputs * terms;
  if (pass == Pass::forward) {
    const double packing = Rates::row_filter * points * terms * double(g.F) / Rates::reference_batch;
    const double tiles = points * double(Panels(g.F).count * ceil_div(tile_vectors_of_image, tile_vectors));
    return g.groups * (both + Rates::row_product * tiles + Rates::row_output * outputs + packing);
  }
  const Index phases = std::min(s.KH, s.stride_h);
  const double bands =
      double(ceil_div(s.OH, rows_of_band<T>(s, g.C * phases, (s.KH - 1) * s.dilation_h / s.stride_h)));
  const double sums = points * double(g.F) * double(round_up(row_terms(s), dot_block));
  const bool far = sums * sizeof(T) * Simd<T>::size > Rates::near_bytes;
  return g.groups *
         (both + Rates::row_gradient * outputs + (far ? Rates::set.far_sum : Rates::row_sum) * sums * bands);
}

}  // namespace cnnlib::CNNLIB_ISA
