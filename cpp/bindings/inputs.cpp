#include "arrays.hpp"

namespace cnnlib {
namespace {

// The one dtype of arrays that the kernels can take as they are; None where any of them needs a look at its
// type, dtype, strides or alignment. `names` are those of the last arrays; the one named b, a bias, may be
// None.
py::object ready_dtype(const py::tuple& names, const py::tuple& arrays) {
  using namespace py::detail;
  const npy_api& numpy = npy_api::get();
  constexpr int in_order = npy_api::NPY_ARRAY_C_CONTIGUOUS_ | npy_api::NPY_ARRAY_ALIGNED_;
  const Py_ssize_t count = PyTuple_GET_SIZE(arrays.ptr()), unnamed = count - PyTuple_GET_SIZE(names.ptr());
  PyObject* dtype = nullptr;
  for (Py_ssize_t i = 0; i < count; ++i) {
    PyObject* item = PyTuple_GET_ITEM(arrays.ptr(), i);
    if (item == Py_None && i > 0 && i >= unnamed &&
        PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names.ptr(), i - unnamed), "b") == 0)
      continue;
    if (Py_TYPE(item) != numpy.PyArray_Type_) return py::none();
    const PyArray_Proxy* array = array_proxy(item);
    if ((array->flags & in_order) != in_order) return py::none();
    if (i == 0) dtype = array->descr;
    if (array->descr != dtype) return py::none();
  }
  static const PyObject* const supported[] = {py::dtype::of<float>().release().ptr(),
                                              py::dtype::of<double>().release().ptr()};
  if (dtype == nullptr || (dtype != supported[0] && dtype != supported[1])) return py::none();
  return py::reinterpret_borrow<py::object>(dtype);
}

}  // namespace

void bind_inputs(py::module_& m) { m.def("ready_dtype", &ready_dtype, py::arg("names"), py::arg("arrays")); }

}  // namespace cnnlib
