// Compiled once per instruction set, with CNNLIB_ISA naming the set; puts that set's table together.
#include "kernels.hpp"

#include "kernels/families.hpp"

namespace cnnlib::CNNLIB_ISA {
namespace {

template <class T>
Kernels<T> kernels_of() {
  Kernels<T> kernels{};
  fill_conv(kernels);
  fill_conv_norm(kernels);
  fill_inverted_residual(kernels);
  fill_pool(kernels);
  fill_norm(kernels);
  fill_dense(kernels);
  fill_elementwise(kernels);
  return kernels;
}

}  // namespace

const Isa& isa();
const Isa& isa() {
  static const Isa table = {CNNLIB_ISA_NAME, kernels_of<float>(), kernels_of<double>()};
  return table;
}

}  // namespace cnnlib::CNNLIB_ISA
