// The table's entries for activations, sums and products of arrays, and updates.
#include "kernels.hpp"
#include "kernels/elementwise/activations.hpp"
#include "kernels/elementwise/joins.hpp"
#include "kernels/elementwise/update.hpp"
#include "kernels/families.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
ElementwiseKernels<T> elementwise_kernels() {
  return {
      .relu_mask = &relu_mask<T>,
      .relu_backward_by_mask = &relu_backward_by_mask<T>,
      .join = &join<T>,
      .join_planes = &join_planes<T>,
      .normalize_bytes = &normalize_bytes<T>,
      .activation_forward = &activation_forward<T>,
      .activation_backward = &activation_backward<T>,
      .sgd_step = &sgd_step<T>,
      .momentum_step = &momentum_step<T>,
      .rmsprop_step = &rmsprop_step<T>,
      .adam_step = &adam_step<T>,
      .sum_of_squares = &sum_of_squares<T>,
  };
}
template ElementwiseKernels<float> elementwise_kernels();
template ElementwiseKernels<double> elementwise_kernels();

}  // namespace cnnlib::CNNLIB_ISA
