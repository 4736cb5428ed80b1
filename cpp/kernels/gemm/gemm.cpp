// The matrix product of affine layers and of convolutions whose kernel covers the image, and the
// micro-kernels.
#include "kernels/gemm/matrix_product.hpp"

namespace cnnlib::CNNLIB_ISA {

TILE_KERNELS(float, template)
TILE_KERNELS(double, template)
template std::size_t matrix_product(const MatrixProduct<float>&);
template std::size_t matrix_product(const MatrixProduct<double>&);

}  // namespace cnnlib::CNNLIB_ISA
