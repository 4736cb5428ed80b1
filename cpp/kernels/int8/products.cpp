// The table's entries for products of bytes; also compiled for the sets' extensions that multiply bytes.
#include "kernels.hpp"
#include "kernels/families.hpp"
#include "kernels/int8/conv.hpp"
#include "kernels/int8/depthwise.hpp"
#include "kernels/int8/tiles.hpp"

namespace cnnlib::CNNLIB_ISA {

#ifdef __AMX_INT8__
namespace {

Index packed_bytes(const ByteConv& c) { return tiles_serve(c) ? tile_packed_bytes(c) : conv_packed_bytes(c); }
void pack(const ByteConv& c, const std::int8_t* w, const FilterNumbers& numbers, void* packed) {
  return (tiles_serve(c) ? pack_tiles : pack_conv)(c, w, numbers, packed);
}
void run(const ByteConv& c, const std::uint8_t* x, const std::uint8_t* other, const void* packed, void* y,
         Index images) {
  return (tiles_serve(c) ? conv_by_tiles : conv)(c, x, other, packed, y, images);
}

}  // namespace
#else
constexpr auto packed_bytes = conv_packed_bytes;
constexpr auto pack = pack_conv;
constexpr auto run = conv;
#endif

ByteProducts byte_products() {
  return {
      .name = CNNLIB_ISA_NAME,
      .conv_packed_bytes = packed_bytes,
      .pack_conv = pack,
      .conv = run,
      .depthwise_packed_bytes = &depthwise_packed_bytes,
      .pack_depthwise = &pack_depthwise,
      .depthwise = &depthwise,
  };
}

}  // namespace cnnlib::CNNLIB_ISA
