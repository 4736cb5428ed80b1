// The table's entries for products of bytes; also compiled for the sets' extensions that multiply bytes.
#include "kernels.hpp"
#include "kernels/families.hpp"
#include "kernels/int8/conv.hpp"
#include "kernels/int8/depthwise.hpp"
#include "kernels/int8/tiles.hpp"
#include "kernels/int8/winograd.hpp"

#ifdef __AMX_INT8__
namespace cnnlib::avx512vnni {
ByteProducts byte_products();
}
#endif

namespace cnnlib::CNNLIB_ISA {
namespace {

#ifdef __AMX_INT8__
ByteMethod method_of(const ByteConv& c) {
  const ByteMethod by_vectors = avx512vnni::byte_products().method(c);
  if (by_vectors.run == nullptr || !tiles_serve(c)) return by_vectors;
  return {"int8", &packed_bytes<TilePanels>, &pack_tiles, &conv_by_tiles};
}
#else
ByteMethod method_of(const ByteConv& c) {
  const ConvShape& s = c.shape;
  if (depthwise_serves(c))
    return {"int8 depthwise", &packed_bytes<DepthwisePanels>, &pack_depthwise, &depthwise};
  if (s.groups > 1 && s.C / s.groups % 4 != 0) return {nullptr, nullptr, nullptr, nullptr};
  if (winograd_serves(c)) return {"int8", &packed_bytes<WinogradPanels>, &pack_winograd, &winograd};
  return {"int8", &packed_bytes<ConvPanels>, &pack_conv, &conv};
}
#endif

}  // namespace

ByteProducts byte_products() { return {.name = CNNLIB_ISA_NAME, .method = &method_of}; }

}  // namespace cnnlib::CNNLIB_ISA
