#include "arrays.hpp"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <stdexcept>
#include <thread>

#include "../memory/buffers.hpp"
#include "../threads/parallel.hpp"
#include "../threads/team.hpp"

void pybind11::detail::process_attribute<cnnlib::Signature>::init(const cnnlib::Signature& signature,
                                                                  function_record* record) {
  append_self_arg_if_needed(record);
  for (const auto& [name, value] : signature.arguments)
    record->args.emplace_back(name.c_str(), nullptr, handle(value).inc_ref(), /*convert=*/true,
                              /*none=*/true);
  if (record->args.size() != record->nargs_pos)
    throw std::logic_error(signature.name + " has another number of arguments");
}

namespace cnnlib {
namespace {

// An array of NumPy's own memory. (pybind11's constructor copies the shape and works out strides, which in a
// small convolution shows.)
py::array numpys_array(const ShapeView& shape, py::dtype dtype) {
  const auto& numpy = py::detail::npy_api::get();
  PyObject* array =
      numpy.PyArray_NewFromDescr_(numpy.PyArray_Type_, dtype.release().ptr(), static_cast<int>(shape.size()),
                                  shape.begin(), nullptr, nullptr, 0, nullptr);
  if (array == nullptr) throw py::error_already_set();
  return py::reinterpret_steal<py::array>(array);
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

// `names` are those of the last arrays; the one named b, a bias, may be None.
py::object named_ready_dtype(const py::tuple& names, const py::tuple& arrays) {
  const Py_ssize_t count = PyTuple_GET_SIZE(arrays.ptr()), unnamed = count - PyTuple_GET_SIZE(names.ptr());
  constexpr Py_ssize_t most = 16;
  py::handle present[most];
  Index n = 0;
  if (count > most) return py::none();
  for (Py_ssize_t i = 0; i < count; ++i) {
    PyObject* item = PyTuple_GET_ITEM(arrays.ptr(), i);
    if (item == Py_None && i > 0 && i >= unnamed &&
        PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names.ptr(), i - unnamed), "b") == 0)
      continue;
    present[n++] = item;
  }
  PyObject* dtype = ready_dtype(present, n);
  return dtype != nullptr ? py::reinterpret_borrow<py::object>(dtype) : py::none();
}

py::array new_array_of_numbers(Text function, const std::vector<Index>& shape, const py::dtype& dtype) {
  if (std::strchr("fiub", dtype.kind()) == nullptr)  // what is not written would be no object
    throw py::type_error(message_of(function, ": expected a dtype of numbers"));
  return new_array(function, shape, dtype);
}

void warn_of_thread_shortage(int started) {
  const std::string text =
      message_of("cnnlib: the system refuses to start more threads; kernels go on with ", started,
                 ". A limit on processes (ulimit -u, a container's pids limit) is the usual reason");
  if (PyErr_WarnEx(PyExc_RuntimeWarning, text.c_str(), 1) != 0) throw py::error_already_set();
}

}  // namespace

Signature::Signature(std::string_view text) : name(text.substr(0, text.find('('))) {
  for (std::size_t at = name.size() + 1, end; at + 1 < text.size(); at = end + 2) {
    end = text.find_first_of(",)", at);
    const std::string_view argument = text.substr(at, end - at);
    const std::size_t equals = std::min(argument.find('='), argument.size());
    py::object value;
    if (equals < argument.size())
      value = argument[equals + 1] == 'N' ? py::object(py::none()) : py::bool_(false);
    arguments.push_back({std::string(argument.substr(0, equals)), value});
  }
}

void append(std::string& message, const ShapeView& shape) {
  message += "(";
  for (const Index& n : shape) message += (&n > shape.begin() ? ", " : "") + std::to_string(n);
  message += shape.size() == 1 ? ",)" : ")";
}

void require_shape(Text function, const char* argument, const py::array& a, const ShapeView& shape) {
  const ShapeView own = a;
  require(std::equal(own.begin(), own.end(), shape.begin(), shape.end()), function, ": ", argument,
          " must have shape ", shape, ", got ", a);
}

