// The table's entries for convolution.
#include "kernels.hpp"
#include "kernels/conv/conv_norm.hpp"
#include "kernels/families.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
void fill_conv(Kernels<T>& kernels) {
  kernels.conv_forward = &conv_forward<T>;
  kernels.conv_backward = &conv_backward<T>;
  kernels.conv_bn_relu_train = &conv_bn_relu_train<T>;
  kernels.conv_bn_relu_backward = &conv_bn_relu_backward<T>;
  kernels.bias_gradient = &bias_gradient<T>;
}
template void fill_conv(Kernels<float>&);
template void fill_conv(Kernels<double>&);

}  // namespace cnnlib::CNNLIB_ISA
