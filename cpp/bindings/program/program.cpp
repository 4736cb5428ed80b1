// Networks prepared for inference: cnnlib.inference puts a program's steps together, one call each.
#include "../conv/conv_shape.hpp"
#include "bound_program.hpp"

namespace cnnlib {
namespace {

using Values = std::vector<std::tuple<int, Index, Index>>;

void require_value(bool condition, int value, const char* what) {
  require(condition, "prepare: value ", value, " ", what);
}

std::vector<Value> checked_values(const Values& of_values, Index input_size, Index output_size, Index arena) {
  for (const Index size : {input_size, output_size, arena})
    require(size >= 0 && size <= most_elements, "prepare: values of ", size, " elements");
  std::vector<Value> values;
  for (const auto& [number, size, offset] : of_values) {
    const auto place = static_cast<Value::Place>(number);
    const bool inside = place == Value::Place::arena
                            ? size >= 0 && offset >= 0 && size <= arena && offset <= arena - size
                        : place == Value::Place::input  ? size == input_size
                        : place == Value::Place::output ? size == output_size
                                                        : false;
    require_value(inside, static_cast<int>(values.size()), "does not lie inside of its place");
    values.push_back({place, size, offset});
  }
  return values;
}

// Whether the method that a prepared convolution takes can add its result to what lies in the output.
bool conv_adds(const Floats& like, const Floats& w, const py::object& conv_param) {
  ConvRequest request = conv_request("prepare", like, w, conv_param);
  request.weights = WeightUse::streamed;
  return AnyKernels(w.single())(
      [&](const auto& k) { return planned(k, request, Pass::forward)->choice.adds; });
}

}  // namespace

Index elements_of(const ShapeView& shape, Index least) {
  Index size = 1;
  for (const Index n : shape)
    if (n < least || __builtin_mul_overflow(size, n, &size) || size > most_elements) return -1;
  return size;
}

RowNormShape row_norm_shape(Text function, const std::array<Index, 5>& shape) {
  const auto [rows, channels, S, C, pixels] = shape;
  const RowNormShape s{rows, channels, S, C, pixels};
  const bool right = elements_of({s.rows, s.channels, s.S}) > 0 && s.C > 0 && s.C % s.channels == 0 &&
                     s.rows % (s.C / s.channels) == 0 &&
                     (s.pixels == 1 || (s.pixels == s.rows && s.channels == s.C && s.S == 1));
  require(right, function, ": rows of other channels: ", ShapeView(shape));
  return s;
}

BoundProgram::BoundProgram(const py::dtype& dtype, const Values& values, Index input_size, Index output_size,
                           Index arena)
    : Program(AnyKernels(is_single("prepare", dtype)), checked_values(values, input_size, output_size, arena),
              input_size, output_size, arena) {}

Index BoundProgram::size_of(int value) const {
  require_value(value >= 0 && static_cast<std::size_t>(value) < values_.size(), value, "does not exist");
  return values_[static_cast<std::size_t>(value)].size;
}

void BoundProgram::reads(int input, const ShapeView& shape) const {
  const Index size = size_of(input);
  require(size == elements_of(shape), "prepare: a step takes a value of ", size,
          " elements for one of shape ", shape);
}

void BoundProgram::writes(int output, const ShapeView& shape) const {
  reads(output, shape);
  require_value(values_[static_cast<std::size_t>(output)].place != Value::Place::input, output,
                "is the caller's, and not written to");
}

void BoundProgram::check_samples(const py::array& x, const ShapeView& shape) const {
  const Index N = x.ndim() > 0 ? x.shape(0) : -1;
  const bool samples =
      N >= 0 && N <= most_elements / std::max<Index>(1, input_size_) && x.size() == N * input_size_;
  require(samples, "Predictor: x has shape ", x);
  const bool result = shape.size() > 0 && *shape.begin() == N &&
                      elements_of({shape.begin() + 1, shape.size() - 1}, 0) == output_size_;
  require(result, "Predictor: a result of shape ", shape, " for x ", x);
}

void bind_program(py::module_& m) {
  using P = BoundProgram;
  def(m, "conv_adds(like, w, conv_param)", &conv_adds);
  py::class_<P> program(m, "Program");
  program
      .def(py::init<const py::dtype&, const Values&, Index, Index, Index>(),
           Signature("(dtype, values, input_size, output_size, arena)"))
      .def("run", &P::run, Signature("(x, shape)"))
      .def("run_bytes", &P::run_bytes, Signature("(x, mean, std, shape)"))
      .def("profile", &P::profile, Signature("(x, shape, repeats)"))
      .def_property_readonly("packed_bytes", [](const P& p) { return p.weight_bytes(); });
  bind_weighted_steps(program);
  bind_image_layers(program);
  bind_elementwise_steps(program);
  bind_byte_steps(program);
}

}  // namespace cnnlib
