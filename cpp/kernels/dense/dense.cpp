// The table's entries for affine layers, softmax and losses.
#include "kernels.hpp"
#include "kernels/dense/affine.hpp"
#include "kernels/dense/matmul.hpp"
#include "kernels/dense/softmax.hpp"
#include "kernels/dense/softmax_loss.hpp"
#include "kernels/dense/value_losses.hpp"
#include "kernels/families.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
DenseKernels<T> dense_kernels() {
  return {
      .affine_forward = &affine_forward<T>,
      .affine_backward = &affine_backward<T>,
      .matmul = &matmul<T>,
      .softmax_loss = &softmax_loss<T>,
      .pointwise_loss = &pointwise_loss<T>,
      .dice_loss = &dice_loss<T>,
      .softmax_forward = &softmax_forward<T>,
      .softmax_backward = &softmax_backward<T>,
  };
}
template DenseKernels<float> dense_kernels();
template DenseKernels<double> dense_kernels();

}  // namespace cnnlib::CNNLIB_ISA
