// Steps of networks in bfloat16: programs in float32, some of whose values are images of bfloat16.
#include "../../dispatch.hpp"
#include "narrow_values.hpp"

namespace cnnlib {
namespace {

using P = BoundProgram;
using F = Frame;
using Image = BfloatImage;

Image bfloat_image(const ImageSizes& b) { return narrow_image<Bfloat16>(b); }

const BfloatKernels& bfloat_kernels() {
  const BfloatKernels* kernels = active_bfloat16();
  require_that(kernels != nullptr, "this processor has no instructions for bfloat16");
  return *kernels;
}

std::string named(const std::string& name, const char* method = "bfloat16") {
  return name + " [" + method + "]";
}

template <class Run>
void bfloat_step(P& p, const std::string& name, double work, const Run& run, std::size_t weight_bytes = 0) {
  require_that(p.kernels.single(), "networks in bfloat16 are programs in float32");
  p.add_step(name, work, run, weight_bytes);
}

void narrow_step(P& p, const std::string& name, int input, int output, const ImageSizes& y) {
  const Image s = bfloat_image(y);
  p.reads(input, shape_of(s));
  p.writes_image(output, s);
  const auto kernel = bfloat_kernels().narrow;
  bfloat_step(p, name, elements(s), [=](const F& f) { kernel(f.read(input), s, f.write(output), f.images); });
}

void widen_step(P& p, const std::string& name, int input, int output, const ImageSizes& x) {
  const Image s = bfloat_image(x);
  p.reads_image(input, s);
  p.writes(output, shape_of(s));
  const auto kernel = bfloat_kernels().widen;
  bfloat_step(p, name, elements(s), [=](const F& f) { kernel(f.read(input), s, f.write(output), f.images); });
}

// `other` is a value to add, or -1; y is narrow, or empty where scores are wanted.
void bfloat_conv_step(P& p, const std::string& name, int input, int other, int output, const ImageSizes& x,
                      const ImageSizes& other_image, const std::optional<ImageSizes>& y, const Floats& w,
                      const MaybeFloats& b, const py::object& conv_param,
                      const std::optional<double>& bound) {
  require_one_dtype(p, w, b);
  BfloatConv c = narrow_conv<Bfloat16>(p, input, other, output, x, other_image, y, w, conv_param);
  if (b) require_shape("prepare", "b", *b, {c.shape.F});
  if (bound) c.epilogue.activation = {0, static_cast<float>(*bound)};
  const BfloatMethod method = bfloat_kernels().method(c);
  require_that(method.run != nullptr, "groups of channels must be of twos");
  const auto size = static_cast<std::size_t>(method.packed_bytes(c));
  void* const packed = p.new_weights(size);
  method.pack(c, WeightView(w, c.shape), {b}, packed);
  bfloat_step(
      p, named(name, method.name), products(c.shape) / 16,
      [=](const F& f) {
        method.run(c, f.read(input), c.epilogue.add ? f.read(other) : In(), packed, f.write(output),
                   f.images);
      },
      size);
}

// Whether a convolution has a method, and one that is `trained` gradients: its groups may be too narrow.
bool bfloat_conv_fits(const ImageSizes& x, const Floats& w, const py::object& conv_param, bool trained) {
  const BfloatConv c = conv_of_image("prepare", bfloat_image(x), w, conv_param);
  const BfloatKernels& kernels = bfloat_kernels();
  return kernels.method(c).run != nullptr && (!trained || kernels.gradients_fit(c));
}

void bfloat_pool_step(P& p, const std::string& name, int input, int output, const ImageSizes& x,
                      const ImageSizes& y, bool mean, const PoolGeometry& geometry, bool ceil_mode,
                      bool count_include_pad) {
  const BfloatPool s = narrow_pool<Bfloat16>(p, input, output, x, y, geometry, ceil_mode, count_include_pad);
  const auto kernel = mean ? bfloat_kernels().avg_pool : bfloat_kernels().max_pool;
  bfloat_step(p, named(name), elements(s.y) * double(s.shape.PH * s.shape.PW) / 8,
              [=](const F& f) { kernel(s, f.read(input), f.write(output), f.images); });
}

void bfloat_join_step(P& p, const std::string& name, int a, int b, int output, const ImageSizes& a_image,
                      const ImageSizes& b_image, const ImageSizes& y, Join kind) {
  const BfloatJoin s{bfloat_image(a_image), bfloat_image(b_image), bfloat_image(y), kind};
  const bool by_channel = s.b.C == s.y.C && s.b.H == 1 && s.b.W == 1;
  require_that(same_size(s.a, s.y) && (same_size(s.b, s.y) || by_channel),
               "joined values have different shapes");
  p.reads_image(b, s.b);
  p.reads_image(a, s.a);
  p.writes_image(output, s.y);
  const auto kernel = bfloat_kernels().join;
  bfloat_step(p, named(name), elements(s.y) / 4,
              [=](const F& f) { kernel(s, f.read(a), f.read(b), f.write(output), f.images); });
}

void bfloat_sum_step(P& p, const std::string& name, int a, int b, int output, const ImageSizes& a_image,
                     const ImageSizes& b_image, const ImageSizes& y, bool relu) {
  bfloat_join_step(p, name, a, b, output, a_image, b_image, y, relu ? Join::add_relu : Join::add);
}

void bfloat_product_step(P& p, const std::string& name, int a, int b, int output, const ImageSizes& a_image,
                         const ImageSizes& b_image, const ImageSizes& y) {
  bfloat_join_step(p, name, a, b, output, a_image, b_image, y, Join::multiply);
}

void bfloat_activation_step(P& p, const std::string& name, int input, int output, const ImageSizes& x,
                            const ImageSizes& y, Text function, double alpha) {
  const Image in = bfloat_image(x), out = bfloat_image(y);
  require_that(same_size(in, out), "a function keeps the shape");
  p.reads_image(input, in);
  p.writes_image(output, out);
  const auto kernel = bfloat_kernels().activate;
  const Activation kind = activation_named("prepare", function);
  const BfloatFunction of_floats = active_isa().f32.activation_forward;
  const auto slope = static_cast<float>(alpha);
  bfloat_step(p, named(name), elements(out), [=](const F& f) {
    kernel(in, out, kind, slope, of_floats, f.read(input), f.write(output), f.images);
  });
}

void bfloat_concat_step(P& p, const std::string& name, const std::vector<int>& inputs, int output,
                        const std::vector<ImageSizes>& images, const ImageSizes& y) {
  const Image out = bfloat_image(y);
  const std::vector<Image> in = joined_images<Bfloat16>(p, inputs, output, images, out);
  const auto kernel = bfloat_kernels().copy_channels;
  bfloat_step(p, named(name), elements(out) / 4, [=](const F& f) {
    Index first = 0;
    for (std::size_t i = 0; i < in.size(); first += in[i++].C)
      kernel(in[i], out, first, f.read(inputs[i]), f.write(output), f.images);
  });
}

}  // namespace

void bind_bfloat16_steps(py::module_& m, py::class_<BoundProgram>& program) {
  def(m, "bfloat_conv_fits(x, w, conv_param, trained)", &bfloat_conv_fits);
  def(program, "narrow(name, input, output, y)", &narrow_step);
  def(program, "widen(name, input, output, x)", &widen_step);
  def(program, "bfloat_conv(name, input, other, output, x, other_image, y, w, b, conv_param, bound)",
      &bfloat_conv_step);
  def(program, "bfloat_pool(name, input, output, x, y, mean, geometry, ceil_mode, count_include_pad)",
      &bfloat_pool_step);
  def(program, "bfloat_sum(name, a, b, output, a_image, b_image, y, relu)", &bfloat_sum_step);
  def(program, "bfloat_product(name, a, b, output, a_image, b_image, y)", &bfloat_product_step);
  def(program, "bfloat_activation(name, input, output, x, y, kind, alpha)", &bfloat_activation_step);
  def(program, "bfloat_concat(name, inputs, output, images, y)", &bfloat_concat_step);
}

}  // namespace cnnlib
