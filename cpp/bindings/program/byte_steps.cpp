// Steps of eight-bit networks: programs in float32, some of whose values are images of bytes.
#include <array>

#include "../../dispatch.hpp"
#include "narrow_values.hpp"

namespace cnnlib {
namespace {

using P = BoundProgram;
using F = Frame;

ByteImage image_of(const ImageSizes& b) { return narrow_image<std::uint8_t>(b); }

Epilogue<std::uint8_t> epilogue_of(int zero, int low, int high) {
  require_that(0 <= low && low <= high && high <= 255 && 0 <= zero && zero <= 255,
               "zero points and bounds must be bytes");
  return {zero, 0, false, false, {low, high}};
}

template <class Run>
void add_step(P& p, const std::string& name, double work, const Run& run, std::size_t weight_bytes = 0) {
  require_that(p.kernels.single(), "eight-bit networks are programs in float32");
  p.add_step(name, work, run, weight_bytes);
}

void quantize_step(P& p, const std::string& name, int input, int output, const ImageSizes& y, float scale,
                   int zero) {
  const ByteImage s = image_of(y);
  require_that(scale > 0 && std::isfinite(scale), "a scale must be positive and finite");
  epilogue_of(zero, 0, 255);
  p.reads(input, shape_of(s));
  p.writes_image(output, s);
  const auto kernel = active_isa().bytes.quantize;
  add_step(p, name, elements(s),
           [=](const F& f) { kernel(f.read(input), s, scale, zero, f.write(output), f.images); });
}

void dequantize_step(P& p, const std::string& name, int input, int output, const ImageSizes& x, float scale,
                     int zero) {
  const ByteImage s = image_of(x);
  p.reads_image(input, s);
  p.writes(output, shape_of(s));
  const auto kernel = active_isa().bytes.dequantize;
  add_step(p, name, elements(s),
           [=](const F& f) { kernel(f.read(input), s, scale, zero, f.write(output), f.images); });
}

// numbers: zero, low, high, shift. `other` is a value to add, or -1; y is bytes, or empty where scores are
// wanted.
void byte_conv_step(P& p, const std::string& name, int input, int other, int output, const ImageSizes& x,
                    const ImageSizes& other_image, const std::optional<ImageSizes>& y,
                    const Array<std::int8_t>& w, const Array<std::int32_t>& bias,
                    const Array<float>& multiplier, const MaybeArray<std::int32_t>& factor,
                    const std::array<int, 4>& numbers, const py::object& conv_param) {
  require_that(w.ndim() == 4, "w must have four axes");
  const Floats w_like = new_array("prepare", w, true);
  ByteConv c = narrow_conv<std::uint8_t>(p, input, other, output, x, other_image, y, w_like, conv_param);
  const ConvShape& s = c.shape;
  require_shape("prepare", "b", bias, {s.F});
  require_shape("prepare", "multiplier", multiplier, {s.F});
  require_that((other >= 0) == factor.has_value(), "a factor is for another term");
  if (factor) require_shape("prepare", "factor", *factor, {s.F});
  c.epilogue = epilogue_of(numbers[0], numbers[1], numbers[2]);
  c.epilogue.shift = numbers[3];
  require_that(numbers[3] >= 0 && numbers[3] < 24, "a shift out of range");
  c.epilogue.add = other >= 0;
  c.epilogue.scores = !y;
  const ByteMethod method = active_products().method(c);
  require_that(method.run != nullptr, "groups of channels must be of fours");
  const auto size = static_cast<std::size_t>(method.packed_bytes(c));
  void* const packed = p.new_weights(size);
  method.pack(c, w, {bias, multiplier, factor ? factor->data() : nullptr}, packed);
  add_step(
      p, name + " [" + method.name + "]", products(s) / 32,
      [=](const F& f) {
        method.run(c, f.read(input), c.epilogue.add ? f.read(other) : In(), packed, f.write(output),
                   f.images);
      },
      size);
}

void byte_max_pool_step(P& p, const std::string& name, int input, int output, const ImageSizes& x,
                        const ImageSizes& y, int zero, const PoolGeometry& geometry, bool ceil_mode) {
  const BytePool s = narrow_pool<std::uint8_t>(p, input, output, x, y, geometry, ceil_mode, false);
  epilogue_of(zero, 0, 255);
  const auto kernel = active_isa().bytes.max_pool;
  add_step(p, name + " [int8]", elements(s.y) * double(s.shape.PH * s.shape.PW) / 16,
           [=](const F& f) { kernel(s, zero, f.read(input), f.write(output), f.images); });
}

void byte_avg_pool_step(P& p, const std::string& name, int input, int output, const ImageSizes& x,
                        const ImageSizes& y, int x_zero, float ratio, int zero, const PoolGeometry& geometry,
                        bool ceil_mode, bool count_include_pad) {
  const BytePool s =
      narrow_pool<std::uint8_t>(p, input, output, x, y, geometry, ceil_mode, count_include_pad);
  const double bytes = double(std::min(s.shape.PH, s.shape.H)) * double(std::min(s.shape.PW, s.shape.W));
  require_that(255 * bytes <= INT32_MAX, "a mean of more bytes than 32 bits can sum");
  const Epilogue<std::uint8_t> e = epilogue_of(zero, 0, 255);
  epilogue_of(x_zero, 0, 255);
  const auto kernel = active_isa().bytes.avg_pool;
  add_step(p, name + " [int8]", elements(s.y) * double(s.shape.PH * s.shape.PW) / 4,
           [=](const F& f) { kernel(s, x_zero, ratio, e, f.read(input), f.write(output), f.images); });
}

void byte_add_step(P& p, const std::string& name, int a, int b, int output, const ImageSizes& a_image,
                   const ImageSizes& b_image, const ImageSizes& y, const std::array<int, 3>& factors,
                   float multiplier, const std::array<int, 3>& numbers) {
  const ByteSum s{image_of(a_image),
                  image_of(b_image),
                  image_of(y),
                  {factors[0], factors[1]},
                  factors[2],
                  multiplier,
                  epilogue_of(numbers[0], numbers[1], numbers[2])};
  require_that(same_size(s.a, s.y) && same_size(s.b, s.y), "terms of a sum have different shapes");
  p.reads_image(b, s.b);
  p.reads_image(a, s.a);
  p.writes_image(output, s.y);
  const auto kernel = active_isa().bytes.add;
  add_step(p, name + " [int8]", elements(s.y) / 8,
           [=](const F& f) { kernel(s, f.read(a), f.read(b), f.write(output), f.images); });
}

void byte_table_step(P& p, const std::string& name, int input, int output, const ImageSizes& x,
                     const ImageSizes& y, const Array<std::uint8_t>& table, int zero) {
  const ByteImage in = image_of(x), out = image_of(y);
  require_shape("prepare", "table", table, {256});
  require_that(same_size(in, out), "a table keeps the shape");
  p.reads_image(input, in);
  p.writes_image(output, out);
  const std::uint8_t* const entries = p.keep(table);
  const auto kernel = active_isa().bytes.look_up;
  add_step(p, name + " [int8]", elements(out) / 4,
           [=](const F& f) { kernel(in, out, entries, zero, f.read(input), f.write(output), f.images); });
}

void byte_concat_step(P& p, const std::string& name, const std::vector<int>& inputs, int output,
                      const std::vector<ImageSizes>& images, const ImageSizes& y, int zero) {
  const ByteImage out = image_of(y);
  const std::vector<ByteImage> in = joined_images<std::uint8_t>(p, inputs, output, images, out);
  const auto kernel = active_isa().bytes.copy_channels;
  add_step(p, name + " [int8]", elements(out) / 8, [=](const F& f) {
    Index first = 0;
    for (std::size_t i = 0; i < in.size(); first += in[i++].C)
      kernel(in[i], out, first, zero, f.read(inputs[i]), f.write(output), f.images);
  });
}

}  // namespace

void bind_byte_steps(py::class_<BoundProgram>& program) {
  def(program, "quantize(name, input, output, y, scale, zero)", &quantize_step);
  def(program, "dequantize(name, input, output, x, scale, zero)", &dequantize_step);
  def(program,
      "byte_conv(name, input, other, output, x, other_image, y, w, bias, multiplier, factor, numbers, "
      "conv_param)",
      &byte_conv_step);
  def(program, "byte_max_pool(name, input, output, x, y, zero, geometry, ceil_mode)", &byte_max_pool_step);
  def(program,
      "byte_avg_pool(name, input, output, x, y, x_zero, ratio, zero, geometry, ceil_mode, count_include_pad)",
      &byte_avg_pool_step);
  def(program, "byte_add(name, a, b, output, a_image, b_image, y, factors, multiplier, numbers)",
      &byte_add_step);
  def(program, "byte_table(name, input, output, x, y, table, zero)", &byte_table_step);
  def(program, "byte_concat(name, inputs, output, images, y, zero)", &byte_concat_step);
}

}  // namespace cnnlib
