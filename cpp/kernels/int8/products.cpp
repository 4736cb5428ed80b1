// The table's entries for products of bytes; also compiled for the sets' extensions that multiply bytes.
#include "kernels.hpp"
#include "kernels/families.hpp"
#include "kernels/int8/conv.hpp"
#include "kernels/int8/depthwise.hpp"
#include "kernels/int8/tiles.hpp"

#ifdef __AMX_INT8__
namespace cnnlib::avx512vnni {
ByteProducts byte_products();
}
#endif

namespace cnnlib::CNNLIB_ISA {

#ifdef __AMX_INT8__
namespace {

// Computes what tiles do not serve.
const ByteProducts& vectors() {
  static const ByteProducts products = avx512vnni::byte_products();
  return products;
}

Index packed_bytes(const ByteConv& c) {
  return tiles_serve(c) ? tile_packed_bytes(c) : vectors().conv_packed_bytes(c);
}
void pack(const ByteConv& c, const std::int8_t* w, const FilterNumbers& numbers, void* packed) {
  return (tiles_serve(c) ? pack_tiles : vectors().pack_conv)(c, w, numbers, packed);
}
void run(const ByteConv& c, const std::uint8_t* x, const std::uint8_t* other, const void* packed, void* y,
         Index images) {
  return (tiles_serve(c) ? conv_by_tiles : vectors().conv)(c, x, other, packed, y, images);
}

}  // namespace

ByteProducts byte_products() {
  ByteProducts products = vectors();
  products.name = CNNLIB_ISA_NAME;
  products.conv_packed_bytes = packed_bytes;
  products.pack_conv = pack;
  products.conv = run;
  return products;
}
#else
ByteProducts byte_products() {
  return {
      .name = CNNLIB_ISA_NAME,
      .conv_packed_bytes = conv_packed_bytes,
      .pack_conv = pack_conv,
      .conv = conv,
      .depthwise_packed_bytes = &depthwise_packed_bytes,
      .pack_depthwise = &pack_depthwise,
      .depthwise = &depthwise,
  };
}
#endif

}  // namespace cnnlib::CNNLIB_ISA
