// The table's entries for batch, layer and group norm.
#include "kernels.hpp"
#include "kernels/families.hpp"
#include "kernels/norm/batch_norm.hpp"
#include "kernels/norm/pixel_norm.hpp"
#include "kernels/norm/row_norm.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
void fill_norm(Kernels<T>& kernels) {
  kernels.batchnorm_train = &batchnorm_train<T>;
  kernels.batchnorm_normalize = &batchnorm_normalize<T>;
  kernels.batchnorm_backward = &batchnorm_backward<T>;
  kernels.pixel_norm_forward = &pixel_norm_forward<T>;
  kernels.rownorm_forward = &rownorm_forward<T>;
  kernels.rownorm_backward = &rownorm_backward<T>;
}
template void fill_norm(Kernels<float>&);
template void fill_norm(Kernels<double>&);

}  // namespace cnnlib::CNNLIB_ISA
