// What every binding does: check, view, allocate, unlock, call.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <cmath>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "../numbers.hpp"

namespace cnnlib {

namespace py = pybind11;

// Contiguous and of exactly this type: cnnlib._params.arrays has made it so. A class of its own, because
// pybind11 hands an array_t through NumPy's conversion even where there is nothing to convert.
template <class T>
class Array : public py::array_t<T, py::array::c_style> {
 public:
  using py::array_t<T, py::array::c_style>::array_t;
  operator const T*() const { return this->data(); }
};
template <class T>
using MaybeArray = std::optional<Array<T>>;

// An array of float32 or of float64, otherwise as Array: a function is bound once for both (`def`), and all
// such arguments of a call have one dtype.
class Floats : public py::array {
 public:
  Floats(py::handle array, borrowed_t) : py::array(array, borrowed_t{}) {}
  Floats(py::handle array, stolen_t) : py::array(array, stolen_t{}) {}
  static bool check_(py::handle h) {
    return py::isinstance<Array<float>>(h) || py::isinstance<Array<double>>(h);
  }

  bool single() const { return itemsize() == sizeof(float); }
  operator In() const { return data(); }
  template <class T, class = std::enable_if_t<std::is_floating_point_v<T>>>
  operator const T*() const {
    return In(*this);
  }
  Out mutable_data() { return py::array::mutable_data(); }
};

// None is null for a kernel.
struct MaybeFloats : std::optional<Floats> {
  using std::optional<Floats>::optional;
  operator In() const { return *this ? In(**this) : In(); }
  template <class T>
  operator const T*() const {
    return In(*this);
  }
};

// A string, as long as the caller holds it. A class of its own, because pybind11 notes down what a
// string_view is of, which in a small call shows.
struct Text : std::string_view {
  using std::string_view::string_view;
};

// A function's name and arguments as Python writes them, with no other defaults than None and False:
// "relu_forward(x, out=None)". It is one of pybind11's attributes: py::arg, one for each argument, would be
// compiled anew for each function.
struct Signature {
  struct Argument {
    std::string name;
    py::object value;  // null where there is no default
  };
  std::string name;
  std::vector<Argument> arguments;

  explicit Signature(std::string_view text);
};

}  // namespace cnnlib

namespace pybind11::detail {

template <class T>
struct handle_type_name<cnnlib::Array<T>> {
  static constexpr auto name =
      const_name("numpy.typing.NDArray[") + npy_format_descriptor<T>::name + const_name("]");
};
template <>
struct handle_type_name<cnnlib::Floats> {
  static constexpr auto name = const_name("numpy.typing.NDArray[float32 | float64]");
};
template <>
struct type_caster<cnnlib::Text> {
  PYBIND11_TYPE_CASTER(cnnlib::Text, const_name("str"));
  bool load(handle source, bool) {
    Py_ssize_t size = 0;
    const char* text = PyUnicode_Check(source.ptr()) ? PyUnicode_AsUTF8AndSize(source.ptr(), &size) : nullptr;
    if (text != nullptr)
      value = {text, static_cast<std::size_t>(size)};
    else
      PyErr_Clear();
    return text != nullptr;
  }
};
template <>
struct type_caster<cnnlib::MaybeFloats> : optional_caster<cnnlib::MaybeFloats> {};
template <>
struct process_attribute<cnnlib::Signature> : process_attribute_default<cnnlib::Signature> {
  static void init(const cnnlib::Signature& signature, function_record* record);
};

}  // namespace pybind11::detail

namespace cnnlib {

// A shape that stands elsewhere: in a list, a vector or an array.
class ShapeView {
 public:
  ShapeView(const Index* sizes, Index ndim) : begin_(sizes), end_(sizes + ndim) {}
  ShapeView(std::initializer_list<Index> sizes) : ShapeView(std::data(sizes), Index(sizes.size())) {}
  ShapeView(const std::vector<Index>& sizes) : ShapeView(sizes.data(), Index(sizes.size())) {}
  template <std::size_t ndim>
  ShapeView(const std::array<Index, ndim>& sizes) : ShapeView(sizes.data(), Index(ndim)) {}
  ShapeView(const py::array& array) : ShapeView(array.shape(), array.ndim()) {}
  const Index* begin() const { return begin_; }
  const Index* end() const { return end_; }
  Index size() const { return end_ - begin_; }

