// The table's entries for eight-bit values, but for products.
#include "kernels/narrow/byte_layers.hpp"
#include "kernels.hpp"
#include "kernels/families.hpp"

namespace cnnlib::CNNLIB_ISA {

ByteLayers byte_layers() {
  return {
      .quantize = &quantize,
      .dequantize = &dequantize,
      .max_pool = &max_pool,
      .avg_pool = &avg_pool,
      .add = &add,
      .look_up = &look_up,
      .copy_channels = &copy_channels,
  };
}

}  // namespace cnnlib::CNNLIB_ISA
