// The table's entries for attention.
#include "kernels/attention/backward.hpp"
#include "kernels/attention/forward.hpp"
#include "kernels/families.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
AttentionKernels<T> attention_kernels() {
  return {
      .attention_forward = &attention_forward<T>,
      .attention_backward = &attention_backward<T>,
  };
}
template AttentionKernels<float> attention_kernels();
template AttentionKernels<double> attention_kernels();

}  // namespace cnnlib::CNNLIB_ISA
