// The matrix product of affine layers and of convolutions whose kernel covers the image, and the
// micro-kernels.
#include "kernels/gemm/blocked_product.hpp"

namespace cnnlib::CNNLIB_ISA {

namespace {

// A way to compute a product and those that it suits. None changes a bit.
template <class T>
struct ProductRow {
  bool (*fits)(const MatrixProduct<T>&);
  std::size_t (*run)(const MatrixProduct<T>&);
};

constexpr Index low = 12 * MR;  // rows of a which, packed for all threads, stay in the caches

template <class T>
bool small_result_of_long_sums(const MatrixProduct<T>& p) {
  return p.sum.chunks > 1 && p.M <= 2 * low && p.M * p.N <= p.sum.size / 2 * (p.M + p.N);
}
template <class T>
bool few_rows(const MatrixProduct<T>& p) {
  return p.M <= low && p.M < p.N;
}
template <class T>
bool any_product(const MatrixProduct<T>&) {
  return true;
}

// The first that fits is taken.
template <class T>
constexpr ProductRow<T> product_rows[] = {
    {&suits_skinny_product<T>, &skinny_product<T>},
    {&small_result_of_long_sums<T>, &product_by_chunks<T>},
    {&few_rows<T>, &product_by_column_panels<T>},
    {&any_product<T>, &product_by_row_blocks<T>},
};

}  // namespace

template <class T>
std::size_t matrix_product(const MatrixProduct<T>& p) {
  if (p.M == 0 || p.N == 0) return 0;
  const ProductRow<T>* row = product_rows<T>;
  while (!row->fits(p)) ++row;
  return row->run(p);
}

TILE_KERNELS(float, template)
TILE_KERNELS(double, template)
template std::size_t matrix_product(const MatrixProduct<float>&);
template std::size_t matrix_product(const MatrixProduct<double>&);

}  // namespace cnnlib::CNNLIB_ISA
