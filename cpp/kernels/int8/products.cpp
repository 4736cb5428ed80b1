// The table's entries for products of bytes; also compiled for the sets' extensions that multiply bytes.
#include "kernels.hpp"
#include "kernels/families.hpp"
#include "kernels/int8/conv.hpp"
#include "kernels/int8/depthwise.hpp"

namespace cnnlib::CNNLIB_ISA {

ByteProducts byte_products() {
  return {
      .name = CNNLIB_ISA_NAME,
      .conv_packed_bytes = &conv_packed_bytes,
      .pack_conv = &pack_conv,
      .conv = &conv,
      .depthwise_packed_bytes = &depthwise_packed_bytes,
      .pack_depthwise = &pack_depthwise,
      .depthwise = &depthwise,
  };
}

}  // namespace cnnlib::CNNLIB_ISA
