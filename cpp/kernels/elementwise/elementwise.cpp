// The table's entries for activations, sums and products of arrays, and updates.
#include "kernels.hpp"
#include "kernels/elementwise/activations.hpp"
#include "kernels/elementwise/activations_by_name.hpp"
#include "kernels/elementwise/images.hpp"
#include "kernels/elementwise/spread.hpp"
#include "kernels/elementwise/update.hpp"
#include "kernels/families.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
void fill_elementwise(Kernels<T>& kernels) {
  kernels.relu_forward = &relu_forward<T>;
  kernels.relu_backward = &relu_backward<T>;
  kernels.relu_mask = &relu_mask<T>;
  kernels.relu_backward_by_mask = &relu_backward_by_mask<T>;
  kernels.add = &add<T>;
  kernels.add_relu = &add_relu<T>;
  kernels.multiply = &multiply<T>;
  kernels.spread_add = &spread_add<T>;
  kernels.spread_multiply = &spread_multiply<T>;
  kernels.normalize_bytes = &normalize_bytes<T>;
  kernels.leaky_relu_forward = &leaky_relu_forward<T>;
  kernels.leaky_relu_backward = &leaky_relu_backward<T>;
  kernels.activation_forward = &activation_forward<T>;
  kernels.activation_backward = &activation_backward<T>;
  kernels.sgd_step = &sgd_step<T>;
  kernels.momentum_step = &momentum_step<T>;
  kernels.rmsprop_step = &rmsprop_step<T>;
  kernels.adam_step = &adam_step<T>;
  kernels.sum_of_squares = &sum_of_squares<T>;
}
template void fill_elementwise(Kernels<float>&);
template void fill_elementwise(Kernels<double>&);

}  // namespace cnnlib::CNNLIB_ISA
