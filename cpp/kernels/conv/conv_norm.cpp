// The table's entries for convolution, batch norm and ReLU in a row.
#include "kernels/conv/conv_norm.hpp"

#include "kernels.hpp"
#include "kernels/families.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
void fill_conv_norm(Kernels<T>& kernels) {
  kernels.conv_bn_relu_train = &conv_bn_relu_train<T>;
  kernels.conv_bn_relu_backward = &conv_bn_relu_backward<T>;
}
template void fill_conv_norm(Kernels<float>&);
template void fill_conv_norm(Kernels<double>&);

}  // namespace cnnlib::CNNLIB_ISA
