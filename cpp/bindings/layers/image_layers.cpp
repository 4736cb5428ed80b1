// The layers of images. What makes one takes the function that messages name, the size of the layer's input
// in elements of an image, and the layer's own arguments; arrays `like` of no images tell what shape an image
// has.
#include "../pool_shape.hpp"
#include "../program/bound_program.hpp"
#include "../training/bound_training.hpp"

namespace cnnlib {
namespace {

// What calls kernel(k, arguments...) with the kernels of the type.
template <class Kernel>
auto of_type(const Kernel& kernel) {
  return [=](const AnyKernels& kernels, auto... arguments) {
    kernels([&](const auto& k) { kernel(k, arguments...); });
  };
}

// A layer of single elements: forward(k, x, out, n) and backward(k, dout, kept, dx, n).
template <class Forward, class Backward>
ImageLayer elements_layer(Index size, double work, ImageLayer::Keeps keeps, const Forward& forward,
                          const Backward& backward) {
  return {{size},
          {size},
          work * double(size),
          of_type([=](const auto& k, In x, Out out, void*, Index N) { forward(k, x, out, N * size); }),
          of_type([=](const auto& k, In dout, In kept, const void*, Out dx, Index N) {
            backward(k, dout, kept, dx, N * size);
          }),
          keeps};
}

ImageLayer relu(Text, Index size) {
  return elements_layer(
      size, 0.25, ImageLayer::Keeps::x,
      [](const auto& k, In x, Out out, Index n) { k.relu_forward(x, out, n); },
      [](const auto& k, In dout, In x, Out dx, Index n) { k.relu_backward(dout, x, dx, n); });
}

// Another function of each element; alpha is leaky_relu's and elu's.
ImageLayer activation(Text function, Index size, Text name, double alpha) {
  const Activation kind = activation_named(function, name);
  return elements_layer(
      size, kind == Activation::leaky_relu ? 0.25 : 1,
      from_result(kind) ? ImageLayer::Keeps::out : ImageLayer::Keeps::x,
      [=](const auto& k, In x, Out out, Index n) { k.activation_forward(kind, x, out, nullptr, alpha, n); },
      [=](const auto& k, In dout, In kept, Out dx, Index n) {
        k.activation_backward(kind, dout, kept, dx, alpha, n);
      });
}

template <class Shape>
Shape of_images(Shape s, Index N) {
  s.planes *= N;
  return s;
}

// A layer that keeps nothing: forward_of(k)(x, out, shape) and backward_of(k)(dout, dx, shape); the planes of
// the shape are those of one image.
template <class Shape, class ForwardOf, class BackwardOf>
ImageLayer planes_layer(const Shape& s, Index OH, Index OW, double work, const ForwardOf& forward_of,
                        const BackwardOf& backward_of) {
  return {
      {s.planes, s.H, s.W},
      {s.planes, OH, OW},
      work,
      of_type([=](const auto& k, In x, Out out, void*, Index N) { forward_of(k)(x, out, of_images(s, N)); }),
      of_type([=](const auto& k, In dout, In, const void*, Out dx, Index N) {
        backward_of(k)(dout, dx, of_images(s, N));
      })};
}

PoolShape pool_of_image(Text function, const py::array& like, const PoolGeometry& geometry, bool ceil_mode,
                        bool count_include_pad) {
  PoolShape s = pool_shape(function, like, geometry, ceil_mode, count_include_pad);
  s.planes = like.shape(1);
  return s;
}

double pool_work(const PoolShape& s) {
  return double(s.planes) * double(s.OH) * double(s.OW) * double(s.PH * s.PW) / 4;
}

ImageLayer avg_pool(Text function, Index, const Floats& like, const PoolGeometry& geometry, bool ceil_mode,
                    bool count_include_pad) {
  const PoolShape s = pool_of_image(function, like, geometry, ceil_mode, count_include_pad);
  return planes_layer(
      s, s.OH, s.OW, pool_work(s), [](const auto& k) { return k.avg_pool_forward; },
      [](const auto& k) { return k.avg_pool_backward; });
}

ImageLayer max_pool(Text function, Index, const Floats& like, const PoolGeometry& geometry, bool ceil_mode) {
  const PoolShape s = pool_of_image(function, like, geometry, ceil_mode, false);
  return {{s.planes, s.H, s.W},
          {s.planes, s.OH, s.OW},
          pool_work(s),
          of_type([=](const auto& k, In x, Out out, void* winners, Index N) {
            k.max_pool_forward(x, out, winners, of_images(s, N));
          }),
          of_type([=](const auto& k, In dout, In, const void* winners, Out dx, Index N) {
            k.max_pool_backward(dout, winners, dx, of_images(s, N));
          }),
          ImageLayer::Keeps::nothing,
          elements_of({s.planes, s.OH, s.OW}) * s.winner_bytes()};
}

// shape: C, H, W, OH, OW.
ImageLayer adaptive_pool(Text, Index, const std::array<Index, 5>& shape, bool maximum) {
  const AdaptivePoolShape s{shape[0], shape[1], shape[2], shape[3], shape[4]};
  ImageLayer layer = planes_layer(
      s, s.OH, s.OW, double(s.planes) * double(s.H) * double(s.W) / 4,
      [](const auto& k) { return k.adaptive_avg_pool_forward; },
      [](const auto& k) { return k.adaptive_avg_pool_backward; });
  if (!maximum) return layer;
  layer.forward = of_type([=](const auto& k, In x, Out out, Out winners, Index N) {
    k.adaptive_max_pool_forward(x, out, winners, of_images(s, N));
  });
  layer.backward = of_type([=](const auto& k, In dout, In, In winners, Out dx, Index N) {
    k.adaptive_max_pool_backward(dout, winners, dx, of_images(s, N));
  });
  layer.place_bytes = elements_of({s.planes, s.OH, s.OW}) * Index(sizeof(std::int64_t));
  return layer;
}

// shape: C, H, W and the factors of both axes.
ImageLayer upsample(Text function, Index, const std::array<Index, 5>& shape, bool bilinear,
                    bool align_corners) {
  const UpsampleShape s{shape[0], shape[1], shape[2], shape[3], shape[4], bilinear, align_corners};
  constexpr Index most = Index{1} << 31;
  require(s.scale_h >= 1 && s.scale_w >= 1 && s.H <= most / s.scale_h && s.W <= most / s.scale_w, function,
          ": an upsampling beyond 2**31");
  const Index OH = s.H * s.scale_h, OW = s.W * s.scale_w;
  return planes_layer(
      s, OH, OW, double(s.planes) * double(OH) * double(OW) / 4,
      [](const auto& k) { return k.upsample_forward; }, [](const auto& k) { return k.upsample_backward; });
}

// Over the axis of C of images (C, S).
ImageLayer softmax(Text, Index, Index C, Index S) {
  return {{C, S},
          {C, S},
          double(C) * double(S),
          of_type([=](const auto& k, In x, Out out, void*, Index N) {
            k.softmax_forward(x, out, nullptr, N, C, S);
          }),
          of_type([=](const auto& k, In dout, In y, const void*, Out dx, Index N) {
            k.softmax_backward(dout, y, dx, N, C, S);
          }),
          ImageLayer::Keeps::out};
}

template <class... Args, class... Names>
void def(py::class_<BoundProgram>& program, const char* layer, ImageLayer (*make)(Text, Index, Args...),
         const Names&... names) {
  program.def(
      layer,
      [make](BoundProgram& p, const std::string& name, int input, int output, Args... args) {
        require_one_dtype(p, args...);
        p.add_layer(name, input, output, make("prepare", p.size_of(input), args...));
      },
      Arguments{py::arg("name"), py::arg("input"), py::arg("output"), names...});
}

template <class... Args, class... Names>
void def(py::class_<BoundTraining>& program, const char* layer, ImageLayer (*make)(Text, Index, Args...),
         const Names&... names) {
  program.def(
      layer,
      [make](BoundTraining& p, int x, int out, Args... args) {
        require_one_dtype(p, args...);
        p.add_layer(x, out, make("loss", p.size_of(x), args...));
      },
      Arguments{py::arg("x"), py::arg("out"), names...});
}

}  // namespace

template <class Program>
void bind_image_layers(py::class_<Program>& program) {
  const auto alpha = py::arg("alpha"), shape = py::arg("shape"), ceil_mode = py::arg("ceil_mode");
  const auto like = fixed("like"), geometry = py::arg("geometry");
  def(program, "relu", &relu);
  def(program, "activation", &activation, py::arg("kind"), alpha);
  def(program, "max_pool", &max_pool, like, geometry, ceil_mode);
  def(program, "avg_pool", &avg_pool, like, geometry, ceil_mode, py::arg("count_include_pad"));
  def(program, "softmax", &softmax, py::arg("C"), py::arg("S"));
  def(program, "adaptive_pool", &adaptive_pool, shape, py::arg("maximum"));
  def(program, "upsample", &upsample, shape, py::arg("bilinear"), py::arg("align_corners"));
}

template void bind_image_layers(py::class_<BoundProgram>&);
template void bind_image_layers(py::class_<BoundTraining>&);

}  // namespace cnnlib
