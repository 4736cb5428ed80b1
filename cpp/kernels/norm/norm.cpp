// The table's entries for batch, layer and group norm, and for batch norm behind a convolution.
#include "kernels.hpp"
#include "kernels/conv/conv_norm.hpp"
#include "kernels/families.hpp"
#include "kernels/norm/batch_norm.hpp"
#include "kernels/norm/row_norm.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
NormKernels<T> norm_kernels() {
  return {
      .batchnorm_train = &batchnorm_train<T>,
      .batchnorm_normalize = &batchnorm_normalize<T>,
      .batchnorm_backward = &batchnorm_backward<T>,
      .rownorm_forward = &rownorm_forward<T>,
      .rownorm_backward = &rownorm_backward<T>,
      .conv_bn_relu_backward = &conv_bn_relu_backward<T>,
      .conv_bn_relu_scratch = &conv_bn_relu_scratch<T>,
  };
}
template NormKernels<float> norm_kernels();
template NormKernels<double> norm_kernels();

}  // namespace cnnlib::CNNLIB_ISA
