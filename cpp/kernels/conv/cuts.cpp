// Compiles the cuts of convolutions alone: in this unit the headers of threads and of the machine are errors,
// so that nothing which decides bits or how packed weights lie can ask for them.
#define CNNLIB_CUTS_ALONE

#include "kernels/conv/direct/cuts.hpp"
#include "kernels/conv/direct/implicit_gemm.hpp"
#include "kernels/conv/weight_gradient/cuts.hpp"

namespace cnnlib::CNNLIB_ISA {

#define INSTANTIATE(T)                                                  \
  template PixelCut<T> pixel_cut(const Correlation<T>&, Staging&);      \
  template FilterCut<T> filter_cut(const Correlation<T>&);              \
  template ChannelCut position_cut(const Correlation<T>&);              \
  template PositionBlocks dot_product_cut(const WeightGradient<T>&);    \
  template PositionBlocks tap_row_cut(const WeightGradient<T>&, Index); \
  template PositionBlocks shared_panel_cut(const WeightGradient<T>&);
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace cnnlib::CNNLIB_ISA

#undef CNNLIB_CUTS_ALONE
