// The table's entries for inverted residuals.
#include "kernels/conv/inverted_residual/block.hpp"
#include "kernels/families.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
InvertedResidualKernels<T> inverted_residual_kernels() {
  using Layers = InvertedResidualLayers<T>;
  return {
      .inverted_residual_packed_size =
          [](const InvertedResidualShape& s) { return InvertedResidualWeights<T>(s).size(); },
      .pack_inverted_residual = [](const InvertedResidualShape& s, const Layers& layers,
                                   T* packed) { InvertedResidualWeights<T>(s).pack(layers, packed); },
      .run_inverted_residual =
          [](const InvertedResidualShape& s, const Layers& layers, const T* packed, const T* x,
             const T* other, T* out) {
            if (s.N > 0) InvertedResidualPass<T>(s, layers).run(packed, x, other, out);
          },
  };
}
template InvertedResidualKernels<float> inverted_residual_kernels();
template InvertedResidualKernels<double> inverted_residual_kernels();

}  // namespace cnnlib::CNNLIB_ISA
