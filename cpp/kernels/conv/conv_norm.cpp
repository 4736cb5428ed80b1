// The table's entries for convolution, batch norm and ReLU in a row.
#include "kernels/conv/conv_norm.hpp"

#include "kernels.hpp"
#include "kernels/families.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
ConvNormKernels<T> conv_norm_kernels() {
  return {
      .conv_bn_relu_train = &conv_bn_relu_train<T>,
      .conv_bn_relu_backward = &conv_bn_relu_backward<T>,
      .conv_bn_relu_scratch = &conv_bn_relu_scratch<T>,
  };
}
template ConvNormKernels<float> conv_norm_kernels();
template ConvNormKernels<double> conv_norm_kernels();

}  // namespace cnnlib::CNNLIB_ISA
