// The table's entries for pooling and upsampling.
#include "kernels.hpp"
#include "kernels/families.hpp"
#include "kernels/pool/adaptive_pool.hpp"
#include "kernels/pool/avg_pool.hpp"
#include "kernels/pool/max_pool.hpp"
#include "kernels/pool/max_pool_gradient.hpp"
#include "kernels/pool/upsample.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
PoolKernels<T> pool_kernels() {
  return {
      .max_pool_forward = &max_pool_forward<T, std::uint8_t>,
      .max_pool_forward_wide = &max_pool_forward<T, std::uint32_t>,
      .max_pool_backward = &max_pool_backward<T, std::uint8_t>,
      .max_pool_backward_wide = &max_pool_backward<T, std::uint32_t>,
      .max_pool_values = &max_pool_values<T>,
      .avg_pool_forward = &avg_pool_forward<T>,
      .avg_pool_backward = &avg_pool_backward<T>,
      .global_avg_pool_forward = &global_avg_pool_forward<T>,
      .global_avg_pool_backward = &global_avg_pool_backward<T>,
      .adaptive_max_pool_forward = &adaptive_max_pool_forward<T>,
      .adaptive_max_pool_backward = &adaptive_max_pool_backward<T>,
      .adaptive_avg_pool_forward = &adaptive_avg_pool_forward<T>,
      .adaptive_avg_pool_backward = &adaptive_avg_pool_backward<T>,
      .upsample_nearest_forward = &upsample_nearest_forward<T>,
      .upsample_nearest_backward = &upsample_nearest_backward<T>,
      .upsample_bilinear_forward = &upsample_bilinear_forward<T>,
      .upsample_bilinear_backward = &upsample_bilinear_backward<T>,
  };
}
template PoolKernels<float> pool_kernels();
template PoolKernels<double> pool_kernels();

}  // namespace cnnlib::CNNLIB_ISA
