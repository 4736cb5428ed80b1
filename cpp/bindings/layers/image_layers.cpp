// The layers of images. What makes one takes the function that messages name, the size of the layer's input
// in elements of an image, and the layer's own arguments; arrays `like` of no images tell what shape an image
// has.
#include "../pool_shape.hpp"
#include "../program/bound_program.hpp"
#include "../training/bound_training.hpp"

namespace cnnlib {
namespace {

// A layer of single elements: forward(k, x, out, n) and backward(k, dout, kept, dx, n).
template <class T, class Forward, class Backward>
ImageLayer<T> elements_layer(Index size, double work, typename ImageLayer<T>::Keeps keeps,
                             const Forward& forward, const Backward& backward) {
  return {{size},
          {size},
          work * double(size),
          [=](const Kernels<T>& k, const T* x, T* out, void*, Index N) { forward(k, x, out, N * size); },
          [=](const Kernels<T>& k, const T* dout, const T* kept, const void*, T* dx, Index N) {
            backward(k, dout, kept, dx, N * size);
          },
          keeps};
}

template <class T>
ImageLayer<T> relu(const char*, Index size) {
  return elements_layer<T>(
      size, 0.25, ImageLayer<T>::Keeps::x,
      [](const Kernels<T>& k, const T* x, T* out, Index n) { k.relu_forward(x, out, n); },
      [](const Kernels<T>& k, const T* dout, const T* x, T* dx, Index n) {
        k.relu_backward(dout, x, dx, n);
      });
}

// Another function of each element; alpha is leaky_relu's and elu's.
template <class T>
ImageLayer<T> activation(const char* function, Index size, const std::string& name, double alpha) {
  const Activation kind = activation_named(function, name);
  const T a = static_cast<T>(alpha);
  return elements_layer<T>(
      size, kind == Activation::leaky_relu ? 0.25 : 1,
      from_result(kind) ? ImageLayer<T>::Keeps::out : ImageLayer<T>::Keeps::x,
      [=](const Kernels<T>& k, const T* x, T* out, Index n) {
        k.activation_forward(kind, x, out, nullptr, a, n);
      },
      [=](const Kernels<T>& k, const T* dout, const T* kept, T* dx, Index n) {
        k.activation_backward(kind, dout, kept, dx, a, n);
      });
}

template <class T, class Shape>  // a member of the table: kernel(from, to, shape)
using PlanesKernel = void (*PoolKernels<T>::*)(const T*, T*, const Shape&);

template <class Shape>
Shape of_images(Shape s, Index N) {
  s.planes *= N;
  return s;
}

// A layer that keeps nothing; the planes of the shape are those of one image.
template <class T, class Shape>
ImageLayer<T> planes_layer(const Shape& s, Index OH, Index OW, double work, PlanesKernel<T, Shape> forward,
                           PlanesKernel<T, Shape> backward) {
  return {
      {s.planes, s.H, s.W},
      {s.planes, OH, OW},
      work,
      [=](const Kernels<T>& k, const T* x, T* out, void*, Index N) { (k.*forward)(x, out, of_images(s, N)); },
      [=](const Kernels<T>& k, const T* dout, const T*, const void*, T* dx, Index N) {
        (k.*backward)(dout, dx, of_images(s, N));
      }};
}

PoolShape pool_of_image(const char* function, const py::array& like, const PoolGeometry& geometry,
                        bool ceil_mode, bool count_include_pad) {
  PoolShape s = pool_shape(function, like, geometry, ceil_mode, count_include_pad);
  s.planes = like.shape(1);
  return s;
}

double pool_work(const PoolShape& s) {
  return double(s.planes) * double(s.OH) * double(s.OW) * double(s.PH * s.PW) / 4;
}

template <class T>
ImageLayer<T> avg_pool(const char* function, Index, const Array<T>& like, const PoolGeometry& geometry,
                       bool ceil_mode, bool count_include_pad) {
  const PoolShape s = pool_of_image(function, like, geometry, ceil_mode, count_include_pad);
  return planes_layer<T>(s, s.OH, s.OW, pool_work(s), &PoolKernels<T>::avg_pool_forward,
                         &PoolKernels<T>::avg_pool_backward);
}

template <class T>
ImageLayer<T> max_pool(const char* function, Index, const Array<T>& like, const PoolGeometry& geometry,
                       bool ceil_mode) {
  const PoolShape s = pool_of_image(function, like, geometry, ceil_mode, false);
  return {{s.planes, s.H, s.W},
          {s.planes, s.OH, s.OW},
          pool_work(s),
          [=](const Kernels<T>& k, const T* x, T* out, void* winners, Index N) {
            k.max_pool_forward(x, out, winners, of_images(s, N));
          },
          [=](const Kernels<T>& k, const T* dout, const T*, const void* winners, T* dx, Index N) {
            k.max_pool_backward(dout, winners, dx, of_images(s, N));
          },
          ImageLayer<T>::Keeps::nothing,
          elements_of({s.planes, s.OH, s.OW}) * s.winner_bytes()};
}

// shape: C, H, W, OH, OW.
template <class T>
ImageLayer<T> adaptive_pool(const char*, Index, const std::array<Index, 5>& shape, bool maximum) {
  const AdaptivePoolShape s{shape[0], shape[1], shape[2], shape[3], shape[4]};
  ImageLayer<T> layer = planes_layer<T>(s, s.OH, s.OW, double(s.planes) * double(s.H) * double(s.W) / 4,
                                        &PoolKernels<T>::adaptive_avg_pool_forward,
                                        &PoolKernels<T>::adaptive_avg_pool_backward);
  if (!maximum) return layer;
  layer.forward = [=](const Kernels<T>& k, const T* x, T* out, void* winners, Index N) {
    k.adaptive_max_pool_forward(x, out, static_cast<std::int64_t*>(winners), of_images(s, N));
  };
  layer.backward = [=](const Kernels<T>& k, const T* dout, const T*, const void* winners, T* dx, Index N) {
    k.adaptive_max_pool_backward(dout, static_cast<const std::int64_t*>(winners), dx, of_images(s, N));
  };
  layer.place_bytes = elements_of({s.planes, s.OH, s.OW}) * Index(sizeof(std::int64_t));
  return layer;
}

// shape: C, H, W and the factors of both axes.
template <class T>
ImageLayer<T> upsample(const char* function, Index, const std::array<Index, 5>& shape, bool bilinear,
                       bool align_corners) {
  const UpsampleShape s{shape[0], shape[1], shape[2], shape[3], shape[4], bilinear, align_corners};
  constexpr Index most = Index{1} << 31;
  require(s.scale_h >= 1 && s.scale_w >= 1 && s.H <= most / s.scale_h && s.W <= most / s.scale_w, function,
          ": an upsampling beyond 2**31");
  const Index OH = s.H * s.scale_h, OW = s.W * s.scale_w;
  return planes_layer<T>(s, OH, OW, double(s.planes) * double(OH) * double(OW) / 4,
                         &PoolKernels<T>::upsample_forward, &PoolKernels<T>::upsample_backward);
}

// Over the axis of C of images (C, S).
template <class T>
ImageLayer<T> softmax(const char*, Index, Index C, Index S) {
  return {{C, S},
          {C, S},
          double(C) * double(S),
          [=](const Kernels<T>& k, const T* x, T* out, void*, Index N) {
            k.softmax_forward(x, out, nullptr, N, C, S);
          },
          [=](const Kernels<T>& k, const T* dout, const T* y, const void*, T* dx, Index N) {
            k.softmax_backward(dout, y, dx, N, C, S);
          },
          ImageLayer<T>::Keeps::out};
}

template <class T, class... Args, class... Names>
void def(py::class_<BoundProgram<T>>& program, const char* layer,
         ImageLayer<T> (*make)(const char*, Index, Args...), const Names&... names) {
  program.def(
      layer,
      [make](BoundProgram<T>& p, const std::string& name, int input, int output, Args... args) {
        p.add_layer(name, input, output, make("prepare", p.size_of(input), args...));
      },
      py::arg("name"), py::arg("input"), py::arg("output"), names...);
}

template <class T, class... Args, class... Names>
void def(py::class_<BoundTraining<T>>& program, const char* layer,
         ImageLayer<T> (*make)(const char*, Index, Args...), const Names&... names) {
  program.def(
      layer,
      [make](BoundTraining<T>& p, int x, int out, Args... args) {
        p.add_layer(x, out, make("loss", p.size_of(x), args...));
      },
      py::arg("x"), py::arg("out"), names...);
}

}  // namespace

template <class T, class Program>
void bind_image_layers(py::class_<Program>& program) {
  const auto alpha = py::arg("alpha"), shape = py::arg("shape"), ceil_mode = py::arg("ceil_mode");
  const auto like = fixed("like"), geometry = py::arg("geometry");
  def(program, "relu", &relu<T>);
  def(program, "activation", &activation<T>, py::arg("kind"), alpha);
  def(program, "max_pool", &max_pool<T>, like, geometry, ceil_mode);
  def(program, "avg_pool", &avg_pool<T>, like, geometry, ceil_mode, py::arg("count_include_pad"));
  def(program, "softmax", &softmax<T>, py::arg("C"), py::arg("S"));
  def(program, "adaptive_pool", &adaptive_pool<T>, shape, py::arg("maximum"));
  def(program, "upsample", &upsample<T>, shape, py::arg("bilinear"), py::arg("align_corners"));
}

template void bind_image_layers<float>(py::class_<BoundProgram<float>>&);
template void bind_image_layers<double>(py::class_<BoundProgram<double>>&);
template void bind_image_layers<float>(py::class_<BoundTraining<float>>&);
template void bind_image_layers<double>(py::class_<BoundTraining<double>>&);

}  // namespace cnnlib
