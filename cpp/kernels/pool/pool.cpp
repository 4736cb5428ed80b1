// The table's entries for pooling and upsampling.
#include "kernels.hpp"
#include "kernels/families.hpp"
#include "kernels/pool/avg_pool.hpp"
#include "kernels/pool/max_pool.hpp"
#include "kernels/pool/upsample.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
PoolKernels<T> pool_kernels() {
  return {
      .max_pool_forward = &max_pool_forward<T>,
      .max_pool_backward = &max_pool_backward<T>,
      .avg_pool_forward = &avg_pool_forward<T>,
      .avg_pool_backward = &avg_pool_backward<T>,
      .upsample_forward = &upsample_forward<T>,
      .upsample_backward = &upsample_backward<T>,
  };
}
template PoolKernels<float> pool_kernels();
template PoolKernels<double> pool_kernels();

}  // namespace cnnlib::CNNLIB_ISA
