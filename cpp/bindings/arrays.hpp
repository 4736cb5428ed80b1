// What every binding does: check, view, allocate, unlock, call.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <chrono>
#include <cmath>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "../kernels.hpp"
#include "../memory/buffers.hpp"
#include "../threads/parallel.hpp"
#include "../threads/team.hpp"

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

inline std::string text(const std::vector<Index>& shape) {
  std::string s = "(";
  for (std::size_t i = 0; i < shape.size(); ++i) s += (i > 0 ? ", " : "") + std::to_string(shape[i]);
  return s + (shape.size() == 1 ? ",)" : ")");
}

inline std::vector<Index> shape_of(const py::array& a) { return {a.shape(), a.shape() + a.ndim()}; }
inline std::string text(const py::array& a) { return text(shape_of(a)); }

template <class Message>  // a function that makes the text, called only on failure
inline void require(bool condition, const Message& message) {
  if (!condition) throw py::value_error(message());
}

inline void require_shape(const char* function, const char* argument, const py::array& a,
                          const std::vector<Index>& shape) {
  const bool same =
      a.ndim() == static_cast<Index>(shape.size()) && std::equal(shape.begin(), shape.end(), a.shape());
  require(same, [&] {
    return std::string(function) + ": " + argument + " must have shape " + text(shape) + ", got " + text(a);
  });
}

// The number of elements of a result, refused where no array could hold them.
template <class T>
Index result_size(const char* function, const std::vector<Index>& shape) {
  Index size = 1;
  bool fits = true;
  for (Index n : shape) fits = fits && !__builtin_mul_overflow(size, n, &size);
  fits = fits && size <= PTRDIFF_MAX / 16 / static_cast<Index>(sizeof(T));
  require(fits,
          [&] { return std::string(function) + ": a result of shape " + text(shape) + " is too large"; });
  return size;
}

// A new array of NumPy's own memory. (pybind11's constructor copies the shape and works out strides, which in
// a small convolution shows.)
template <class T>
Array<T> numpys_array(const std::vector<Index>& shape) {
  const auto& numpy = py::detail::npy_api::get();
  PyObject* array =
      numpy.PyArray_NewFromDescr_(numpy.PyArray_Type_, py::dtype::of<T>().release().ptr(),
                                  static_cast<int>(shape.size()), shape.data(), nullptr, nullptr, 0, nullptr);
  if (array == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<Array<T>>(array);
}

// A new array; from a few pages on its memory is recycled when it dies.
template <class T>
Array<T> new_array(const char* function, const std::vector<Index>& shape) {
  constexpr Index recycled_bytes = 1 << 16;
  const Index bytes = result_size<T>(function, shape) * static_cast<Index>(sizeof(T));
  if (bytes < recycled_bytes) return numpys_array<T>(shape);
  void* buffer = nullptr;
  try {
    buffer = acquire_buffer(static_cast<std::size_t>(bytes));
  } catch (const std::bad_alloc&) {
    PyErr_SetString(PyExc_MemoryError,
                    (std::string(function) + ": no memory for a result of shape " + text(shape)).c_str());
    throw py::error_already_set();
  }
  py::capsule owner(buffer, [](void* p) { release_buffer(p); });
  return Array<T>(shape, static_cast<T*>(buffer), owner);
}

// The caller's buffer when it fits, else a new array.
template <class T>
Array<T> result_array(const char* function, const std::vector<Index>& shape, const MaybeArray<T>& out) {
  if (!out) return new_array<T>(function, shape);
  require_shape(function, "out", *out, shape);
  return *out;
}

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
MaybeArray<T> array_if(bool needed, const char* function, const std::vector<Index>& shape) {
  return needed ? MaybeArray<T>(new_array<T>(function, shape)) : std::nullopt;
}

// The interpreter's lock is released while one exists. Where the interpreter ends meanwhile, taking the lock
// again ends the thread, by unwinding its stack (until Python 3.13): through objects that must not be touched
// without the lock, and destructors that must not be unwound. The thread stops here instead, for good, as
// from Python 3.14 on.
class Unlocked {
 public:
  Unlocked() : state_(PyEval_SaveThread()) {}
  ~Unlocked() {
    try {
      PyEval_RestoreThread(state_);
    } catch (...) {  // only the unwinding comes here, and may not be left
      while (true) std::this_thread::sleep_for(std::chrono::hours(1));
    }
  }
  Unlocked(const Unlocked&) = delete;
  Unlocked& operator=(const Unlocked&) = delete;

 private:
  PyThreadState* state_;
};

// RuntimeWarning: the system started no more threads.
void warn_of_thread_shortage(int started);

// Runs a kernel of so many products without the interpreter's lock, unless it ends before another thread
// would have got far with it. Sizes are read before: another thread may meanwhile give an array another
// shape.
template <class F>
void unlocked(F&& kernel, double products = HUGE_VAL) {
  constexpr double few = 100e3;
  std::optional<Unlocked> release;
  if (products > few) release.emplace();
  {
    const CallThreads threads;
    kernel();
  }
  release.reset();
  if (const int started = take_thread_shortage(); started > 0) warn_of_thread_shortage(started);
}

// The one dtype, float32 or float64, of `count` arrays that the kernels can take as they are; null where any
// of them needs a look at its type, dtype, strides or alignment.
PyObject* ready_dtype(const py::handle* arrays, Index count);

void bind_inputs(py::module_& m);
void bind_threads(py::module_& m);

// One family of layers each: adds the overloads for T to the module.
template <class T>
void bind_conv(py::module_& m);
void bind_conv_algorithm(py::module_& m);
void bind_ready_conv(py::module_& m);
template <class T>
void bind_prepared_conv(py::module_& m, const char* name);
template <class T>
void bind_program(py::module_& m, const char* name);
template <class T>
void bind_training(py::module_& m, const char* name, const char* batch_name);
template <class T>
void bind_pool(py::module_& m);
template <class T>
void bind_resizing(py::module_& m);
template <class T>
void bind_norm(py::module_& m);
template <class T>
void bind_dense(py::module_& m);
template <class T>
void bind_losses(py::module_& m);
template <class T>
void bind_activations(py::module_& m);
template <class T>
void bind_update(py::module_& m);

}  // namespace cnnlib
