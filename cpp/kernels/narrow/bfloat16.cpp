// Everything on bfloat16, compiled for the extensions that multiply it: AVX512_BF16, and AMX, which adds
// products of tiles to the former.
#include "kernels.hpp"
#include "kernels/families.hpp"
#include "kernels/narrow/bfloat16_format.hpp"
#include "kernels/narrow/conv.hpp"
#include "kernels/narrow/tiles.hpp"

#ifdef __AMX_BF16__

namespace cnnlib::avx512bf16 {
BfloatKernels bfloat_kernels();
}

namespace cnnlib::CNNLIB_ISA {
namespace {

BfloatMethod method_of(const BfloatConv& c) {
  if (!tiles_fit(c)) return avx512bf16::bfloat_kernels().method(c);
  return {"bfloat16 amx", &packed_bytes<TilePanels<BfloatFormat>, BfloatConv>, &pack_tiles<BfloatFormat>,
          &conv_by_tiles<BfloatFormat>};
}

}  // namespace

BfloatKernels bfloat_kernels() {
  BfloatKernels kernels = avx512bf16::bfloat_kernels();
  kernels.name = CNNLIB_ISA_NAME;
  kernels.method = &method_of;
  return kernels;
}

}  // namespace cnnlib::CNNLIB_ISA

#else

#include "kernels/narrow/bfloat16_depthwise.hpp"
#include "kernels/narrow/bfloat16_gradients.hpp"
#include "kernels/narrow/bfloat16_layer_gradients.hpp"
#include "kernels/narrow/bfloat16_layers.hpp"
#include "kernels/narrow/bfloat16_norm.hpp"
#include "kernels/narrow/bfloat16_winograd.hpp"

namespace cnnlib::CNNLIB_ISA {
namespace {

// A method and the convolutions that it computes.
struct BfloatRow {
  bool (*fits)(const BfloatConv&);
  BfloatMethod method;
};

// The first that fits is taken, by the shape alone: methods differ in bits.
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

BfloatMethod method_of(const BfloatConv& c) {
  for (const BfloatRow& row : bfloat_rows)
    if (row.fits(c)) return row.method;
  return {};
}

void conv_forward(BfloatMethodOf method_for, const BfloatConv& c, const float* w, const float* b,
                  const std::uint8_t* x, std::uint8_t* y, Index images) {
  const BfloatMethod method = method_for(c);
  const Scratch packed{std::size_t(method.packed_bytes(c))};
  method.pack(c, WeightView(w, c.shape), {b}, packed.data());
  method.run(c, x, nullptr, packed.data(), y, images);
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
      .conv_backward = &bfloat_conv_backward,
      .norm_train = &bfloat_norm_train,
      .norm_backward = &bfloat_norm_backward,
      .max_pool_with_places = &pool_maxima<true>,
      .max_pool_backward = &max_pool_backward,
      .avg_pool_backward = &avg_pool_backward,
      .relu_backward = &relu_backward,
      .activate_backward = &activate_backward,
      .take_channels = &take_channels,
  };
}

}  // namespace cnnlib::CNNLIB_ISA

#endif
