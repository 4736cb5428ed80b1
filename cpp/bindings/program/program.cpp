// Networks prepared for inference: cnnlib.inference puts a program's steps together, one call each.
#include "../conv/conv_shape.hpp"
#include "bound_program.hpp"

namespace cnnlib {
namespace {

// Whether the method that a prepared convolution takes can add its result to what lies in the output.
template <class T>
bool conv_adds(const Array<T>& like, const Array<T>& w, const py::object& conv_param) {
  return kernels<T>().prepare_network_conv(conv_shape("prepare", like, w, conv_param), Pass::forward).adds;
}

}  // namespace

template <class T>
void bind_program(py::module_& m, const char* name) {
  using P = BoundProgram<T>;
  const auto x = fixed("x"), shape = py::arg("shape");
  m.def("conv_adds", &conv_adds<T>, fixed("like"), fixed("w"), py::arg("conv_param"));
  py::class_<P> program(m, name);
  program
      .def(py::init<const std::vector<std::tuple<int, Index, Index>>&, Index, Index, Index>(),
           py::arg("values"), py::arg("input_size"), py::arg("output_size"), py::arg("arena"))
      .def("run", &P::run, x, shape)
      .def("run_bytes", &P::run_bytes, x, fixed("mean"), fixed("std"), shape)
      .def("profile", &P::profile, x, shape, py::arg("repeats"))
      .def_property_readonly("packed_bytes", &P::packed_bytes);
  bind_weighted_steps<T>(program);
  bind_norm_steps<T>(program);
  bind_image_layers<T>(program);
  bind_elementwise_steps<T>(program);
  if constexpr (std::is_same_v<T, float>) bind_byte_steps(program);
}

template void bind_program<float>(py::module_&, const char*);
template void bind_program<double>(py::module_&, const char*);

}  // namespace cnnlib
