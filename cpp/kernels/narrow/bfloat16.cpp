// Everything on bfloat16, compiled for the sets' extensions that multiply it: AVX512_BF16 and AMX.
#include "kernels.hpp"
#include "kernels/families.hpp"
#include "kernels/narrow/bfloat16_depthwise.hpp"
#include "kernels/narrow/bfloat16_format.hpp"
#include "kernels/narrow/bfloat16_gradients.hpp"
#include "kernels/narrow/bfloat16_layer_gradients.hpp"
#include "kernels/narrow/bfloat16_layers.hpp"
#include "kernels/narrow/bfloat16_norm.hpp"
#include "kernels/narrow/bfloat16_winograd.hpp"
#include "kernels/narrow/conv.hpp"
#include "kernels/narrow/tiles.hpp"

#ifdef __AMX_BF16__
namespace cnnlib::avx512bf16 {
BfloatKernels bfloat_kernels();
}
#endif

namespace cnnlib::CNNLIB_ISA {
namespace {

// A method and the convolutions that it computes.
struct BfloatRow {
  bool (*fits)(const BfloatConv&);
  BfloatMethod method;
};

// The first that fits is taken, by the shape alone: methods differ in bits.
#ifdef __AMX_BF16__
constexpr BfloatRow bfloat_rows[] = {
    {&tiles_fit,
     {"bfloat16 amx", &packed_bytes<TilePanels<BfloatFormat>, BfloatConv>, &pack_tiles<BfloatFormat>,
      &conv_by_tiles<BfloatFormat>}},
};
BfloatMethod otherwise(const BfloatConv& c) { return avx512bf16::bfloat_kernels().method(c); }
#else
constexpr BfloatRow bfloat_rows[] = {
    {&bfloat_depthwise_fits,
     {"bfloat16 depthwise", &packed_bytes<BfloatDepthwisePanels, BfloatConv>, &pack_bfloat_depthwise,
      &bfloat_depthwise}},
    {&bfloat_winograd_fits,
     {"bfloat16 winograd", &packed_bytes<BfloatWinogradPanels, BfloatConv>, &pack_bfloat_winograd,
      &bfloat_winograd}},
    {&conv_fits,
     {"bfloat16", &packed_bytes<ConvPanels<BfloatFormat>, BfloatConv>, &pack_conv<BfloatFormat>,
      &conv<BfloatFormat>}},
};
BfloatMethod otherwise(const BfloatConv&) { return {}; }
#endif

BfloatMethod method_of(const BfloatConv& c) {
  for (const BfloatRow& row : bfloat_rows)
    if (row.fits(c)) return row.method;
  return otherwise(c);
}

void conv_forward(const BfloatConv& c, const float* w, const float* b, const std::uint8_t* x, std::uint8_t* y,
                  Index images) {
  const BfloatMethod method = method_of(c);
  const Scratch packed{std::size_t(method.packed_bytes(c))};
  method.pack(c, WeightView(w, c.shape), {b}, packed.data());
  method.run(c, x, nullptr, packed.data(), y, images);
}

void conv_backward(const BfloatConv& c, const BfloatConvGradients& gradients, Index images) {
  bfloat_conv_backward(c, gradients, images, &method_of);
}

}  // namespace

BfloatKernels bfloat_kernels() {
  return {
      .name = CNNLIB_ISA_NAME,
      .method = &method_of,
      .narrow = &narrow,
      .widen = &widen,
      .max_pool = &max_pool,
      .avg_pool = &avg_pool,
      .join = &join,
      .activate = &activate,
      .copy_channels = &copy_channels,
      .gradients_fit = &bfloat_gradients_fit,
      .conv_forward = &conv_forward,
      .conv_backward = &conv_backward,
      .norm_train = &bfloat_norm_train,
      .norm_backward = &bfloat_norm_backward,
      .max_pool_with_places = &max_pool_with_places,
      .max_pool_backward = &max_pool_backward,
      .avg_pool_backward = &avg_pool_backward,
      .relu_backward = &relu_backward,
      .activate_backward = &activate_backward,
      .take_channels = &take_channels,
  };
}

}  // namespace cnnlib::CNNLIB_ISA
