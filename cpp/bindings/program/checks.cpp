#include "checks.hpp"

namespace cnnlib {
namespace {

constexpr Index most_elements = PTRDIFF_MAX / 256;  // sums and bytes of sizes up to this do not overflow

void require_value(bool condition, int value, const char* what) {
  require(condition, "prepare: value ", value, " ", what);
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

ProgramValues::ProgramValues(const std::vector<std::tuple<int, Index, Index>>& values, Index input_size,
                             Index output_size, Index arena) {
  for (const Index size : {input_size, output_size, arena})
    require(size >= 0 && size <= most_elements, "prepare: values of ", size, " elements");
  for (const auto& [number, size, offset] : values) {
    const auto place = static_cast<Value::Place>(number);
    const bool inside = place == Value::Place::arena
                            ? size >= 0 && offset >= 0 && size <= arena && offset <= arena - size
                        : place == Value::Place::input  ? size == input_size
                        : place == Value::Place::output ? size == output_size
                                                        : false;
    require_value(inside, static_cast<int>(values_.size()), "does not lie inside of its place");
    values_.push_back({place, size, offset});
  }
}

Index ProgramValues::size_of(int value) const {
  require_value(value >= 0 && static_cast<std::size_t>(value) < values_.size(), value, "does not exist");
  return values_[static_cast<std::size_t>(value)].size;
}

void ProgramValues::reads(int input, const ShapeView& shape) const {
  const Index size = size_of(input);
  require(size == elements_of(shape), "prepare: a step takes a value of ", size,
          " elements for one of shape ", shape);
}

void ProgramValues::writes(int output, const ShapeView& shape) const {
  reads(output, shape);
  require_value(values_[static_cast<std::size_t>(output)].place != Value::Place::input, output,
                "is the caller's, and not written to");
}

void check_samples(const py::array& x, Index input_size, const ShapeView& shape, Index output_size) {
  const Index N = x.ndim() > 0 ? x.shape(0) : -1;
  const bool samples =
      N >= 0 && N <= most_elements / std::max<Index>(1, input_size) && x.size() == N * input_size;
  require(samples, "Predictor: x has shape ", x);
  const bool result = shape.size() > 0 && *shape.begin() == N &&
                      elements_of({shape.begin() + 1, shape.size() - 1}, 0) == output_size;
  require(result, "Predictor: a result of shape ", shape, " for x ", x);
}

}  // namespace cnnlib
