// The table's entries for affine layers, softmax and the loss.
#include "kernels.hpp"
#include "kernels/dense/affine.hpp"
#include "kernels/dense/softmax.hpp"
#include "kernels/dense/softmax_loss.hpp"
#include "kernels/families.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
void fill_dense(Kernels<T>& kernels) {
  kernels.affine_forward = &affine_forward<T>;
  kernels.affine_backward = &affine_backward<T>;
  kernels.softmax_forward = &softmax_forward<T>;
  kernels.softmax_backward = &softmax_backward<T>;
  kernels.softmax_loss = &softmax_loss<T>;
}
template void fill_dense(Kernels<float>&);
template void fill_dense(Kernels<double>&);

}  // namespace cnnlib::CNNLIB_ISA
