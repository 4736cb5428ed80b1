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
#include <vector>

#include "../kernels.hpp"

namespace cnnlib {

namespace py = pybind11;

// Contiguous and of exactly this type: cnnlib._arrays has made it so. A class of its own, because pybind11
// hands an array_t through NumPy's conversion even where there is nothing to convert.
template <class T>
class Array : public py::array_t<T, py::array::c_style> {
 public:
  using py::array_t<T, py::array::c_style>::array_t;
};

}  // namespace cnnlib

template <class T>
struct pybind11::detail::handle_type_name<cnnlib::Array<T>>
    : pybind11::detail::handle_type_name<pybind11::array_t<T, pybind11::array::c_style>> {};

namespace cnnlib {

template <class T>
using MaybeArray = std::optional<Array<T>>;

// A shape that stands elsewhere: in a list, a vector or an array.
class ShapeView {
 public:
  ShapeView(const Index* sizes, Index ndim) : begin_(sizes), end_(sizes + ndim) {}
  ShapeView(std::initializer_list<Index> sizes) : ShapeView(std::data(sizes), Index(sizes.size())) {}
  ShapeView(const std::vector<Index>& sizes) : ShapeView(sizes.data(), Index(sizes.size())) {}
  ShapeView(const py::array& array) : ShapeView(array.shape(), array.ndim()) {}
  const Index* begin() const { return begin_; }
  const Index* end() const { return end_; }
  Index size() const { return end_ - begin_; }

 private:
  const Index *begin_, *end_;
};

// What messages are made of: texts, numbers and shapes.
inline void append(std::string& message, const char* text) { message += text; }
inline void append(std::string& message, const std::string& text) { message += text; }
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
void require_shape(const char* function, const char* argument, const py::array& a, const ShapeView& shape);
// x (N, C, ...) as (N, C, inner), none of them but N empty: what is `wanted` of an argument.
struct ScoresShape {
  Index N, C, inner;
};
ScoresShape scores_shape(const char* function, const char* argument, const char* wanted, const py::array& x);

struct NamedArray {
  const char* name;
  const py::array& array;
};
// Of a value for each of C channels.
void require_channels(const char* function, Index C, std::initializer_list<NamedArray> arrays);

// An unknown name is an error that names `function`.
Activation activation_named(const char* function, const std::string& name);

// The bytes of a result; a size that no array could hold is refused.
Index result_bytes(const char* function, const ShapeView& shape, Index item);

// A new array; from a few pages on its memory is recycled when it dies.
py::array new_array(const char* function, const ShapeView& shape, const py::dtype& dtype);
template <class T>
Array<T> new_array(const char* function, const ShapeView& shape) {
  return py::reinterpret_steal<Array<T>>(new_array(function, shape, py::dtype::of<T>()).release());
}

// The caller's buffer when it fits, else a new array, and its memory.
template <class T>
struct Result {
  Array<T> array;
  T* data;

  Result(const char* function, const ShapeView& shape, const MaybeArray<T>& out = std::nullopt)
      : array(out ? (require_shape(function, "out", *out, shape), *out) : new_array<T>(function, shape)),
        data(array.mutable_data()) {}
};

template <class T>
const T* data_or_null(const MaybeArray<T>& a) {
  return a ? a->data() : nullptr;
}

template <class T>
T* mutable_or_null(MaybeArray<T>& a) {
  return a ? a->mutable_data() : nullptr;
}

// A new array where it is needed.
template <class T>
MaybeArray<T> array_if(bool needed, const char* function, const ShapeView& shape) {
  return needed ? MaybeArray<T>(new_array<T>(function, shape)) : std::nullopt;
}

using Needs = std::array<bool, 3>;  // whether dx, dw and db are wanted

// The gradients of a layer's x, w and b, each none unless it is wanted.
template <class T>
struct Gradients {
  MaybeArray<T> dx, dw, db;
  T *dx_data, *dw_data, *db_data;

  Gradients(const char* function, const ShapeView& x, const ShapeView& w, Index b, const Needs& needs)
      : dx(array_if<T>(needs[0], function, x)),
        dw(array_if<T>(needs[1], function, w)),
        db(array_if<T>(needs[2], function, {b})),
        dx_data(mutable_or_null(dx)),
        dw_data(mutable_or_null(dw)),
        db_data(mutable_or_null(db)) {}
};

// Runs a kernel of so many products without the interpreter's lock, unless it ends before another thread
// would have got far with it. Sizes are read before: another thread may meanwhile give an array another
// shape. RuntimeWarning where the system started no more threads.
void unlocked(void (*kernel)(const void* data), const void* data, double products);
template <class F>
void unlocked(const F& kernel, double products = HUGE_VAL) {
  unlocked([](const void* f) { (*static_cast<const F*>(f))(); }, &kernel, products);
}

// A new array, or the caller's buffer, that kernel(its memory) fills.
template <class T, class Kernel>
py::array computed(const char* function, const ShapeView& shape, const MaybeArray<T>& buffer,
                   const Kernel& kernel, double products = HUGE_VAL) {
  const Result<T> out(function, shape, buffer);
  unlocked([&] { kernel(out.data); }, products);
  return out.array;
}
template <class T, class Kernel>
py::array computed(const char* function, const ShapeView& shape, const Kernel& kernel,
                   double products = HUGE_VAL) {
  return computed<T>(function, shape, MaybeArray<T>(), kernel, products);
}

// The one dtype, float32 or float64, of `count` arrays that the kernels can take as they are; null where any
// of them needs a look at its type, dtype, strides or alignment.
PyObject* ready_dtype(const py::handle* arrays, Index count);

// An array that is taken as it is.
inline py::arg fixed(const char* name) { return py::arg(name).noconvert(); }

[[gnu::cold]] void bind_inputs(py::module_& m);
[[gnu::cold]] void bind_threads(py::module_& m);

// One family of layers each: adds the overloads for T to the module. What runs once is compiled for size.
template <class T>
[[gnu::cold]] void bind_conv(py::module_& m);
[[gnu::cold]] void bind_conv_algorithm(py::module_& m);
[[gnu::cold]] void bind_ready_conv(py::module_& m);
template <class T>
[[gnu::cold]] void bind_prepared_conv(py::module_& m, const char* name);
template <class T>
[[gnu::cold]] void bind_program(py::module_& m, const char* name);
template <class T>
[[gnu::cold]] void bind_training(py::module_& m, const char* name, const char* batch_name);
template <class T>
[[gnu::cold]] void bind_pool(py::module_& m);
template <class T>
[[gnu::cold]] void bind_norm(py::module_& m);
template <class T>
[[gnu::cold]] void bind_dense(py::module_& m);
template <class T>
[[gnu::cold]] void bind_losses(py::module_& m);
template <class T>
[[gnu::cold]] void bind_activations(py::module_& m);
template <class T>
[[gnu::cold]] void bind_update(py::module_& m);

}  // namespace cnnlib
