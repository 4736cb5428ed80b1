// Steps that change the size of planes.
#include "../pool_shape.hpp"
#include "steps.hpp"

namespace cnnlib {
namespace {

// A step whose kernel works on the planes of the shape, which are those of one image.
template <class T, class Shape, class Kernel>
void planes_step(BoundProgram<T>& p, const std::string& name, double work, int input, int output,
                 const Shape& s, const Kernel& kernel) {
  p.add_step(name, work, [=](const Frame<T>& f) {
    Shape images = s;
    images.planes *= f.images;
    kernel(f.read(input), f.write(output), images);
  });
}

template <class T>
void pool_step(BoundProgram<T>& p, const std::string& name, int input, int output, const Array<T>& like,
               PoolShape s, void (*kernel)(const T* x, T* out, const PoolShape&)) {
  s.planes = like.shape(1);
  p.reads_and_writes(input, {s.planes, s.H, s.W}, output, {s.planes, s.OH, s.OW});
  const double work = double(s.planes * s.OH * s.OW) * double(s.PH * s.PW) / 4;
  planes_step(p, name, work, input, output, s, kernel);
}

template <class T>
void max_pool_step(BoundProgram<T>& p, const std::string& name, int input, int output, const Array<T>& like,
                   const PoolGeometry& geometry, bool ceil_mode) {
  pool_step(p, name, input, output, like, pool_shape("prepare", like, geometry, ceil_mode, false),
            p.kernels().max_pool_values);
}

template <class T>
void avg_pool_step(BoundProgram<T>& p, const std::string& name, int input, int output, const Array<T>& like,
                   const PoolGeometry& geometry, bool ceil_mode, bool count_include_pad) {
  pool_step(p, name, input, output, like, pool_shape("prepare", like, geometry, ceil_mode, count_include_pad),
            p.kernels().avg_pool_forward);
}

template <class T>
void global_avg_pool_step(BoundProgram<T>& p, const std::string& name, int input, int output, Index C,
                          Index S) {
  p.reads_and_writes(input, {C, S}, output, {C});
  const Kernels<T>& k = p.kernels();
  p.add_step(name, double(C) * double(S) / 4, [=, &k](const Frame<T>& f) {
    k.global_avg_pool_forward(f.read(input), f.write(output), C * f.images, S);
  });
}

// shape: channels, H, W, OH, OW
template <class T>
void adaptive_pool_step(BoundProgram<T>& p, const std::string& name, int input, int output,
                        const std::array<Index, 5>& shape, bool maximum) {
  const AdaptivePoolShape s{shape[0], shape[1], shape[2], shape[3], shape[4]};
  p.reads_and_writes(input, {s.planes, s.H, s.W}, output, {s.planes, s.OH, s.OW});
  const double work = double(s.planes * s.H * s.W) / 4;
  const Kernels<T>& k = p.kernels();
  if (!maximum) return planes_step(p, name, work, input, output, s, k.adaptive_avg_pool_forward);
  planes_step(p, name, work, input, output, s, [&k](const T* x, T* out, const AdaptivePoolShape& images) {
    std::vector<std::int64_t> places(static_cast<std::size_t>(images.planes * images.OH * images.OW));
    k.adaptive_max_pool_forward(x, out, places.data(), images);
  });
}

// shape: channels, H, W, scale_h, scale_w
template <class T>
void upsample_step(BoundProgram<T>& p, const std::string& name, int input, int output,
                   const std::array<Index, 5>& shape, bool bilinear, bool align_corners) {
  const UpsampleShape s{shape[0], shape[1], shape[2], shape[3], shape[4], align_corners};
  p.reads_and_writes(input, {s.planes, s.H, s.W}, output, {s.planes, s.H, s.scale_h, s.W, s.scale_w});
  const Kernels<T>& k = p.kernels();
  planes_step(p, name, double(s.planes * s.H * s.scale_h * s.W * s.scale_w) / 4, input, output, s,
              bilinear ? k.upsample_bilinear_forward : k.upsample_nearest_forward);
}

}  // namespace

template <class T>
void bind_pool_steps(py::class_<BoundProgram<T>>& program) {
  const auto name = py::arg("name"), input = py::arg("input"), output = py::arg("output");
  const auto like = py::arg("like").noconvert(), geometry = py::arg("geometry"), shape = py::arg("shape");
  const auto ceil_mode = py::arg("ceil_mode");
  program.def("max_pool", &max_pool_step<T>, name, input, output, like, geometry, ceil_mode)
      .def("avg_pool", &avg_pool_step<T>, name, input, output, like, geometry, ceil_mode,
           py::arg("count_include_pad"))
      .def("global_avg_pool", &global_avg_pool_step<T>, name, input, output, py::arg("C"), py::arg("S"))
      .def("adaptive_pool", &adaptive_pool_step<T>, name, input, output, shape, py::arg("maximum"))
      .def("upsample", &upsample_step<T>, name, input, output, shape, py::arg("bilinear"),
           py::arg("align_corners"));
}

template void bind_pool_steps(py::class_<BoundProgram<float>>&);
template void bind_pool_steps(py::class_<BoundProgram<double>>&);

}  // namespace cnnlib
