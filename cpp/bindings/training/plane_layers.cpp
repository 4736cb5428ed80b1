// Layers that change the size of planes, each as its layer of cnnlib.layers computes it. `x` and `out` are
// numbers of values; shapes are those of an image.
#include "../pool_shape.hpp"
#include "bound_training.hpp"

namespace cnnlib {
namespace {

template <class T, class Shape>  // of a pool
void check_planes(BoundTraining<T>& p, int x, int out, const Shape& s) {
  p.reads(x, {s.planes, s.H, s.W});
  p.makes(out, {s.planes, s.OH, s.OW});
}
template <class T>
void check_planes(BoundTraining<T>& p, int x, int out, const UpsampleShape& s) {
  constexpr Index most = Index{1} << 31;
  require(s.scale_h >= 1 && s.scale_w >= 1 && s.H <= most / s.scale_h && s.W <= most / s.scale_w,
          [] { return std::string("loss: an upsampling beyond 2**31"); });
  p.reads(x, {s.planes, s.H, s.W});
  p.makes(out, {s.planes, s.H * s.scale_h, s.W * s.scale_w});
}

// A layer that keeps nothing: forward(x, out, shape) and backward(dout, dx, shape), planes of all images.
template <class T, class Shape>
void planes_layer(BoundTraining<T>& p, int x, int out, const Shape& image,
                  void (*PoolKernels<T>::*forward)(const T*, T*, const Shape&),
                  void (*PoolKernels<T>::*backward)(const T*, T*, const Shape&)) {
  check_planes(p, x, out, image);
  p.add([=](Batch<T>& batch) -> BatchBackward<T> {
    Shape s = image;
    s.planes *= batch.N;
    (kernels<T>().*forward)(batch.value(x).get(), batch.make(out), s);
    return [=](Batch<T>& taken) {
      taken.pass_back(x, out, [&](const T* dout, T* dx) { (kernels<T>().*backward)(dout, dx, s); });
    };
  });
}

// A layer that keeps where the maxima were: so many bytes for each output.
template <class T, class Shape, class Forward, class Gradient>
void maxima_layer(BoundTraining<T>& p, int x, int out, const Shape& image, Index bytes, Forward forward,
                  Gradient backward) {
  check_planes(p, x, out, image);
  p.add([=](Batch<T>& batch) -> BatchBackward<T> {
    Shape s = image;
    s.planes *= batch.N;
    const auto winners = new_memory<std::uint8_t>(batch.elements(out) * bytes);
    forward(batch.value(x).get(), batch.make(out), winners.get(), s);
    return [=](Batch<T>& taken) {
      taken.pass_back(x, out, [&](const T* dout, T* dx) { backward(dout, winners.get(), dx, s); });
    };
  });
}

template <class T>
PoolShape pool_of_image(const Array<T>& like, const PoolGeometry& geometry, bool ceil_mode, bool count_pad) {
  PoolShape s = pool_shape("loss", like, geometry, ceil_mode, count_pad);
  s.planes = like.shape(1);
  return s;
}

template <class T>
void max_pool_layer(BoundTraining<T>& p, int x, int out, const Array<T>& like, const PoolGeometry& geometry,
                    bool ceil_mode) {
  const PoolShape s = pool_of_image(like, geometry, ceil_mode, false);
  maxima_layer(p, x, out, s, winner_bytes(s), run_max_pool<T>, run_max_pool_backward<T>);
}

template <class T>
void avg_pool_layer(BoundTraining<T>& p, int x, int out, const Array<T>& like, const PoolGeometry& geometry,
                    bool ceil_mode, bool count_include_pad) {
  planes_layer(p, x, out, pool_of_image(like, geometry, ceil_mode, count_include_pad),
               &PoolKernels<T>::avg_pool_forward, &PoolKernels<T>::avg_pool_backward);
}

// shape: C, H, W, OH, OW.
template <class T>
void adaptive_pool_layer(BoundTraining<T>& p, int x, int out, const std::array<Index, 5>& shape,
                         bool maximum) {
  const AdaptivePoolShape s{shape[0], shape[1], shape[2], shape[3], shape[4]};
  if (!maximum)
    return planes_layer(p, x, out, s, &PoolKernels<T>::adaptive_avg_pool_forward,
                        &PoolKernels<T>::adaptive_avg_pool_backward);
  const auto forward = [](const T* values, T* y, void* winners, const AdaptivePoolShape& all) {
    kernels<T>().adaptive_max_pool_forward(values, y, static_cast<std::int64_t*>(winners), all);
  };
  const auto backward = [](const T* dout, const void* winners, T* dx, const AdaptivePoolShape& all) {
    kernels<T>().adaptive_max_pool_backward(dout, static_cast<const std::int64_t*>(winners), dx, all);
  };
  maxima_layer(p, x, out, s, Index(sizeof(std::int64_t)), forward, backward);
}

// shape: C, H, W and the factors of both axes.
template <class T>
void upsample_layer(BoundTraining<T>& p, int x, int out, const std::array<Index, 5>& shape, bool bilinear,
                    bool align_corners) {
  planes_layer(
      p, x, out, UpsampleShape{shape[0], shape[1], shape[2], shape[3], shape[4], align_corners},
      bilinear ? &PoolKernels<T>::upsample_bilinear_forward : &PoolKernels<T>::upsample_nearest_forward,
      bilinear ? &PoolKernels<T>::upsample_bilinear_backward : &PoolKernels<T>::upsample_nearest_backward);
}

template <class T>
void global_avg_pool_layer(BoundTraining<T>& p, int x, int out, Index C, Index S) {
  p.reads(x, {C, S});
  p.makes(out, {C});
  p.add([=](Batch<T>& batch) -> BatchBackward<T> {
    kernels<T>().global_avg_pool_forward(batch.value(x).get(), batch.make(out), batch.N * C, S);
    return [=](Batch<T>& taken) {
      taken.pass_back(x, out, [&](const T* dout, T* dx) {
        kernels<T>().global_avg_pool_backward(dout, dx, taken.N * C, S);
      });
    };
  });
}

}  // namespace

template <class T>
void bind_plane_layers(py::class_<BoundTraining<T>>& program) {
  const auto x = py::arg("x"), out = py::arg("out"), shape = py::arg("shape");
  const auto like = py::arg("like").noconvert(), geometry = py::arg("geometry"),
             ceil_mode = py::arg("ceil_mode");
  program.def("max_pool", &max_pool_layer<T>, x, out, like, geometry, ceil_mode)
      .def("avg_pool", &avg_pool_layer<T>, x, out, like, geometry, ceil_mode, py::arg("count_include_pad"))
      .def("adaptive_pool", &adaptive_pool_layer<T>, x, out, shape, py::arg("maximum"))
      .def("upsample", &upsample_layer<T>, x, out, shape, py::arg("bilinear"), py::arg("align_corners"))
      .def("global_avg_pool", &global_avg_pool_layer<T>, x, out, py::arg("C"), py::arg("S"));
}

template void bind_plane_layers(py::class_<BoundTraining<float>>&);
template void bind_plane_layers(py::class_<BoundTraining<double>>&);

}  // namespace cnnlib
