// Compiled once per instruction set, with CNNLIB_ISA naming the set; fills that set's table.
#include "kernels.hpp"

#include "kernels/avg_pool.hpp"
#include "kernels/conv_norm.hpp"
#include "kernels/dense.hpp"
#include "kernels/loss.hpp"
#include "kernels/max_pool.hpp"
#include "kernels/max_pool_gradient.hpp"
#include "kernels/row_norm.hpp"
#include "kernels/update.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
constexpr Kernels<T> kernels_of() {
  return {
      &conv_forward<T>,
      &conv_backward<T>,
      &conv_bn_relu_train<T>,
      &conv_bn_relu_backward<T>,
      &bias_gradient<T>,
      &max_pool_forward<T, std::uint8_t>,
      &max_pool_forward<T, std::uint32_t>,
      &max_pool_backward<T, std::uint8_t>,
      &max_pool_backward<T, std::uint32_t>,
      &avg_pool_forward<T>,
      &avg_pool_backward<T>,
      &global_avg_pool_forward<T>,
      &global_avg_pool_backward<T>,
      &batchnorm_train<T>,
      &batchnorm_normalize<T>,
      &batchnorm_backward<T>,
      &rownorm_forward<T>,
      &rownorm_backward<T>,
      &affine_forward<T>,
      &affine_backward<T>,
      &softmax_loss<T>,
      &relu_forward<T>,
      &relu_backward<T>,
      &add<T>,
      &add_relu<T>,
      &multiply<T>,
      &leaky_relu_forward<T>,
      &leaky_relu_backward<T>,
      &sgd_step<T>,
      &momentum_step<T>,
      &rmsprop_step<T>,
      &adam_step<T>,
      &sum_of_squares<T>,
  };
}

extern const Isa isa;
constexpr Isa isa = {CNNLIB_ISA_NAME, kernels_of<float>(), kernels_of<double>()};

}  // namespace cnnlib::CNNLIB_ISA