ScoresShape scores_shape(Text function, const char* argument, const char* wanted, const py::array& x) {
  const bool filled =
      x.ndim() >= 2 && std::all_of(x.shape() + 1, x.shape() + x.ndim(), [](Index n) { return n > 0; });
  require(filled, function, ": ", argument, " must be ", wanted, ", got shape ", x);
  ScoresShape s{x.shape(0), x.shape(1), 1};
  for (Index axis = 2; axis < x.ndim(); ++axis) s.inner *= x.shape(axis);
  return s;
}

void require_shapes(Text function, const ShapeView& shape, std::initializer_list<NamedArray> arrays) {
  for (const NamedArray& a : arrays) require_shape(function, a.name, a.array, shape);
}

Index result_bytes(Text function, const ShapeView& shape, Index item) {
  constexpr Index most = PTRDIFF_MAX / 16;
  Index bytes = item;
  bool fits = true;
  for (const Index n : shape) fits = fits && !__builtin_mul_overflow(bytes, n, &bytes);
  require(fits && bytes <= most, function, ": a result of shape ", shape, " is too large");
  return bytes;
}

py::array new_array(Text function, const ShapeView& shape, const py::dtype& dtype) {
  constexpr Index recycled_bytes = 1 << 16;
  const Index bytes = result_bytes(function, shape, dtype.itemsize());
  if (bytes < recycled_bytes) return numpys_array(shape, dtype);
  void* buffer = nullptr;
  try {
    buffer = acquire_buffer(static_cast<std::size_t>(bytes));
  } catch (const std::bad_alloc&) {
    PyErr_SetString(PyExc_MemoryError,
                    message_of(function, ": no memory for a result of shape ", shape).c_str());
    throw py::error_already_set();
  }
  const py::capsule owner(buffer, [](void* p) { release_buffer(p); });
  return {dtype, py::array::ShapeContainer(shape.begin(), shape.end()), buffer, owner};
}

py::dtype dtype_of(bool single) { return single ? py::dtype::of<float>() : py::dtype::of<double>(); }

bool is_single(Text function, const py::dtype& dtype) {
  const bool single = dtype.equal(dtype_of(true));
  if (!single && !dtype.equal(dtype_of(false)))
    throw py::type_error(message_of(function, ": dtype must be float32 or float64"));
  return single;
}

Floats new_array(Text function, const ShapeView& shape, bool single) {
  return py::reinterpret_steal<Floats>(new_array(function, shape, dtype_of(single)).release());
}

FloatsResult::FloatsResult(Text function, const ShapeView& shape, const Floats& like,
                           const MaybeFloats& out) {
  if (out) require_shape(function, "out", *out, shape);
  Floats array = out ? *out : new_array(function, shape, like.single());
  static_cast<Out&>(*this) = array.mutable_data();
  static_cast<py::object&>(*this) = std::move(array);
}

void unlocked(void (*kernel)(const void* data), const void* data, double products) {
  constexpr double few = 100e3;
  std::optional<Unlocked> release;
  if (products > few) release.emplace();
  {
    const CallThreads threads;
    kernel(data);
  }
  release.reset();
  if (const int started = take_thread_shortage(); started > 0) warn_of_thread_shortage(started);
}

PyObject* ready_dtype(const py::handle* arrays, Index count) {
  using namespace py::detail;
  const npy_api& numpy = npy_api::get();
  constexpr int in_order = npy_api::NPY_ARRAY_C_CONTIGUOUS_ | npy_api::NPY_ARRAY_ALIGNED_;
  PyObject* dtype = nullptr;
  for (Index i = 0; i < count; ++i) {
    if (Py_TYPE(arrays[i].ptr()) != numpy.PyArray_Type_) return nullptr;
    const PyArray_Proxy* array = array_proxy(arrays[i].ptr());
    if ((array->flags & in_order) != in_order) return nullptr;
    if (i == 0) dtype = array->descr;
    if (array->descr != dtype) return nullptr;
  }
  static const PyObject* const supported[] = {py::dtype::of<float>().release().ptr(),
                                              py::dtype::of<double>().release().ptr()};
  return dtype == supported[0] || dtype == supported[1] ? dtype : nullptr;
}

void bind_inputs(py::module_& m) {
  def(m, "ready_dtype(names, arrays)", &named_ready_dtype);
  def(m, "new_array(function, shape, dtype)", &new_array_of_numbers);
}

}  // namespace cnnlib