 private:
  const Index *begin_, *end_;
};

// What messages are made of: texts, numbers and shapes.
inline void append(std::string& message, std::string_view text) { message += text; }
inline void append(std::string& message, Index number) { message += std::to_string(number); }
void append(std::string& message, const ShapeView& shape);

template <class... Parts>
std::string message_of(const Parts&... parts) {
  std::string message;
  (append(message, parts), ...);
  return message;
}
template <class... Parts>
[[noreturn, gnu::cold, gnu::noinline]] void refuse(const Parts&... parts) {
  throw py::value_error(message_of(parts...));
}
template <class... Parts>  // the text is made on failure only
void require(bool condition, const Parts&... parts) {
  if (!condition) refuse(parts...);
}
void require_shape(Text function, const char* argument, const py::array& a, const ShapeView& shape);
// x (N, C, ...) as (N, C, inner), none of them but N empty: what is `wanted` of an argument.
struct ScoresShape {
  Index N, C, inner;
};
ScoresShape scores_shape(Text function, const char* argument, const char* wanted, const py::array& x);

struct NamedArray {
  const char* name;
  const py::array& array;
};
void require_shapes(Text function, const ShapeView& shape, std::initializer_list<NamedArray> arrays);

// The bytes of a result; a size that no array could hold is refused.
Index result_bytes(Text function, const ShapeView& shape, Index item);

py::dtype dtype_of(bool single);
// Whether it is float32; TypeError unless it is that or float64.
bool is_single(Text function, const py::dtype& dtype);

// A new array; from a few pages on its memory is recycled when it dies.
py::array new_array(Text function, const ShapeView& shape, const py::dtype& dtype);
Floats new_array(Text function, const ShapeView& shape, bool single);

// A new array, and its memory.
template <class T>
struct Result : Array<T> {
  Result(Text function, const ShapeView& shape)
      : Array<T>(new_array(function, shape, py::dtype::of<T>()).release(), py::object::stolen_t{}),
        memory(this->mutable_data()) {}
  operator T*() const { return memory; }
  T* memory;
};

// The caller's buffer when it fits, else a new array of the dtype of `like`, and its memory; None, and null,
// unless it is needed.
struct FloatsResult : py::object, Out {
  FloatsResult(Text function, const ShapeView& shape, const Floats& like, const MaybeFloats& out = {});
  FloatsResult(Text function, const ShapeView& shape, const Floats& like, bool needed)
      : py::object(py::none()) {
    if (needed) *this = FloatsResult(function, shape, like);
  }
};

using Needs = std::array<bool, 3>;  // whether dx, dw and db are wanted

// The gradients of a layer's x, w and b, each none unless it is wanted.
struct Gradients {
  FloatsResult dx, dw, db;

  Gradients(Text function, const Floats& like, const ShapeView& x, const ShapeView& w, Index b,
            const Needs& needs)
      : dx(function, x, like, needs[0]), dw(function, w, like, needs[1]), db(function, {b}, like, needs[2]) {}
};

// Runs a kernel of so many products without the interpreter's lock, unless it ends before another thread
// would have got far with it. Sizes are read before: another thread may meanwhile give an array another
// shape. RuntimeWarning where the system started no more threads.
void unlocked(void (*kernel)(const void* data), const void* data, double products);
template <class F>
void unlocked(const F& kernel, double products = HUGE_VAL) {
  unlocked([](const void* f) { (*static_cast<const F*>(f))(); }, &kernel, products);
}

// body(k) alike, with the kernels for the dtype of `like`.
template <class Body>
void unlocked(const Floats& like, const Body& body, double products = HUGE_VAL) {
  unlocked([&body, kernels = AnyKernels(like.single())] { kernels(body); }, products);
}

// A new array of the dtype of `like`, or the caller's buffer, that kernel(k, its memory) fills.
template <class Kernel>
py::object computed(Text function, const ShapeView& shape, const Floats& like, const MaybeFloats& buffer,
                    const Kernel& kernel, double products = HUGE_VAL) {
  const FloatsResult out(function, shape, like, buffer);
  unlocked(like, [&](const auto& k) { kernel(k, out); }, products);
  return out;
}
template <class Kernel>
py::object computed(Text function, const Floats& like, const Kernel& kernel) {
  return computed(function, like, like, {}, kernel);
}

// The one dtype, float32 or float64, of `count` arrays that the kernels can take as they are; null where any
// of them needs a look at its type, dtype, strides or alignment.
PyObject* ready_dtype(const py::handle* arrays, Index count);

// The size of the numbers of what has a dtype; 0 of anything else.
template <class A>
Index float_size(const A&) {
  return 0;
}
inline Index float_size(const Floats& a) { return a.itemsize(); }
inline Index float_size(const MaybeFloats& a) { return a ? a->itemsize() : 0; }

// Refuses arguments of two dtypes in the way of those that no overload fits.
template <class... Args>
void require_one_dtype(const Args&... args) {
  constexpr Index both = sizeof(float) | sizeof(double);
  if ((Index{0} | ... | float_size(args)) == both) throw py::reference_cast_error();
}

// Adds a function to a module or a class, where what has a dtype among its arguments has to be of one.
template <class To, class R, class... Args>
void def(To& to, const char* text, R (*function)(Args...)) {
  const Signature signature(text);
  to.def(
      signature.name.c_str(),
      [function](Args... args) {
        require_one_dtype(args...);
        return function(std::forward<Args>(args)...);
      },
      signature);
}

[[gnu::cold]] void bind_inputs(py::module_& m);

// One family of layers each. What runs once is compiled for size.
[[gnu::cold]] void bind_conv(py::module_& m);
[[gnu::cold]] void bind_program(py::module_& m);
[[gnu::cold]] void bind_training(py::module_& m);
[[gnu::cold]] void bind_images(py::module_& m);
template <class Program>  // for prediction or for training
[[gnu::cold]] void bind_image_layers(py::class_<Program>& program);
[[gnu::cold]] void bind_norm(py::module_& m);
// momentum * running + (1 - momentum) * statistic, each (C,): batch norm's running mean or variance.
py::object moved_statistic(const Floats& running, const double* statistic, double momentum);
[[gnu::cold]] void bind_attention(py::module_& m);
[[gnu::cold]] void bind_dense(py::module_& m);
[[gnu::cold]] void bind_losses(py::module_& m);
[[gnu::cold]] void bind_update(py::module_& m);

}  // namespace cnnlib
