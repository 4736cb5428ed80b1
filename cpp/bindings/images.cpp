// The layers of images as functions of arrays.
#include "layers/image_layers.hpp"

namespace cnnlib {
namespace {

// The functions of a layer of planes; behind their own arguments come those of what makes it.
template <auto make>
struct Functions;
template <class Layer, class... Args, Layer (*make)(Text, const Floats&, Args...)>
struct Functions<make> {
  using Shape = std::array<Index, 4>;
  static Shape shape_of(const Layer& layer, const Floats& x) {
    return {x.shape(0), layer.out[0], layer.out[1], layer.out[2]};
  }

  // out, or (out, places of the maxima).
  static py::object forward(Text function, const Floats& x, Args... args, const MaybeFloats& buffer) {
    const Layer layer = make(function, x, args...);
    const Shape shape = shape_of(layer, x);
    const auto run = [&](Out places) {
      return computed(function, shape, x, buffer,
                      [&](const auto& k, Out y) { layer.forward(k, x, y, places, shape[0]); });
    };
    if (layer.place_bytes == 0) return run(Out());
    py::array argmax = new_array(function, shape, place_dtype(layer));
    return py::make_tuple(run(argmax.mutable_data()), argmax);
  }

  // Of x the shape alone counts.
  static py::object backward(Text function, const Floats& dout, const Floats& x, Args... args) {
    return gradient(function, make(function, x, args...), dout, x, In());
  }
  static py::object backward_of_maxima(Text function, const Floats& dout, const Floats& x, Args... args,
                                       const py::array& argmax) {
    const Layer layer = make(function, x, args...);
    require_shape(function, "argmax", argmax, shape_of(layer, x));
    const bool contiguous = (argmax.flags() & py::array::c_style) != 0;
    require(contiguous && argmax.dtype().equal(place_dtype(layer)), function,
            ": argmax is not what the forward pass returned");
    return gradient(function, layer, dout, x, argmax.data());
  }

