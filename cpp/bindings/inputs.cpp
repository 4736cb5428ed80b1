#include <cstring>

#include "arrays.hpp"

namespace cnnlib {
namespace {

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

}  // namespace

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
