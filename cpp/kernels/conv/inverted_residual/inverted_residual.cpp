#include "kernels/conv/inverted_residual/inverted_residual.hpp"

#include "kernels/conv/inverted_residual/block.hpp"
#include "kernels/families.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
Index inverted_residual_packed_size(const InvertedResidualShape& s) {
  return InvertedResidualWeights<T>(s).size();
}

template <class T>
void pack_inverted_residual(const InvertedResidualShape& s, const InvertedResidualLayers<T>& layers,
                            T* packed) {
  InvertedResidualWeights<T>(s).pack(layers, packed);
}

template <class T>
void run_inverted_residual(const InvertedResidualShape& s, const InvertedResidualLayers<T>& layers,
                           const T* packed, const T* x, const T* other, T* out) {
  if (s.N > 0) InvertedResidualPass<T>(s, layers).run(packed, x, other, out);
}

template <class T>
InvertedResidualKernels<T> inverted_residual_kernels() {
  return {
      .inverted_residual_packed_size = &inverted_residual_packed_size<T>,
      .pack_inverted_residual = &pack_inverted_residual<T>,
      .run_inverted_residual = &run_inverted_residual<T>,
  };
}
template InvertedResidualKernels<float> inverted_residual_kernels();
template InvertedResidualKernels<double> inverted_residual_kernels();

}  // namespace cnnlib::CNNLIB_ISA
