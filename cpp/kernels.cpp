// Compiled once per instruction set, with CNNLIB_ISA naming the set; puts that set's table together.
#include "kernels.hpp"

#include "kernels/families.hpp"

namespace cnnlib::CNNLIB_ISA {
namespace {

template <class T>
Kernels<T> kernels_of() {
  return {conv_kernels<T>(),  inverted_residual_kernels<T>(), pool_kernels<T>(),       norm_kernels<T>(),
          dense_kernels<T>(), attention_kernels<T>(),         elementwise_kernels<T>()};
}

}  // namespace

const Isa& isa();
const Isa& isa() {
  static const Isa table = {CNNLIB_ISA_NAME, kernels_of<float>(), kernels_of<double>(), byte_layers(),
                            byte_products()};
  return table;
}

}  // namespace cnnlib::CNNLIB_ISA
