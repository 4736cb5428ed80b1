// The matrix product of affine layers and of convolutions whose kernel covers the image, and the
// micro-kernels.
#include "kernels/gemm/blocked_product.hpp"

namespace cnnlib::CNNLIB_ISA {

// Which way computes a product.
template <class T>
std::size_t matrix_product(const MatrixProduct<T>& p) {
  constexpr Index low = 12 * max_rows;  // rows of a which, packed for all threads, stay in the caches
  if (p.M == 0 || p.N == 0) return 0;
  if (suits_skinny_product(p)) return skinny_product(p);
  const bool small_result = p.M <= 2 * low && p.M * p.N <= p.sum.size / 2 * (p.M + p.N);
  if (p.sum.chunks > 1 && small_result) return product_by_chunks(p);
  if (p.M <= low && p.M < p.N) return product_by_column_panels(p);
  return product_by_row_blocks(p);
}

TILE_KERNELS(float, template)
TILE_KERNELS(double, template)
template std::size_t matrix_product(const MatrixProduct<float>&);
template std::size_t matrix_product(const MatrixProduct<double>&);

}  // namespace cnnlib::CNNLIB_ISA
