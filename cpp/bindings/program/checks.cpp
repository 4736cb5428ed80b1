#include "checks.hpp"

namespace cnnlib {
namespace {

constexpr Index most_elements = PTRDIFF_MAX / 256;  // sums and bytes of sizes up to this do not overflow

void require_value(bool condition, int value, const char* what) {
  require(condition, [&] { return "prepare: value " + std::to_string(value) + " " + what; });
}

}  // namespace

Index elements_of(const ShapeView& shape, Index least) {
  Index size = 1;
  for (const Index n : shape)
    if (n < least || __builtin_mul_overflow(size, n, &size) || size > most_elements) return -1;
  return size;
}

void check_values(const std::vector<Value>& values, Index input_size, Index output_size, Index arena) {
  for (const Index size : {input_size, output_size, arena})
    require(size >= 0 && size <= most_elements,
            [&] { return "prepare: values of " + std::to_string(size) + " elements"; });
  int number = 0;
  for (const Value& v : values) {
    const bool inside = v.place == Value::Place::arena
                            ? v.size >= 0 && v.offset >= 0 && v.size <= arena && v.offset <= arena - v.size
                        : v.place == Value::Place::input  ? v.size == input_size
                        : v.place == Value::Place::output ? v.size == output_size
                                                          : false;
    require_value(inside, number++, "does not lie inside of its place");
  }
}

Index size_of(const std::vector<Value>& values, int value) {
  require_value(value >= 0 && static_cast<std::size_t>(value) < values.size(), value, "does not exist");
  return values[static_cast<std::size_t>(value)].size;
}

void check_read(const std::vector<Value>& values, int value, const ShapeView& shape) {
  const Index size = size_of(values, value);
  require(size == elements_of(shape), [&] {
    return "prepare: a step takes a value of " + std::to_string(size) + " elements for one of shape " +
           text(shape);
  });
}

void check_written(const std::vector<Value>& values, int value, const ShapeView& shape) {
  check_read(values, value, shape);
  require_value(values[static_cast<std::size_t>(value)].place != Value::Place::input, value,
                "is the caller's, and not written to");
}

void check_samples(const py::array& x, Index input_size, const ShapeView& shape, Index output_size) {
  const Index N = x.ndim() > 0 ? x.shape(0) : -1;
  const bool samples =
      N >= 0 && N <= most_elements / std::max<Index>(1, input_size) && x.size() == N * input_size;
  require(samples, [&] { return "Predictor: x has shape " + text(x); });
  const bool result = shape.size() > 0 && *shape.begin() == N &&
                      elements_of({shape.begin() + 1, shape.size() - 1}, 0) == output_size;
  require(result, [&] { return "Predictor: a result of shape " + text(shape) + " for x " + text(x); });
}

}  // namespace cnnlib
