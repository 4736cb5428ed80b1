#include "kernels/conv/depthwise/flat_planes.hpp"

#include "kernels/conv/depthwise/flat_gradients.hpp"
#include "kernels/conv/depthwise/planes.hpp"

namespace cnnlib::CNNLIB_ISA {

template <class T>
void run_flat_planes(const ConvShape& s, const ConvOperands<T>& o) {
  FlatPlanes<T> planes(s);
  Layout layout;
  const auto masks = layout.array<T>(planes.masks_size());
  const auto copies = layout.per_thread<T>(planes_threads(s), planes.copy_size());
  const Scratch scratch(layout.bytes());
  planes.set_masks(masks.in(scratch.data()));
  const T* end = o.in + s.N * s.C * planes.size;
  each_plane(s, o, [&](int slot, const T* image, const T* w, T bias, T* out) {
    planes.correlate(planes.within(image, o.in, end, copies.of(scratch.data(), slot)), w, bias,
                     o.epilogue.activation, out);
  });
}

template <class T>
void describe_flat_gradients(ConvPlan& plan, bool dx, bool sums) {
  DepthwiseFlatGradients<T>(plan.shape, dx, sums).describe(plan);
}
template <class T>
void run_flat_gradients(const ConvShape& s, const DepthwiseGradients<T>& o) {
  DepthwiseFlatGradients<T>(s, o.dx != nullptr, o.dw != nullptr || o.db != nullptr).run(o);
}

#define INSTANTIATE(T)                                                     \
  template void run_flat_planes(const ConvShape&, const ConvOperands<T>&); \
  template void describe_flat_gradients<T>(ConvPlan&, bool, bool);         \
  template void run_flat_gradients(const ConvShape&, const DepthwiseGradients<T>&);
INSTANTIATE(float)
INSTANTIATE(double)
#undef INSTANTIATE

}  // namespace cnnlib::CNNLIB_ISA
