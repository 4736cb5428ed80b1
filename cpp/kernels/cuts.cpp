// Compiles the cuts alone: in this unit the headers of threads and of the machine are errors, so that nothing
// which decides bits or how packed weights lie can ask for them.
#define CNNLIB_CUTS_ALONE

#include "kernels/conv/cuts.hpp"
#include "kernels/attention/cuts.hpp"
#include "kernels/channel_cuts.hpp"
#include "kernels/conv/depthwise/cuts.hpp"
#include "kernels/conv/direct/cuts.hpp"
#include "kernels/conv/direct/implicit_gemm.hpp"
#include "kernels/conv/weight_gradient/cuts.hpp"
#include "kernels/conv/winograd/cuts.hpp"
#include "kernels/conv/winograd_rows/cuts.hpp"
#include "kernels/gemm/cuts.hpp"
#include "kernels/narrow/byte_cuts.hpp"
#include "kernels/narrow/cuts.hpp"

namespace cnnlib::CNNLIB_ISA {

#define INSTANTIATE(T)                                                               \
  template PixelCut<T> pixel_cut(const Correlation<T>&, Staging&);                   \
  template FilterCut<T> filter_cut(const Correlation<T>&);                           \
  template SumCut position_cut(const Correlation<T>&);                               \
  template PositionBlocks dot_product_cut<T>(const ConvShape&);                      \
  template PositionBlocks tap_row_cut<T>(const ConvShape&);                          \
  template PositionBlocks shared_panel_cut<T>(const ConvShape&);                     \
  template PointCut point_cut<T>(const TileShape&, const TileSizes&);                \
  template TileCut tile_cut(const TileShape&, const TileSizes&, const TileSums<T>&); \
  template Index rows_of_band<T>(const ConvShape&, Index, Index);                    \
  template ChannelGradientCut channel_gradient_cut<T>(const ConvShape&);             \
  template Index gathered_images<T>(Index, Index);                                   \
  template struct AttentionCut<T>;                                                   \
  template Index conv_norm_images<T>(const ConvShape&);
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace cnnlib::CNNLIB_ISA

#undef CNNLIB_CUTS_ALONE