 private:
  static py::dtype place_dtype(const Layer& layer) {
    return layer.place_bytes == 1   ? py::dtype::of<std::uint8_t>()
           : layer.place_bytes == 4 ? py::dtype::of<std::uint32_t>()
                                    : py::dtype::of<std::int64_t>();
  }
  static py::object gradient(Text function, const Layer& layer, const Floats& dout, const Floats& x,
                             In places) {
    require_shape(function, "dout", dout, shape_of(layer, x));
    return computed(function, x,
                    [&, N = x.shape(0)](const auto& k, Out dx) { layer.backward(k, dout, places, dx, N); });
  }
};

// Functions of each element and softmax without the layer, which in a small call would show. Where the
// gradient is taken from the result, the second result is it once more.
py::object relu_forward(const Floats& x) {
  const Index n = x.size();
  return computed("relu_forward", x,
                  [&](const auto& k, Out y) { k.activation_forward(Activation::relu, x, y, nullptr, 0, n); });
}

py::object relu_backward(Text function, const Floats& dout, const Floats& x) {
  require_shape(function, "dout", dout, x);
  const Index n = x.size();
  return computed(function, x,
                  [&](const auto& k, Out dx) { k.activation_backward(Activation::relu, dout, x, dx, 0, n); });
}

py::tuple activation_forward(Text function, const Floats& x, Text name, double alpha) {
  const Activation kind = activation_named(function, name);
  const FloatsResult y(function, x, x), copy(function, x, x, from_result(kind));
  const Index n = x.size();
  unlocked(x, [&](const auto& k) { k.activation_forward(kind, x, y, copy, alpha, n); });
  return py::make_tuple(y, copy);
}

py::object activation_backward(Text function, const Floats& dout, const Floats& kept, Text name,
                               double alpha) {
  const Activation kind = activation_named(function, name);
  require_shape(function, "dout", dout, kept);
  const Index n = kept.size();
  return computed(function, kept,
                  [&](const auto& k, Out dx) { k.activation_backward(kind, dout, kept, dx, alpha, n); });
}

py::tuple softmax_forward(Text function, const Floats& x, bool want_copy) {
  const ScoresShape s = softmax_shape(function, "x", x);
  const FloatsResult y(function, x, x), copy(function, x, x, want_copy);
  unlocked(x, [&](const auto& k) { k.softmax_forward(x, y, copy, s.N, s.C, s.inner); });
  return py::make_tuple(y, copy);
}

py::object softmax_backward(Text function, const Floats& dout, const Floats& y) {
  require_shape(function, "dout", dout, y);
  const ScoresShape s = softmax_shape(function, "out in cache", y);
  return computed(function, y,
                  [&](const auto& k, Out dx) { k.softmax_backward(dout, y, dx, s.N, s.C, s.inner); });
}

py::object global_avg_pool_forward(const Floats& x, const MaybeFloats& out) {
  constexpr Text function = "global_avg_pool_forward";
  require(x.ndim() == 4 && x.shape(2) >= 1 && x.shape(3) >= 1, function,
          ": x must be (N, C, H, W) with H, W >= 1, got shape ", x);
  const PoolShape s = even_pool(x.shape(0) * x.shape(1), 1, 1, x.shape(2), x.shape(3));
  return computed(function, {x.shape(0), x.shape(1)}, x, out,
                  [&](const auto& k, Out y) { k.avg_pool_forward(x, y, s); });
}

py::object global_avg_pool_backward(const Floats& dout, const std::array<Index, 4>& shape) {
  constexpr Text function = "global_avg_pool_backward";
  require_shape(function, "dout", dout, {shape[0], shape[1]});
  const PoolShape s = even_pool(shape[0] * shape[1], 1, 1, shape[2], shape[3]);
  return computed(function, shape, dout, {},
                  [&](const auto& k, Out dx) { k.avg_pool_backward(dout, dx, s); });
}

}  // namespace

void bind_images(py::module_& m) {
  def(m, "relu_forward(x)", &relu_forward);
  def(m, "relu_backward(function, dout, x)", &relu_backward);
  def(m, "activation_forward(function, x, name, alpha)", &activation_forward);
  def(m, "activation_backward(function, dout, kept, name, alpha)", &activation_backward);
  def(m, "softmax_forward(function, x, want_copy=False)", &softmax_forward);
  def(m, "softmax_backward(function, dout, y)", &softmax_backward);
  using MaxPool = Functions<&max_pool>;
  def(m, "max_pool_forward(function, x, geometry, ceil_mode, out=None)", &MaxPool::forward);
  def(m, "max_pool_backward(function, dout, x, geometry, ceil_mode, argmax)", &MaxPool::backward_of_maxima);
  using AvgPool = Functions<&avg_pool>;
  def(m, "avg_pool_forward(function, x, geometry, ceil_mode, count_include_pad, out=None)",
      &AvgPool::forward);
  def(m, "avg_pool_backward(function, dout, x, geometry, ceil_mode, count_include_pad)", &AvgPool::backward);
  def(m, "global_avg_pool_forward(x, out=None)", &global_avg_pool_forward);
  def(m, "global_avg_pool_backward(dout, shape)", &global_avg_pool_backward);
  using AdaptiveMax = Functions<&adaptive_max_pool>;
  def(m, "adaptive_max_pool_forward(function, x, size, out=None)", &AdaptiveMax::forward);
  def(m, "adaptive_max_pool_backward(function, dout, x, size, argmax)", &AdaptiveMax::backward_of_maxima);
  using AdaptiveAvg = Functions<&adaptive_avg_pool>;
  def(m, "adaptive_avg_pool_forward(function, x, size, out=None)", &AdaptiveAvg::forward);
  def(m, "adaptive_avg_pool_backward(function, dout, x, size)", &AdaptiveAvg::backward);
  using Upsample = Functions<&upsample>;
  def(m, "upsample_forward(function, x, scale, bilinear, align_corners, out=None)", &Upsample::forward);
  def(m, "upsample_backward(function, dout, x, scale, bilinear, align_corners)", &Upsample::backward);
}

}  // namespace cnnlib
