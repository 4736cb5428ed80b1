// The matrix product of affine layers and of convolutions whose kernel covers the image.
#include "kernels/gemm/matrix_product.hpp"

namespace cnnlib::CNNLIB_ISA {

template void matrix_product(const MatrixProduct<float>&);
template void matrix_product(const MatrixProduct<double>&);

}  // namespace cnnlib::CNNLIB_ISA
